package injector

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// impossible are the pods that cannot be injected at all.
func (in *Injector) impossible(r Request) config.Mistakes {
	var m config.Mistakes
	pod := r.Pod.Spec
	if pod.windows() {
		m = append(m, config.Mistake{Where: config.Prefix + "inject", Problem: "the pod is for Windows nodes, on which there is no agent; set it to \"false\""})
	}
	if r.Spec.Mode == config.ModeSingle && !in.native() {
		m = append(m, config.Mistake{Where: config.Prefix + "mode", Problem: "single needs native sidecars, which the operator of this cluster has switched off; use sidecar or init"})
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		if ours(c.Name) && !c.hasEnv(config.AgentEnv) {
			m = append(m, config.Mistake{Where: "container " + c.Name, Problem: "has a name that the injector needs for its own container; give it another name"})
		}
	}
	for _, name := range []string{SecretsVolume, StateVolume} {
		if v, exists := pod.volume(name); exists && (v.EmptyDir == nil || v.EmptyDir.Medium != "Memory") {
			m = append(m, config.Mistake{Where: "volume " + name, Problem: "would hold secrets but is not in memory; give it another name, or make it emptyDir: {medium: Memory}"})
		}
	}
	if v, exists := pod.volume(TokenVolume); exists && v.Projected == nil {
		m = append(m, config.Mistake{Where: "volume " + TokenVolume, Problem: "has the name of the RRSA token's volume but is not projected; give it another name"})
	}
	return m
}

// conflicts are mounts of the readers' own that stand where ours must be, that ours would hide or make impossible to set up.
func conflicts(r Request, readers []Container) config.Mistakes {
	var m config.Mistakes
	for _, c := range readers {
		if !c.mounts(SecretsVolume) {
			m = append(m, r.conflict(c, config.Prefix+"mount-path", r.Spec.MountPath)...)
		}
		if r.Spec.AppIdentity && !c.mounts(TokenVolume) {
			m = append(m, r.conflict(c, config.Prefix+"app-identity", tokenDir)...)
		}
	}
	return m
}

func (r Request) conflict(c Container, annotation, target string) config.Mistakes {
	var m config.Mistakes
	for _, mount := range c.VolumeMounts {
		at := mount.path()
		switch {
		case at == target:
			m = append(m, config.Mistake{Where: annotation, Problem: fmt.Sprintf(
				"container %s already has the volume %s at %s; choose another %smount-path, or move that mount", c.Name, mount.Name, target, config.Prefix)})
		case strings.HasPrefix(at, target+"/"):
			// The runtime would have to make the inner mount's directory in our volume, which is read-only there.
			m = append(m, config.Mistake{Where: annotation, Problem: fmt.Sprintf(
				"container %s has the volume %s at %s, inside %s, which is read-only; choose another %smount-path, or move that mount", c.Name, mount.Name, at, target, config.Prefix)})
		case at == "/" || strings.HasPrefix(target, at+"/"):
			if v, _ := r.Pod.Spec.volume(mount.Name); mount.ReadOnly || v.readOnly() {
				m = append(m, config.Mistake{Where: annotation, Problem: fmt.Sprintf(
					"%s is inside the volume %s of container %s, at %s, which is read-only; choose another %smount-path, or move that mount", target, mount.Name, c.Name, at, config.Prefix)})
			}
		}
	}
	return m
}

// warnSidecar says where a sidecar is not what the author may expect.
func (in *Injector) warnSidecar(r Request) []string {
	var warnings []string
	restarts := r.Pod.Spec.RestartPolicy == "" || r.Pod.Spec.RestartPolicy == "Always"
	if r.Spec.Mode != config.ModeInit && !in.native() && !restarts {
		warnings = append(warnings, fmt.Sprintf("this cluster runs the sidecar %s as a plain container, which never ends, so that the pod will not complete; set %smode: init", ContainerName, config.Prefix))
	}
	if r.Spec.Mode == config.ModeSidecar && r.Spec.RefreshInterval == 0 {
		warnings = append(warnings, fmt.Sprintf("%srefresh-interval is 0, so that the sidecar %s never does anything; set %smode: init to be without it", config.Prefix, ContainerName, config.Prefix))
	}
	return warnings
}

// warnLate is for containers that another webhook added after the injection, when the agent's user was chosen without them.
func warnLate(pod PodSpec, readers []Container, a access) []string {
	if a.fsGroup {
		return nil
	}
	for _, agent := range slices.Concat(pod.InitContainers, pod.Containers) {
		uid := agent.SecurityContext.RunAsUser
		if !ours(agent.Name) || uid == nil || *uid == agentID || *uid == a.uid {
			continue
		}
		for _, c := range readers {
			if !c.mounts(SecretsVolume) {
				return []string{fmt.Sprintf("container %s was added after the injection and does not run as user %d, whose files these are; list the containers that need them in %scontainers", c.Name, *uid, config.Prefix)}
			}
		}
	}
	return nil
}
