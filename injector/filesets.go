package injector

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// A fileSet is a volume of its own for containers that see files which others do not. Containers that no secret names have
// agentconfig.SecretsVolume. No mount uses subPath, which does not follow a refresh.
type fileSet struct {
	volume  string
	dir     string // in the agent's containers
	secrets []int  // by their place in the Spec
}

// fileSets returns the sets that the annotations ask for, and the set of each container, by its name. Their numbers depend on the names of
// their containers alone, so that a container which another webhook adds later changes none.
func fileSets(spec *podconfig.Spec) (all []fileSet, of map[string]int) {
	if !slices.ContainsFunc(spec.Secrets, func(s podconfig.Secret) bool { return len(s.Containers) > 0 }) {
		return nil, nil
	}
	secrets := map[string][]byte{} // that a container sees, by its name: each as a varint
	for i, s := range spec.Secrets {
		for _, name := range s.Containers {
			secrets[name] = binary.AppendUvarint(secrets[name], uint64(i))
		}
	}
	of = make(map[string]int, len(secrets))
	numbers := map[string]int{} // by the secrets
	for _, name := range slices.Sorted(maps.Keys(secrets)) {
		seen := secrets[name]
		i, found := numbers[string(seen)]
		if !found {
			i = len(all)
			numbers[string(seen)] = i
			v := fileSet{volume: fmt.Sprintf("%s-%d", agentconfig.SecretsVolume, i+1), dir: fmt.Sprintf("%s/%d", viewsDir, i+1)}
			for len(seen) > 0 {
				secret, n := binary.Uvarint(seen)
				v.secrets, seen = append(v.secrets, int(secret)), seen[n:]
			}
			all = append(all, v)
		}
		of[name] = i
	}
	return all, of
}

// secretsVolume returns the volume with a container's files.
func (r *request) secretsVolume(container string) string {
	if i, found := r.fileSetOf[container]; found {
		return r.fileSets[i].volume
	}
	return agentconfig.SecretsVolume
}

// dirs returns the directories into which the agent writes each secret's file; nil: all.
func dirs(n int, all []fileSet) [][]string {
	found := make([][]string, n)
	for _, v := range all {
		for _, secret := range v.secrets {
			found[secret] = append(found[secret], v.dir)
		}
	}
	return found
}

// foreignContainers reports containers that a secret names and that get no files.
func foreignContainers(spec *podconfig.Spec, names []string, in map[string]bool) config.Mistakes {
	var m config.Mistakes
	for _, s := range spec.Secrets {
		for _, name := range s.Containers {
			switch {
			case !in[name]:
				m.Add(podconfig.Prefix+"secret."+s.File, "containers: there is no container %s in the pod; its containers are %s", short(name),
					some(names))
			case !selected(spec, name):
				choice := "containers"
				if len(spec.Containers) == 0 {
					choice = "skip-containers"
				}
				m.Add(podconfig.Prefix+"secret."+s.File, "containers: container %s gets no files at all, by %s%s; change one of the two", short(name),
					podconfig.Prefix, choice)
			}
		}
	}
	return m
}
