package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// of returns the problems with a link.
func (e *examination) of(link string) []status.Problem {
	return slices.DeleteFunc(slices.Clone(e.wrong), func(p status.Problem) bool { return string(p.Link) != link })
}

// blame adds what the agent met on a link, if anything.
func (e *examination) blame(link string) bool {
	met := e.of(link)
	for _, p := range met {
		e.add(link, Broken, says(p), cure(p))
	}
	return len(met) > 0
}

func says(p status.Problem) string {
	if p.Cause == "" {
		return p.Says
	}
	return p.Says + "\nwhy: " + p.Cause
}

func cure(p status.Problem) string {
	return cmp.Or(p.Cure, "if it does not pass by itself, the log of the pod's container kms-agent, or kms-agent-init, says what came before")
}

func (e *examination) sts() {
	before := len(e.of(Token)) + len(e.of(Provider))
	switch {
	case e.agent == nil:
		e.add(STS, Unneeded, "there is no injected pod", "")
	case e.blame(STS):
	case before > 0:
		e.add(STS, Unneeded, "refuses for the reason above", "")
	case e.waits(STS):
	case !e.asked:
		e.add(STS, Unseen, e.silent.Error(), "")
	case e.verdict.Spec.Identity.Kind == config.ClientKey:
		e.add(STS, Unneeded, "a client key needs none", "")
	default:
		e.add(STS, Good, "gives the pod its session", "")
	}
}

func (e *examination) kms() {
	refused := slices.ContainsFunc(e.wrong, func(p status.Problem) bool {
		return p.Link == status.Token || p.Link == status.Provider || p.Link == status.STS
	})
	for _, name := range e.secrets() {
		c := Check{Link: KMS, Secret: name, State: Good, Says: "gives " + name}
		met := slices.IndexFunc(e.wrong, func(p status.Problem) bool { return p.Link == status.KMS && p.Secret == name })
		switch {
		case met >= 0:
			c.State, c.Says, c.Cure = Broken, says(e.wrong[met]), cure(e.wrong[met])
		case e.agent == nil:
			c.State, c.Says = Unneeded, name+": there is no injected pod"
		case refused:
			c.State, c.Says = Unneeded, name+": not asked for, without a session"
		case e.stuck && !e.asked:
			c.State, c.Says = Unneeded, name+": not asked for: the agent does not run"
		case !e.asked:
			c.State, c.Says = Unseen, name+": the agent does not say, as above"
		case len(e.of(KMS)) > 0 && !slices.Contains(e.held.Asked, name):
			c.State, c.Says = Unseen, name+": not asked for, since "+cmp.Or(e.of(KMS)[0].Secret, "another")+" failed"+e.holds(name)
		}
		e.Checks = append(e.Checks, c)
	}
	for _, p := range e.of(KMS) {
		if !slices.Contains(e.secrets(), p.Secret) {
			e.add(KMS, Broken, says(p), cure(p))
		}
	}
}

// holds says which version the files have of a secret.
func (e *examination) holds(name string) string {
	for _, s := range e.held.Secrets {
		if s.Name == name && s.Version != "" {
			return " (the files have " + s.Version + ")"
		}
	}
	return ""
}

// waits says of a link that it has no part in this yet, if the agent could not start.
func (e *examination) waits(link string) bool {
	if e.stuck && !e.asked {
		e.add(link, Unneeded, "the agent does not run", "")
		return true
	}
	return false
}

func (e *examination) files(now time.Time) {
	age := max(0, now.Sub(e.held.Fetched)).Round(time.Second)
	last := e.unwritten()
	more := ""
	for _, w := range e.held.Warnings {
		more += "\nwarning: " + w
	}
	if f := e.held.LastError; f != nil && len(f.Causes) > 0 {
		more = fmt.Sprintf("; the last refresh failed %s ago: %s", check.Since(f.At, now), says(f.Causes[0])) + more
	}
	switch {
	case e.agent == nil:
		e.add(Files, Unneeded, "there is no injected pod", "")
	case e.blame(Files):
	case len(e.secrets()) == 0:
		e.add(Files, Unneeded, "the pod has none: the API fetches what it is asked for", "")
	case e.waits(Files):
	case !e.asked:
		e.add(Files, Unseen, "the agent does not say, as above", "")
	case last != nil:
		e.add(Files, Broken, fmt.Sprintf("cannot be written, and are %s old: %s", age, says(*last)), cure(*last))
	case e.held.Fetched.IsZero() && e.Broken():
		e.add(Files, Unneeded, "are not there yet, for a reason above", "")
	case e.held.Fetched.IsZero():
		e.add(Files, Unseen, "are not there yet", "")
	case e.agent.Stale(e.held, now):
		e.add(Files, Broken, fmt.Sprintf("are %s old, and should be fetched every %s", age, e.agent.Interval(e.held))+more,
			fmt.Sprintf("if a link above is broken, that is why; else the sidecar hangs: kubectl -n %s logs %s -c %s",
				e.subject.namespace, e.pod.Name, agentconfig.ContainerName))
	case e.agent.Sidecar() == "":
		e.add(Files, Good, fmt.Sprintf("were fetched %s ago, at the start, and stay as they are (mode init)", age)+more, "")
	case e.agent.Slowed(e.held) != "":
		e.add(Files, Good, fmt.Sprintf("were fetched %s ago, and are %s", age, e.agent.Slowed(e.held))+more, "")
	default:
		e.add(Files, Good, fmt.Sprintf("were fetched %s ago", age)+more, "")
	}
}

// unwritten is why the agent could not write what KMS gave, if its last attempt came as far as that.
func (e *examination) unwritten() *status.Problem {
	if f := e.held.LastError; f != nil {
		for i := range f.Causes {
			if f.Causes[i].Link == status.Files {
				return &f.Causes[i]
			}
		}
	}
	return nil
}

// onChange reports whether the notifications of changes succeeded.
func (e *examination) onChange(now time.Time) {
	if e.agent == nil {
		e.add(OnChange, Unneeded, "there is no injected pod", "")
		return
	}
	own := func(f agentconfig.File) bool { return f.OnChange != "" }
	asked := e.agent.Agent.OnChange != "" || slices.ContainsFunc(e.agent.Agent.Files, own)
	told := e.held.Notifications
	switch {
	case !asked || e.agent.Sidecar() == "":
		e.add(OnChange, Unneeded, "the pod asks for no notifications", "")
		return
	case e.waits(OnChange):
		return
	case !e.asked:
		e.add(OnChange, Unseen, "the agent does not say, as above", "")
		return
	case len(told) == 0 && e.held.Fetched.IsZero():
		e.add(OnChange, Unneeded, "there are no files yet", "")
		return
	case len(told) == 0:
		e.add(OnChange, Unseen, "the agent is older than this plugin, and does not say whether it was told", "")
		return
	}
	for _, n := range told {
		var of []string
		for _, s := range n.Secrets {
			of = append(of, s.Name+"@"+s.Version)
		}
		what := strings.Join(of, " ")
		switch {
		case n.Untold():
			e.add(OnChange, Broken,
				fmt.Sprintf("%s was not notified of %s, which is written (%d attempts): %s", n.Target, what, n.Attempts, n.Failure),
				"the program may go on with the value before: restart it, and correct the annotation on-change")
		case n.Changed.IsZero():
			e.add(OnChange, Good, "nothing has changed yet, so "+n.Target+" was not notified", "")
		case n.Told.IsZero():
			e.add(OnChange, Good, n.Target+" is being notified of "+what, "")
		default:
			e.add(OnChange, Good, fmt.Sprintf("%s was notified of %s %s ago", n.Target, what, check.Since(n.Told, now)), "")
		}
	}
}
