// Package status lists the pods that ask for the agent: their role, secrets, versions, and how fresh these are.
package status

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
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

const (
	parallel = 64              // agents that are asked at a time
	ofNode   = 8               // of them on one node, which starts a process for each
	patience = 5 * time.Second // for what is to be known about one pod
)

// A Source is where the states of pods are from.
type Source struct {
	Kube     kubernetes.Interface
	Ask      func(ctx context.Context, p injected.Pod, probe bool) (status.Status, error) // an agent
	Progress func(done, all int)                                                          // is called as pods are done with; may be nil
}

// Of returns the states of the pods that ask for the agent or have it.
func (s Source) Of(ctx context.Context, pods []corev1.Pod) []Pod {
	labelled := s.labelled(ctx, pods)
	found := make([]*Pod, len(pods))
	var group errgroup.Group
	room, nodes := make(chan struct{}, parallel), map[string]chan struct{}{}
	var mu sync.Mutex
	done := 0
	for i := range pods {
		node := nodes[pods[i].Spec.NodeName]
		if node == nil {
			node = make(chan struct{}, ofNode)
			nodes[pods[i].Spec.NodeName] = node
		}
		group.Go(func() error {
			node <- struct{}{}
			room <- struct{}{}
			defer func() { <-room; <-node }()
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			p, ok, err := injected.Read(&pods[i])
			switch {
			case ok:
				found[i] = describe(p)
				s.look(ctx, found[i], p, err)
			case check.Asks(&pods[i]) && !check.Ended(&pods[i]):
				found[i] = bare(&pods[i], labelled[pods[i].Namespace])
			}
			mu.Lock()
			defer mu.Unlock()
			done++
			if s.Progress != nil {
				s.Progress(done, len(pods))
			}
			return nil
		})
	}
	_ = group.Wait() // what fails is said of its pod
	out := []Pod{}
	for _, p := range found {
		if p != nil {
			out = append(out, *p)
		}
	}
	return out
}

// labelled are, by the namespaces of pods that ask for the agent and do not have it, why they should not: "" is that they should.
func (s Source) labelled(ctx context.Context, pods []corev1.Pod) map[string]string {
	why := map[string]string{}
	for i := range pods {
		if _, ok, _ := injected.Read(&pods[i]); !ok && check.Asks(&pods[i]) {
			why[pods[i].Namespace] = ""
		}
	}
	for _, name := range slices.Sorted(maps.Keys(why)) {
		switch namespace, err := s.Kube.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{}); {
		case err != nil:
			why[name] = fmt.Sprintf("whether namespace %s has the label %s=%s cannot be read: %v", name, podconfig.NamespaceLabel,
				podconfig.NamespaceLabelValue, err)
		case namespace.Labels[podconfig.NamespaceLabel] != podconfig.NamespaceLabelValue:
			why[name] = fmt.Sprintf("namespace %s does not have the label %s=%s", name, podconfig.NamespaceLabel, podconfig.NamespaceLabelValue)
		}
	}
	return why
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

// look fills in what the agent says, and what the pod's own status does.
func (s Source) look(ctx context.Context, o *Pod, p injected.Pod, unread error) {
	for _, r := range check.Restarted(p.Pod, agentconfig.ContainerName) {
		o.Restarts = r.Times
	}
	if unread != nil { // what the agent was told
		o.say(Unknown, unread.Error())
		return
	}
	held, err := p.Started()
	started := held
	if p.Sidecar() != "" && !check.Ended(p.Pod) {
		held, err = s.Ask(ctx, p, false)
	}
	now := time.Now()
	waits := waiting(p)
	switch last := p.Failure(); {
	case last != "":
		o.say(Failing, "", status.ReadText(last)...)
	case check.Ended(p.Pod), err != nil && p.Pod.DeletionTimestamp != nil:
		o.take(p, held)
		o.say(Ended, "")
	case errors.Is(err, injected.ErrSilent) && waits != "" && p.Pod.Status.Phase == corev1.PodRunning:
		o.say(Failing, waits)
	case errors.Is(err, injected.ErrSilent) && p.Pod.Status.Phase == corev1.PodPending:
		o.say(Starting, s.delayed(ctx, p, waits))
	case err != nil:
		o.take(p, started)
		o.say(Unknown, err.Error()+o.byStatus(p, waits))
	case len(o.Secrets) == 0:
		o.say(OnDemand, "")
	case held.Fetched.IsZero():
		o.say(Starting, "")
		if f := held.LastError; f != nil {
			o.LastError, o.Next = f, held.Next
			o.say(Starting, "no secrets yet: "+attempts(f)+" failed, next "+until(held.Next, now)+": ", f.Causes...)
		}
	default:
		o.take(p, held)
		o.judge(p, held, now)
	}
	o.remember(p, now)
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

// delayed says why the agent of a pod has not started, if that is known.
func (s Source) delayed(ctx context.Context, p injected.Pod, waits string) string {
	if waits != "" {
		return waits
	}
	warned, err := check.Warned(ctx, s.Kube, p.Pod)
	if err != nil || warned == nil {
		return "" // it may just be young
	}
	return warned.String()
}

// waiting says why the pod or the agent waits.
func waiting(p injected.Pod) string {
	var all []string
	for _, w := range check.Waiting(p.Pod) {
		if w.Container == "" || w.Container == agentconfig.InitContainerName || w.Container == agentconfig.ContainerName {
			all = append(all, w.String())
		}
	}
	return strings.Join(all, "\n")
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

// Refused returns the controllers of a namespace, or of all, that lack pods because the webhook or its guard refuses them.
func (s Source) Refused(ctx context.Context, namespace string) ([]Pod, error) {
	refusals, err := check.Refusals(ctx, s.Kube, namespace)
	if err != nil {
		return nil, err
	}
	var out []Pod
	for _, r := range refusals {
		if !r.Ours() {
			continue
		}
		missing, err := r.Missing(ctx, s.Kube)
		if err != nil {
			return nil, err
		}
		if missing > 0 {
			p := Pod{Namespace: r.Namespace, Name: r.Kind + "/" + r.Name, Secrets: []status.Secret{}}
			p.say(NotMade, fmt.Sprintf("%d missing: %s", missing, r.Message))
			out = append(out, p)
		}
	}
	return out, nil
}

// Table writes the pods for people; wide with everything.
func Table(s screen.Screen, pods []Pod, namespaces, wide bool, now time.Time) {
	if len(pods) == 0 {
		return
	}
	header := []string{"POD", "INJECTED", "MODE", "ROLE", "API", "STATE", "FETCHED", "SECRETS"}
	if namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	if wide {
		header = slices.Insert(header, len(header)-1, "REFRESH", "RESTARTS")
	}
	t := screen.Table{Header: header}
	for _, p := range pods {
		row := []string{p.Name, p.Injected, p.Mode, role(p, wide), p.API, p.State, age(p.Fetched, now), secrets(p)}
		if namespaces {
			row = append([]string{p.Namespace}, row...)
		}
		if wide {
			row = slices.Insert(row, len(row)-1, p.Refresh, strconv.Itoa(int(p.Restarts)))
		}
		for i := range row {
			row[i] = cmp.Or(row[i], "–")
		}
		t.Add(row...)
	}
	s.Table(t)
	problems(s, pods)
}

// problems writes what is wrong, each once with all the pods that have it.
func problems(s screen.Screen, pods []Pod) {
	for i, p := range pods {
		alike := func(other Pod) bool {
			return other.State == p.State && other.Problem != "" && cmp.Or(other.alike, other.Problem) == cmp.Or(p.alike, p.Problem)
		}
		if p.Problem == "" || slices.ContainsFunc(pods[:i], alike) {
			continue
		}
		title, more := p.Namespace+"/"+p.Name+" is "+p.State, -1
		if p.State == NotMade {
			title = "pods of " + p.Namespace + "/" + p.Name + " are not made"
		}
		for _, other := range pods[i:] {
			if alike(other) {
				more++
			}
		}
		if more > 0 {
			title += fmt.Sprintf(", and so are %d more", more)
		}
		s.Printf("\n%s\n", s.Strong(title+":"))
		s.Indented(2, screen.Escape(p.Problem))
	}
}

func role(p Pod, wide bool) string {
	switch _, name, found := strings.Cut(p.RoleARN, ":role/"); {
	case p.RoleARN == "":
		return p.Identity
	case wide || !found:
		return p.RoleARN
	default:
		return name
	}
}

func age(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return check.Since(at, now) + " ago"
}

func secrets(p Pod) string { return versions(p.Secrets) }

func versions(all []status.Secret) string {
	var out []string
	for _, s := range all {
		switch {
		case s.Absent != "":
			out = append(out, s.Name+" (absent)")
		case s.Version != "":
			out = append(out, s.Name+"@"+s.Version)
		default:
			out = append(out, s.Name)
		}
	}
	return strings.Join(out, " ")
}
