package injector

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// programSize holds the agent's program a few times over. The volume is on disk: it is the same for every pod, and no secret.
const programSize = "64Mi"

// copiesProgram reports how the containers' commands find the agent's program in agentconfig.ProgramVolume: the agent copies it there, or
// the
// volume is the agent's image, whose only file outside of /etc it is. A pod that was injected before keeps what it got.
func (in *Injector) copiesProgram(pod *PodSpec) bool {
	if v, exists := pod.volume(agentconfig.ProgramVolume); exists && injected(pod) {
		return v.EmptyDir != nil
	}
	return !*in.policy.Agent.ImageVolume
}

// hasProgram reports whether a volume with the name of the program's has the program.
func (in *Injector) hasProgram(pod *PodSpec, v Volume) bool {
	switch {
	case v.Image != nil:
		return v.Image.Reference == in.policy.Agent.Image || injected(pod) && in.policy.Agent.AllowsImage(v.Image.Reference)
	case v.EmptyDir != nil:
		return in.copiesProgram(pod)
	}
	return false
}

// programVolume is agentconfig.ProgramVolume, which the agent copies its program to, or which is the agent's image.
func (in *Injector) programVolume() corev1.Volume {
	v := corev1.Volume{Name: agentconfig.ProgramVolume}
	if *in.policy.Agent.ImageVolume {
		v.Image = &corev1.ImageVolumeSource{Reference: in.policy.Agent.Image, PullPolicy: corev1.PullPolicy(in.policy.Agent.ImagePullPolicy)}
	} else {
		v.EmptyDir = &corev1.EmptyDirVolumeSource{SizeLimit: new(resource.MustParse(programSize))}
	}
	return v
}

func programMount(readOnly bool) corev1.VolumeMount {
	return corev1.VolumeMount{Name: agentconfig.ProgramVolume, MountPath: agentconfig.ProgramDir, ReadOnly: readOnly}
}

// wrapper returns the prefix of a wrapped container's command.
func wrapper(spec *podconfig.Spec) []string {
	words := []string{agentconfig.Program, agentconfig.CommandExec}
	if spec.MountPath != config.DefaultSecretsDir {
		// The kubelet turns $$ into $.
		words = append(words, "--env-file="+strings.ReplaceAll(spec.MountPath, "$", "$$")+"/"+agentconfig.EnvFile)
	}
	return append(words, "--")
}

func (c *Container) wrapped() bool { return len(c.Command) > 0 && c.Command[0] == agentconfig.Program }

// unwrappable reports the containers that cannot have variables, and why. In a pod that was injected before, they are for a warning
// only: another webhook brought them, and its pods would not start any more.
func unwrappable(r *request) (mistakes config.Mistakes, warnings []string) {
	if len(r.Spec.Env) == 0 {
		return nil, nil
	}
	annotation := variablesAnnotation(&r.Spec)
	refuse := func(c Container, problem string) {
		problem = fmt.Sprintf("container %s %s, or leave the container out with %s", short(c.Name), problem, r.choice())
		if injected(&r.Pod.Spec) {
			warn(&warnings, "%s: %s", annotation, problem)
			return
		}
		mistakes.Add(annotation, "%s", problem)
	}
	for i, c := range slices.Concat(r.Pod.Spec.InitContainers, r.Pod.Spec.Containers) {
		switch {
		case !r.reads(&c) || c.wrapped():
		case len(c.Command) == 0:
			refuse(c, "has no command: what it runs is in its image, which the webhook does not see, so that it cannot start it with variables; "+
				"write the image's ENTRYPOINT (docker image inspect shows it) as the container's command")
		case i < len(r.Pod.Spec.InitContainers) && early(r, i):
			refuse(c, "runs before the agent has the variables; move it after "+agentconfig.InitContainerName+" (remove "+
				""+podconfig.Prefix+"init-position: "+
				"last)")
		default:
			if p, misplaced := r.misplaced(c); misplaced {
				refuse(c, fmt.Sprintf("mounts the volume %s, but not all of it at %s, where the wrapper of its command looks; mount it there, leave "+
					"the mount to the webhook", p.Name, p.MountPath))
			}
		}
	}
	return mistakes, warnings
}

// misplaced returns a volume that variables need and that the container mounts by itself, elsewhere.
func (r *request) misplaced(c Container) (mountPoint, bool) {
	for _, p := range r.mountPoints(c.Name) {
		there := func(m Mount) bool { return m.Name == p.Name && m.path() == p.MountPath && !m.part() }
		if (p.Name == agentconfig.ProgramVolume || p.annotation == mountPathAnnotation) && c.mounts(p.Name) &&
			!slices.ContainsFunc(c.VolumeMounts, there) {
			return p, true
		}
	}
	return mountPoint{}, false
}

// variablesAnnotation returns the first annotation that asks for a variable.
func variablesAnnotation(spec *podconfig.Spec) string {
	return podconfig.Prefix + spec.Env[0].Annotation
}
