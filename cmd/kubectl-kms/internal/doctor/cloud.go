package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// of are the problems with a link.
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
	return cmp.Or(p.Cure, "if it does not pass by itself: the log of the pod's container kms-agent (or kms-agent-init) has more")
}

func (e *examination) sts() {
	before := len(e.of(Token)) + len(e.of(Provider))
	switch {
	case e.agent == nil:
		e.add(STS, Unneeded, "there is no injected pod", "")
	case e.blame(STS):
	case before > 0:
		e.add(STS, Unneeded, "refuses for the reason above", "")
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
		case !e.asked:
			c.State, c.Says = Unseen, name+": the agent does not say, as above"
		case len(e.of(KMS)) > 0 && !e.holds(name):
			c.State, c.Says = Unseen, name+": the agent has not got to it"
		}
		e.Checks = append(e.Checks, c)
	}
	for _, p := range e.of(KMS) {
		if !slices.Contains(e.secrets(), p.Secret) {
			e.add(KMS, Broken, says(p), cure(p))
		}
	}
}

func (e *examination) holds(name string) bool {
	for _, s := range e.held.Secrets {
		if s.Name == name {
			return true
		}
	}
	return false
}

func (e *examination) files(now time.Time) {
	age := now.Sub(e.held.Fetched).Round(time.Second)
	switch {
	case e.agent == nil:
		e.add(Files, Unneeded, "there is no injected pod", "")
	case e.blame(Files):
	case !e.asked:
		e.add(Files, Unseen, "the agent does not say, as above", "")
	case e.held.Fetched.IsZero() && len(e.secrets()) == 0:
		e.add(Files, Unneeded, "the pod has none: the API fetches what it is asked for", "")
	case e.held.Fetched.IsZero():
		e.add(Files, Unseen, "are not there yet", "")
	case e.agent.Stale(e.held, now):
		e.add(Files, Broken, fmt.Sprintf("are %s old, and should be fetched every %s", age, e.agent.Interval(e.held)),
			fmt.Sprintf("if a link above is broken, that is why; else the sidecar hangs: kubectl -n %s logs %s -c %s",
				e.subject.namespace, e.pod.Name, agentconfig.ContainerName))
	case e.agent.Sidecar() == "":
		e.add(Files, Good, fmt.Sprintf("were fetched %s ago, at the start, and stay as they are (mode init)", age), "")
	case e.agent.Slowed(e.held) != "":
		e.add(Files, Good, fmt.Sprintf("were fetched %s ago, and are %s", age, e.agent.Slowed(e.held)), "")
	default:
		e.add(Files, Good, fmt.Sprintf("were fetched %s ago", age), "")
	}
}
