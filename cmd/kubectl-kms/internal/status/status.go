// Package status lists the pods that ask for the agent: their role, secrets, versions, and how fresh these are.
package status

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// The states of a pod's secrets.
const (
	Fresh       = "fresh"        // fetched no longer ago than they should
	Slowed      = "slowed"       // fetched less often than asked for; Problem says why
	AtStart     = "at start"     // fetched once, and meant to stay as they are
	OnDemand    = "on demand"    // none of its own: the local API fetches what it is asked for
	Ended       = "ended"        // the pod has, or is about to
	Starting    = "starting"     // not fetched yet; Problem says what it waits for, if that is known
	Stale       = "stale"        // not fetched again although they should have been; Problem says why
	NotNotified = "not-notified" // the files are new, and a target of on-change was not told; Problem says why
	Failing     = "failing"      // the agent cannot start, or its last refresh failed; Problem says why
	NotInjected = "not injected" // the pod asks for the agent and runs without it
	NotMade     = "not made"     // the webhook or its guard refuses the pods of this controller; Problem says why
	Unknown     = "unknown"      // nothing says; Problem says why
)

// A Pod is what is known about one pod, or about a controller whose pods are refused.
type Pod struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Injected  string `json:"injected"` // the injector's version
	Mode      string `json:"mode"`
	Identity  string `json:"identity"`
	RoleARN   string `json:"roleArn,omitempty"`
	Refresh   string `json:"refreshInterval,omitempty"` // at present; none in mode init
	API       string `json:"api,omitempty"`             // where the local API is
	State     string `json:"state"`
	Problem   string `json:"problem,omitempty"`
	// Secrets are what the files are made of; without versions if the agent does not say which.
	Secrets       []status.Secret       `json:"secrets"`
	Fetched       time.Time             `json:"fetched,omitzero"` // when KMS gave the oldest of them
	Next          time.Time             `json:"next,omitzero"`    // when the agent asks for them again
	LastError     *status.Failure       `json:"lastError,omitempty"`
	Notifications []status.Notification `json:"notifications,omitempty"`
	Warnings      []string              `json:"warnings,omitempty"`
	Restarts      int32                 `json:"restarts"` // of the agent

	alike string // the Problem, without what differs from pod to pod
}

// Wrong reports whether the pod needs a correction.
func (o Pod) Wrong() bool {
	switch o.State {
	case Stale, NotNotified, Failing, NotInjected, NotMade:
		return true
	case Starting:
		return o.Problem != ""
	}
	return false
}

// Verdict reports whether something is wrong with any of the pods, and whether something could not be seen.
func Verdict(pods []Pod) (wrong, unseen bool) {
	return slices.ContainsFunc(pods, Pod.Wrong), slices.ContainsFunc(pods, func(p Pod) bool { return p.State == Unknown })
}

// bare returns a pod that asks for the agent and does not have it.
func bare(pod *corev1.Pod, why string) *Pod {
	out := &Pod{Namespace: pod.Namespace, Name: pod.Name, State: NotInjected, Secrets: []status.Secret{}, alike: "bare " + why}
	out.Problem = "it asks for the agent and runs without it: " + cmp.Or(why, "it was made while the webhook was not called") +
		"\n  fix: kubectl kms doctor -n " + pod.Namespace + " " + pod.Name + " says what is broken; then delete the pod, so that it is made anew"
	return out
}

func describe(p injected.Pod) *Pod {
	out := &Pod{Namespace: p.Namespace, Name: p.Name, Injected: p.Version, Mode: string(p.Mode), Identity: p.Agent.Identity.String(),
		RoleARN: p.Role(), Secrets: []status.Secret{}}
	if p.Sidecar() != "" {
		out.Refresh = time.Duration(p.Agent.RefreshInterval).String()
	}
	for _, name := range p.Secrets() {
		out.Secrets = append(out.Secrets, status.Secret{Name: name})
	}
	if api := p.Agent.API; api != nil {
		out.API = cmp.Or(api.Socket, "127.0.0.1:"+strconv.Itoa(api.Port))
	}
	return out
}

// say sets the state, and the problem if there is one. Causes are what pods that have it in common have, where their texts differ.
func (o *Pod) say(state, problem string, causes ...status.Problem) {
	o.State, o.Problem, o.alike = state, problem, problem
	if len(causes) > 0 {
		o.alike = ""
	}
	for i, c := range causes {
		if i > 0 {
			o.Problem += "\n"
		}
		o.Problem += c.String()
		o.alike += cmp.Or(c.Cause, c.Says)
	}
}

// take takes over what the agent says that it has written.
func (o *Pod) take(p injected.Pod, held status.Status) {
	if held.Fetched.IsZero() {
		return
	}
	o.Fetched, o.Next, o.Secrets = held.Fetched, held.Next, held.Secrets
	o.LastError, o.Notifications, o.Warnings = held.LastError, held.Notifications, held.Warnings
	if p.Sidecar() != "" {
		o.Refresh = p.Interval(held).String()
	}
}

// judge says how fresh what the agent has written is, and whether its users know.
func (o *Pod) judge(p injected.Pod, held status.Status, now time.Time) {
	var failed string
	f := held.LastError
	if f != nil {
		failed = attempts(f) + " failed " + check.Since(f.At, now) + " ago, next " + until(held.Next, now) + ": "
	}
	stale, slowed, untold := p.Stale(held, now), p.Slowed(held), o.untold()
	switch {
	case stale && f == nil:
		o.say(Stale, "the agent has not refreshed them, and does not say why: it hangs, or is older than this plugin; its log: "+
			"kubectl -n "+p.Namespace+" logs "+p.Name+" -c "+p.Sidecar())
	case stale:
		o.say(Stale, failed, f.Causes...)
	case f != nil && (slowed == "" || !throttled(f)):
		o.say(Failing, failed, f.Causes...)
	case untold != "":
		o.say(NotNotified, untold)
		return
	case slowed != "":
		o.say(Slowed, slowed)
	case p.Sidecar() == "" || p.Agent.RefreshInterval == 0 || p.Fixed():
		o.say(AtStart, "")
	default:
		o.say(Fresh, "")
	}
	o.more(untold, "")
}

// more adds what is to be said besides the state, and what pods that have it in common have, if that is not all of it.
func (o *Pod) more(text, alike string) {
	if text != "" {
		o.Problem = strings.TrimPrefix(o.Problem+"\n"+text, "\n")
		o.alike += cmp.Or(alike, text)
	}
}

// untold describes the notifications that failed.
func (o *Pod) untold() string {
	var all []string
	for _, n := range o.Notifications {
		if n.Untold() {
			all = append(all, fmt.Sprintf("%s was not notified of %s, which is written: %s\n  fix: the program may go on with the value before; "+
				"restart it, and correct the annotation on-change", n.Target, versions(n.Secrets), n.Failure))
		}
	}
	return strings.Join(all, "\n")
}

// remember adds what may soon be wrong, and that the agent did not run all the time.
func (o *Pod) remember(p injected.Pod, now time.Time) {
	for _, w := range o.Warnings {
		o.more("warning: "+w, "")
	}
	for _, r := range check.Restarted(p.Pod, agentconfig.InitContainerName, agentconfig.ContainerName) {
		switch {
		case r.OutOfMemory():
			o.more(r.Says(now)+"\n  fix: raise memory in the annotation agent-limits, or ask for fewer or smaller secrets", r.Reason)
		case r.Container == agentconfig.ContainerName && now.Sub(r.At) < time.Hour:
			o.more(r.Says(now), r.Reason)
		}
	}
}

// byStatus says what the pod's own status shows of an agent that cannot be asked.
func (o *Pod) byStatus(p injected.Pod, waits string) string {
	ready := slices.ContainsFunc(p.Pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
	switch {
	case waits != "":
		return "; " + waits
	case !ready:
		return "; the pod is not ready"
	case !o.Fetched.IsZero():
		return "; the pod is ready, and started with these versions"
	}
	return "; the pod is ready, so that it has had its secrets"
}

func throttled(f *status.Failure) bool {
	return !slices.ContainsFunc(f.Causes, func(p status.Problem) bool { return !strings.Contains(p.Code, "Throttling") })
}

func attempts(f *status.Failure) string {
	if f.Attempts < 2 {
		return "the last attempt"
	}
	return fmt.Sprintf("the last %d attempts", f.Attempts)
}

// until is when something is due.
func until(at, now time.Time) string {
	switch {
	case at.IsZero():
		return "when its container starts again"
	case !at.After(now):
		return "now"
	}
	return "in " + check.Since(now, at)
}
