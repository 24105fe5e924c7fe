package doctor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

func (e *examination) annotations(ctx context.Context) error {
	v, err := e.Decide(ctx, e.subject.namespace, e.template)
	if err != nil {
		return err
	}
	e.verdict = v
	var mistakes config.Mistakes
	for _, m := range v.Mistakes {
		if e.pod != nil && (m.Where == "container "+agentconfig.InitContainerName || m.Where == "container "+agentconfig.ContainerName) {
			e.other = append(e.other, m)
		} else {
			mistakes = append(mistakes, m)
		}
	}
	switch {
	case len(mistakes) > 0:
		e.add(Annotations, Broken, mistakes.Error(), "change them in the manifest; kubectl kms explain shows what they may be")
	case !v.Asked:
		e.add(Annotations, Broken, "the pod does not ask to be injected",
			fmt.Sprintf(`annotate the pod template with %sinject: "true" and %ssecret.<file>: <KMS secret>`, podconfig.Prefix, podconfig.Prefix))
	case e.Blind != nil:
		e.add(Annotations, Good, "are right, as far as that can be said without the webhook's configuration", "")
	default:
		e.add(Annotations, Good, "are right, and allowed by the administrator's policy", "")
	}
	return nil
}

func (e *examination) injection() {
	const cure = "the link that is broken above or below says why; once it is mended, pods come by themselves within minutes"
	switch {
	case e.pod == nil && e.refusal != "":
		e.add(Injection, Broken, "no pod can be made: "+e.refusal, cure)
		return
	case e.pod == nil:
		e.add(Injection, Broken, "there is no pod yet", cure)
		return
	}
	agent, ok, err := injected.Read(e.pod)
	switch {
	case e.refusal != "":
		e.add(Injection, Broken, "no new pod can be made: "+e.refusal, cure)
		if ok && err == nil {
			e.agent = &agent
		}
	case !ok && e.verdict.Asked:
		e.add(Injection, Broken, "the pod has no agent: it was made while the webhook was not called for it",
			"once the links above are whole, delete the pod, so that it is made anew")
	case !ok:
		e.add(Injection, Unneeded, "the pod has no agent, and asks for none", "")
	case err == nil && len(e.other) > 0:
		e.agent = &agent
		e.add(Injection, Broken, e.other.Error(), "make the pod anew: its agent was injected under another configuration, or not by the webhook")
	case err != nil:
		e.add(Injection, Broken, err.Error(), "use the plugin of the webhook's version, and agent images of it too")
	default:
		e.agent = &agent
		e.add(Injection, Good, fmt.Sprintf("injected by version %s, mode %s", cmp.Or(agent.Version, "(unknown)"), agent.Mode), "")
	}
}

// pods checks all pods of a workload, of which only the newest is examined.
func (e *examination) pods(ctx context.Context) {
	if !e.workload {
		return
	}
	lacks := ""
	if e.refusal != "" {
		lacks = "; others cannot be made"
		if e.missing > 0 {
			lacks = fmt.Sprintf("; %d cannot be made", e.missing)
		}
	}
	states := e.States(ctx, e.all)
	if len(states) == 0 {
		e.add(Pods, Unneeded, "there is none that has the agent, or asks for it"+lacks, "")
		return
	}
	count, worst, state := map[string]int{}, check.PodState{}, Good
	for _, s := range states {
		count[s.State]++
		switch {
		case s.Wrong && state != Broken:
			worst, state = s, Broken
		case s.Unseen && state == Good:
			worst, state = s, Unseen
		}
	}
	var parts []string
	for _, word := range slices.Sorted(maps.Keys(count)) {
		parts = append(parts, fmt.Sprintf("%d %s", count[word], word))
	}
	says := strings.Join(parts, ", ") + lacks
	if worst.Name != "" {
		says += fmt.Sprintf("\n%s is %s: %s", worst.Name, worst.State, worst.Problem)
	}
	if lacks != "" {
		state = Broken
	}
	e.add(Pods, state, says, fmt.Sprintf("kubectl kms status -n %[1]s shows all; kubectl kms doctor -n %[1]s POD examines one",
		e.subject.namespace))
}

// start finds what keeps the pod's containers from running.
func (e *examination) start(ctx context.Context, now time.Time) {
	if e.pod == nil {
		e.add(Start, Unneeded, "there is no pod", "")
		return
	}
	describe := fmt.Sprintf("kubectl -n %s describe pod %s", e.subject.namespace, e.pod.Name)
	words := e.agent != nil && e.agent.Failure() != "" // which say more than that the kubelet waits with the next attempt
	waits := check.Waiting(e.pod)
	if words {
		waits = slices.DeleteFunc(waits, func(w check.Wait) bool { return ofAgent(w.Container) && w.Reason == "CrashLoopBackOff" })
	}
	var missing error
	if len(waits) == 0 && !words && e.pod.Status.Phase == corev1.PodPending && !e.runs() {
		var warned *check.Wait
		if warned, missing = check.Warned(ctx, e.Client.Kube, e.pod); warned != nil {
			waits = append(waits, *warned)
		}
	}
	says := "its containers run"
	if check.Ended(e.pod) {
		says = "the pod has ended"
	}
	state, cure, restarts := Good, "", ""
	for _, r := range check.Restarted(e.pod, agentconfig.ContainerName, agentconfig.InitContainerName) {
		restarts += "; " + r.Says(now)
		if r.OutOfMemory() && now.Sub(r.At) < time.Hour {
			state, cure = Broken, "raise memory in the annotation agent-limits, or ask for fewer or smaller secrets"
		}
	}
	switch {
	case len(waits) > 0:
		for _, w := range waits {
			e.stuck = e.stuck || w.Container == "" || ofAgent(w.Container)
			if ofAgent(w.Container) {
				e.add(Start, Broken, w.String()+restarts, cmp.Or(cure, e.cureOf(w, describe)))
			} else {
				e.add(Start, Broken, w.String(), e.cureOf(w, describe))
			}
		}
	case words:
		e.add(Start, Unneeded, "the agent fails, for the reason below", "")
	case missing != nil:
		e.add(Start, Unseen, missing.Error(), "")
	case e.pod.Status.Phase == corev1.PodPending && !e.runs():
		e.add(Start, Unseen, "nothing of it runs yet, and nothing says why; "+describe, "")
	case e.pod.Status.Phase == corev1.PodPending:
		e.add(Start, Good, "its first containers run", "")
	default:
		e.add(Start, state, says+restarts, cure)
	}
}

func ofAgent(container string) bool {
	return container == agentconfig.InitContainerName || container == agentconfig.ContainerName
}

// runs reports whether any of the pod's containers does, or did.
func (e *examination) runs() bool {
	return slices.ContainsFunc(slices.Concat(e.pod.Status.InitContainerStatuses, e.pod.Status.ContainerStatuses),
		func(s corev1.ContainerStatus) bool { return s.State.Running != nil || s.State.Terminated != nil })
}

// cureOf says what to do about the condition that the pod waits for.
func (e *examination) cureOf(w check.Wait, describe string) string {
	id := e.verdict.Spec.Identity
	unmade := ofAgent(w.Container) && strings.HasPrefix(w.Reason, "CreateContainerConfig") || w.Reason == "FailedMount"
	if unmade && id.Kind.NeedsSecret() {
		keys := "id and secret, and, for a role to assume, rolearn and rolesessionname"
		if id.Kind == config.ClientKey {
			keys = "clientKey and password"
		}
		return fmt.Sprintf("the identity %s needs the Secret %s in namespace %s, with the keys %s", id, id.Secret, e.subject.namespace, keys)
	}
	if w.Reason == "CrashLoopBackOff" {
		return fmt.Sprintf("kubectl -n %s logs %s -c %s --previous", e.subject.namespace, e.pod.Name, w.Container)
	}
	return describe + " shows the events"
}
