package injector

import (
	"fmt"
	"iter"
	"maps"
	"regexp"
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

// unwrappable reports the containers that cannot have variables, and why.
func unwrappable(r *request) (mistakes config.Mistakes, warnings []string) {
	if len(r.Spec.Env) == 0 {
		return nil, nil
	}
	annotation := variablesAnnotation(&r.Spec)
	refuse := func(c *Container, problem string) {
		r.refuse(&mistakes, &warnings, annotation, fmt.Sprintf("container %s %s, or leave the container out with %s", short(c.Name), problem,
			r.choice()))
	}
	i := -1
	for c := range r.Pod.Spec.each {
		i++
		switch {
		case !r.reads(c) || c.wrapped():
		case len(c.Command) == 0:
			refuse(c, "has no command: what it runs is in its image, which the webhook does not see, so that it cannot start it with variables; "+
				"write the image's ENTRYPOINT (docker image inspect shows it) as the container's command")
		case i < len(r.Pod.Spec.InitContainers) && early(r, i):
			refuse(c, "runs before the agent has the variables; move it after "+agentconfig.InitContainerName+" (remove "+positionAnnotation+
				": last)")
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
func (r *request) misplaced(c *Container) (mountPoint, bool) {
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

// warnReferences is for $(NAME) of a variable that the agent sets: Kubernetes replaces it by a variable of the pod's spec, or leaves it as
// it is.
func warnReferences(r *request, readers []*Container) []string {
	if len(r.Spec.Env) == 0 {
		return nil
	}
	ours := make(map[string]bool, len(r.Spec.Env))
	for _, v := range r.Spec.Env {
		ours[v.Name] = true
	}
	var where []string
	named := map[string]bool{}
	for _, c := range readers {
		missing := map[string]bool{} // what of ours the container's own variables lack
		look := func(place string, texts ...string) {
			found := false
			for _, text := range texts {
				for name := range References(text) {
					if !ours[name] {
						continue
					}
					if _, known := missing[name]; !known {
						missing[name] = !c.hasEnv(name)
					}
					if missing[name] {
						found, named["$("+name+")"] = true, true
					}
				}
			}
			if found {
				where = append(where, place+" of "+c.Name)
			}
		}
		look("command", c.Command...)
		look("args", c.Args...)
		for _, e := range c.Env {
			look("variable "+e.Name, e.Value)
		}
	}
	if len(where) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(named))
	return []string{fmt.Sprintf("%s stays as it is written in %s: Kubernetes replaces only variables of the pod's spec, and env.<NAME> is "+
		"set as the container starts; have the program read the variable, or start it by a shell: command: "+
		"[sh, -c, 'exec …'] with $%s in place of %s",
		some(names), some(where), strings.Trim(names[0], "$()"), names[0])}
}

// reference is $(NAME), which Kubernetes would replace, or $$, which escapes the dollar of one.
// https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
var reference = regexp.MustCompile(`\$\$|\$\(([^)]*)\)`)

// References is for range, over the names in a text that Kubernetes would replace: one at a time, since there may be very many.
func References(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for at := reference.FindStringSubmatchIndex(text); at != nil; at = reference.FindStringSubmatchIndex(text) {
			if at[2] >= 0 && !yield(text[at[2]:at[3]]) {
				return
			}
			text = text[at[1]:]
		}
	}
}
