package status

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

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
	var group sync.WaitGroup
	room, nodes := make(chan struct{}, parallel), map[string]chan struct{}{}
	var mu sync.Mutex
	done := 0
	for i := range pods {
		node := nodes[pods[i].Spec.NodeName]
		if node == nil {
			node = make(chan struct{}, ofNode)
			nodes[pods[i].Spec.NodeName] = node
		}
		group.Go(func() {
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
		})
	}
	group.Wait()
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
