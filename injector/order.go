package injector

import (
	"fmt"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

const positionAnnotation = podconfig.Prefix + "init-position"

// early reports whether the init container at an index runs before the agent, so that it gets no files.
func early(r *request, i int) bool {
	agent := slices.IndexFunc(r.Pod.Spec.InitContainers, func(c Container) bool { return ours(c.Name) })
	if agent < 0 {
		return r.Spec.InitLast
	}
	return i < agent
}

// native reports whether an init container is a native sidecar.
func (c *Container) native() bool { return c.RestartPolicy == "Always" }

// fileless reports the init containers that get files and end before the agent has written them. A mesh's own need none. In a pod that
// was injected before, they are warnings: another webhook added them, and an error would keep its pods from starting. With variables,
// unwrappable reports the same.
func fileless(r *request) (mistakes config.Mistakes, warnings []string) {
	if len(r.Spec.Secrets) == 0 || len(r.Spec.Env) > 0 {
		return nil, nil
	}
	for i, c := range r.Pod.Spec.InitContainers {
		if !r.reads(&c) || !early(r, i) || c.native() || ofMesh(c.Name) {
			continue
		}
		problem := fmt.Sprintf("container %s runs before the agent has written the files; move it after %s (remove %s: last), or leave the "+
			"container out with %s",
			short(c.Name), agentconfig.InitContainerName, positionAnnotation, r.choice())
		if injected(&r.Pod.Spec) {
			warn(&warnings, "%s: %s", positionAnnotation, problem)
			continue
		}
		mistakes.Add(positionAnnotation, "%s", problem)
	}
	return mistakes, warnings
}

// choice returns the annotation by which containers are left out.
func (r *request) choice() string {
	if len(r.Spec.Containers) > 0 {
		return podconfig.Prefix + "containers"
	}
	return podconfig.Prefix + "skip-containers"
}
