package injector

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A view is a volume of its own for containers that see files which others do not. The containers that no secret names have
// SecretsVolume. There is no subPath in this, which would not follow a refresh.
type view struct {
	volume     string
	dir        string // in the agent's containers
	containers []string
}

// views are those that the annotations ask for. They are numbered by the names of their containers alone, so that a container
// which another webhook adds later changes none.
func views(spec *config.Spec) []view {
	if !slices.ContainsFunc(spec.Secrets, func(s config.Secret) bool { return len(s.Containers) > 0 }) {
		return nil
	}
	files := map[string][]byte{} // that a container sees, by its name
	for _, s := range spec.Secrets {
		for _, name := range s.Containers {
			files[name] = strconv.AppendQuote(files[name], s.File)
		}
	}
	var all []view
	numbers := map[string]int{} // by the files
	for _, name := range slices.Sorted(maps.Keys(files)) {
		i, found := numbers[string(files[name])]
		if !found {
			i = len(all)
			numbers[string(files[name])] = i
			all = append(all, view{volume: fmt.Sprintf("%s-%d", SecretsVolume, i+1), dir: fmt.Sprintf("%s/%d", viewsDir, i+1)})
		}
		all[i].containers = append(all[i].containers, name)
	}
	return all
}

// secretsVolume is the volume that has a container's files.
func (r *Request) secretsVolume(container string) string {
	for _, v := range r.views {
		if _, found := slices.BinarySearch(v.containers, container); found {
			return v.volume
		}
	}
	return SecretsVolume
}

// dirs are where the agent writes a secret's file; nil: everywhere.
func dirs(s config.Secret, all []view) []string {
	var found []string
	for _, v := range all {
		if slices.Contains(s.Containers, v.containers[0]) {
			found = append(found, v.dir)
		}
	}
	return found
}

// maxStrangers is more than anybody reads.
const maxStrangers = 50

// strangers are containers that a secret is for and that get no files.
func strangers(spec *config.Spec, names []string) config.Mistakes {
	var m config.Mistakes
	for _, s := range spec.Secrets {
		for _, name := range s.Containers {
			if len(m) == maxStrangers {
				return m
			}
			var problem string
			switch {
			case !slices.Contains(names, name):
				problem = fmt.Sprintf("containers: there is no container %s in the pod; its containers are %s", name, some(names))
			case !selected(spec, name):
				choice := "containers"
				if len(spec.Containers) == 0 {
					choice = "skip-containers"
				}
				problem = fmt.Sprintf("containers: container %s gets no files at all, by %s%s; change one of the two", name, config.Prefix, choice)
			default:
				continue
			}
			m = append(m, config.Mistake{Where: config.Prefix + "secret." + s.File, Problem: problem})
		}
	}
	return m
}
