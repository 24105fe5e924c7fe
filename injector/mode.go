package injector

import (
	"cmp"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

const (
	warnStuck = "restartPolicy is Never and " + podconfig.Prefix + "mode single, but a native sidecar alone can never fail a pod; " +
		agentconfig.InitContainerName + " runs before it, as with mode: sidecar"

	warnEndless = "this cluster runs the sidecar " + agentconfig.ContainerName +
		" as a plain container, which never ends, and this pod is to end; it has " + agentconfig.InitContainerName +
		" alone, as with " + podconfig.Prefix + "mode: init, and its files are not refreshed"
)

// adaptMode gives a pod that is to end, as those of Jobs, a mode in which it does.
func (in *Injector) adaptMode(r *request) (warnings []string) {
	switch {
	case r.hangsOnFailure():
		r.Spec.Mode = podconfig.ModeSidecar
		return []string{warnStuck}
	case r.completes() && in.neverCompletes(r):
		r.Spec.Mode = podconfig.ModeInit
		if !in.native(r) {
			return []string{warnEndless}
		}
	}
	return nil
}

// completes reports whether the pod's containers are not started again when all is well.
func (r *request) completes() bool {
	return r.Pod.Spec.RestartPolicy == "Never" || r.Pod.Spec.RestartPolicy == "OnFailure"
}

// hangsOnFailure reports whether a permanent fetch error would leave the pod pending instead of failed: the kubelet restarts native
// sidecars whatever the pod's restartPolicy is.
func (r *request) hangsOnFailure() bool {
	return r.Spec.Mode == podconfig.ModeSingle && r.Pod.Spec.RestartPolicy == "Never" && fetches(&r.Spec)
}

// neverCompletes reports whether the sidecar would keep the pod from completing and is not needed, since the pod does not ask for the
// API. An injected pod keeps its form, even if another replica already knows of native sidecars.
func (in *Injector) neverCompletes(r *request) bool {
	pod := &r.Pod.Spec
	return r.Spec.Mode == podconfig.ModeSidecar && r.Spec.API == nil && !pod.has(agentconfig.ContainerName) &&
		(!in.native(r) || pod.has(agentconfig.InitContainerName))
}

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
