package injector

import (
	"cmp"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// mode is a pod's own mode, or the administrator's where that is possible and gives what the pod asks for. A pod with the agent in it keeps
// the mode that it was injected with.
func (in *Injector) mode(req *Request, spec *podconfig.Spec) podconfig.Mode {
	annotated := func(key string) bool {
		_, found := req.Pod.Metadata.Annotations[podconfig.Prefix+key]
		return found
	}
	mode := cmp.Or(podconfig.Mode(in.policy.Agent.Mode), podconfig.ModeSidecar)
	if mode == podconfig.ModeSidecar || annotated("mode") {
		return spec.Mode
	}
	switch once, forever := req.Pod.Spec.has(agentconfig.InitContainerName), req.Pod.Spec.has(agentconfig.ContainerName); {
	case once && forever:
		return podconfig.ModeSidecar
	case once:
		return podconfig.ModeInit
	case forever:
		return podconfig.ModeSingle
	}
	r := &request{Request: *req, Spec: *spec}
	r.Spec.Mode = mode
	told := spec.OnChange != "" || slices.ContainsFunc(spec.Secrets, func(s podconfig.Secret) bool { return s.OnChange != "" })
	switch {
	case mode == podconfig.ModeInit && (spec.API != nil || told || annotated("refresh-interval")),
		mode == podconfig.ModeSingle && (!in.native(r) || annotated("init-position") || r.hangsOnFailure()):
		return podconfig.ModeSidecar
	}
	return mode
}
