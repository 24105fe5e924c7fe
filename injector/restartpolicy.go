package injector

import (
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
