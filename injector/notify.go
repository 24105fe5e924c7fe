package injector

import (
	"fmt"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// notifiers returns the annotations by which the agent notifies, by signal or else by HTTP.
func notifiers(spec *podconfig.Spec, bySignal bool) []string {
	var found []string
	is := func(onChange string) bool {
		return onChange != "" && strings.HasPrefix(onChange, "signal:") == bySignal
	}
	if is(spec.OnChange) {
		found = append(found, podconfig.Prefix+"on-change")
	}
	for _, s := range spec.Secrets {
		if is(s.OnChange) {
			found = append(found, podconfig.Prefix+"secret."+s.File)
		}
	}
	return found
}

// notifyConflicts reports notifications that would not reach the pod's own processes, or others too.
func notifyConflicts(r *request) config.Mistakes {
	var m config.Mistakes
	refuse := func(annotations []string, problem string) {
		for _, annotation := range annotations {
			m.Add(annotation, "%s", problem)
		}
	}
	pod := &r.Pod.Spec
	if pod.HostNetwork {
		refuse(notifiers(&r.Spec, false), "the pod is on the node's network (hostNetwork), where 127.0.0.1 is the node's and the port may be "+
			"another pod's or the kubelet's; notify by signal:<SIG>:<process> with shareProcessNamespace: true, or have the "+
			"application look at its files")
	}
	if pod.SharePIDs {
		return m
	}
	byHTTP := ", or notify by http://127.0.0.1:<port>/<path>"
	if pod.HostNetwork {
		byHTTP = ""
	}
	if pod.HostPIDs {
		refuse(notifiers(&r.Spec, true), "the pod has all processes of the node (hostPID), among which a signal could reach another pod's of "+
			"the same name; set shareProcessNamespace: true in place of hostPID"+byHTTP)
	} else {
		refuse(notifiers(&r.Spec, true), "a signal reaches another container's process only with shareProcessNamespace: true in the pod's "+
			"spec; set it"+byHTTP)
	}
	return m
}

// warnSignals is for signals that the kernel may not let through.
func (a *permissions) warnSignals(spec *podconfig.Spec) []string {
	if a.sameUser || len(notifiers(spec, true)) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the agent runs as user %d and can signal the processes of that user only; state the same "+
		"securityContext.runAsUser, not 0, for the containers", a.uid)}
}
