package injector

import (
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// signallers are the annotations by which the agent sends signals.
func signallers(spec *config.Spec) []string {
	var found []string
	if _, _, signals := config.Signal(spec.OnChange); signals {
		found = append(found, config.Prefix+"on-change")
	}
	for _, s := range spec.Secrets {
		if _, _, signals := config.Signal(s.OnChange); signals {
			found = append(found, config.Prefix+"secret."+s.File)
		}
	}
	return found
}

// unsignallable are the signals of a pod whose processes do not see each other.
func unsignallable(r *Request) config.Mistakes {
	if r.Pod.Spec.SharePIDs {
		return nil
	}
	problem := "a signal reaches another container's process only with shareProcessNamespace: true in the pod's spec; set it, or notify by http://127.0.0.1:<port>/<path>"
	if r.Pod.Spec.HostPIDs {
		problem = "the pod has all processes of the node (hostPID), among which a signal could reach another pod's of the same name; notify by http://127.0.0.1:<port>/<path>, or set shareProcessNamespace: true in place of hostPID"
	}
	var m config.Mistakes
	for _, annotation := range signallers(&r.Spec) {
		m = append(m, config.Mistake{Where: annotation, Problem: problem})
	}
	return m
}

// warnSignals is for signals that the kernel may not let through.
func (a *access) warnSignals(spec *config.Spec) []string {
	if a.sameUser || len(signallers(spec)) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the agent runs as user %d and can signal the processes of that user only; state the same securityContext.runAsUser, not 0, for the containers", a.uid)}
}
