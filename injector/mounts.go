package injector

import (
	"encoding/binary"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

const mountPathAnnotation = podconfig.Prefix + "mount-path"

// A mountPoint is one of our volumes in a container that reads the files.
type mountPoint struct {
	corev1.VolumeMount
	text       []byte // of the VolumeMount in JSON
	annotation string // that asks for it, or chooses it
	cure       string // what to change if another volume is mounted there
}

func (r *request) mountPoints(container string) []mountPoint {
	volume := r.secretsVolume(container)
	if known, found := r.points[volume]; found {
		return known
	}
	spec := &r.Spec
	var all []mountPoint
	add := func(mount corev1.VolumeMount, annotation, cure string) {
		all = append(all, mountPoint{mount, encodeValue(mount), annotation, cure})
	}
	const move = "move or remove that mount"
	add(corev1.VolumeMount{Name: volume, MountPath: spec.MountPath, ReadOnly: true}, mountPathAnnotation,
		"choose another "+mountPathAnnotation+", or move that mount")
	if spec.API != nil {
		add(apiMount(true), podconfig.Prefix+"api", move)
	}
	if len(spec.Env) > 0 {
		add(programMount(true), variablesAnnotation(spec), move)
	}
	if spec.AppIdentity {
		add(tokenMount(), podconfig.Prefix+"app-identity", move)
	}
	if r.points == nil {
		r.points = map[string][]mountPoint{}
	}
	r.points[volume] = all
	return all
}

// conflicts reports the readers' own mounts that overlap a path which the webhook mounts. Conflicts that depend on the container's image
// are warnings.
func conflicts(r *request, readers []*Container) (m config.Mistakes, warnings []string) {
	for _, p := range r.mountPoints("")[1:] {
		if one, other := throughLink(p.MountPath), throughLink(r.Spec.MountPath); below(one, other) || below(other, one) {
			m.Add(mountPathAnnotation, "%s and %s, where the volume %s is, would be inside each other; choose another %s",
				r.Spec.MountPath, p.MountPath, p.Name, mountPathAnnotation)
		}
	}
	for _, c := range readers {
		for _, p := range r.mountPoints(c.Name) {
			if c.mounts(p.Name) {
				m = append(m, r.leaks(c, p)...)
				continue
			}
			mistakes, unsure := r.conflict(c, p)
			m, warnings = append(m, mistakes...), append(warnings, unsure...)
		}
	}
	return m, warnings
}

func (r *request) conflict(c *Container, p mountPoint) (m config.Mistakes, warnings []string) {
	target := p.MountPath
	for _, mount := range c.VolumeMounts {
		at := mount.path()
		switch {
		case at == target:
			m.Add(p.annotation, "container %s already has the volume %s at %s; %s", short(c.Name), mount.Name, target, p.cure)
		case below(at, target):
			// The runtime would have to make the inner mount's directory in our volume, which is read-only there.
			m.Add(p.annotation, "container %s has the volume %s at %s, inside %s, which is read-only; %s", short(c.Name), mount.Name, at, target,
				p.cure)
		}
	}
	for _, device := range c.VolumeDevices {
		if device.DevicePath == target {
			m.Add(p.annotation, "container %s already has a device at %s; %s", short(c.Name), target, p.cure)
		}
	}
	if at := path.Clean("/" + c.TerminationMessagePath); below(at, target) { // the runtime would have to make the file
		m.Add(p.annotation, "container %s has its terminationMessagePath at %s, inside %s, which is read-only; write another", short(c.Name), at,
			target)
	}
	inside := func(outer Mount, problem string) string {
		return fmt.Sprintf("%s is inside the volume %s of container %s, at %s, %s; %s", target, outer.Name, c.Name, outer.path(), problem, p.cure)
	}
	outer := c.around(target, path.Clean)
	if problem := r.unfit(outer); problem != "" {
		return append(m, config.Mistake{Where: p.annotation, Problem: inside(outer, problem)}), nil
	}
	if linked := c.around(target, throughLink); linked != outer {
		const image = " (in most images /var/run is a link to /run)"
		switch problem := r.unfit(linked); problem {
		case "":
		case propagates:
			m.Add(p.annotation, "%s", inside(linked, problem+image))
		default:
			warnings = append(warnings, p.annotation+": "+inside(linked, problem+image))
		}
	}
	return m, warnings
}

// leaks returns the places of a volume of ours that the container mounts by itself and that the node would see.
func (r *request) leaks(c *Container, p mountPoint) (m config.Mistakes) {
	const most = 20 // each is compared with all mounts
	n := 0
	if !slices.ContainsFunc(c.VolumeMounts, func(m Mount) bool { return m.Propagation == bidirectional }) {
		return nil
	}
	for _, own := range c.VolumeMounts {
		if own.Name != p.Name {
			continue
		}
		if n++; n > most {
			m.Add(p.annotation, "container %s mounts %s at more than %d places; mount the whole volume once", short(c.Name), own.Name, most)
			break
		}
		if outer := c.around(own.path(), throughLink); outer.Propagation == bidirectional {
			m.Add(p.annotation, "container %s mounts %s at %s, inside the volume %s, at %s, %s; move that mount", short(c.Name), own.Name,
				own.path(), outer.Name, outer.path(), propagates)
		}
	}
	return m
}

const (
	bidirectional = "Bidirectional"
	readOnly      = "which is read-only"
	propagates    = "from which mounts propagate to the node (mountPropagation: Bidirectional), where the files would be seen and stay " +
		"after the pod's end"
)

// unfit is why no volume of ours can be mounted inside a mount, "" if it can.
func (r *request) unfit(outer Mount) string {
	v, _ := r.Pod.Spec.volume(outer.Name)
	switch {
	case outer == Mount{}:
		return ""
	case outer.Propagation == bidirectional:
		return propagates
	case v.nests() && !outer.part() && path.IsAbs(outer.MountPath):
		return "" // also if the mount says readOnly; the kubelet compares paths as they are written
	case outer.ReadOnly || v.readOnly() || v.nests():
		return readOnly
	}
	return ""
}

// around is the mount in whose volume a path is, of several the innermost, and no mount if it is in none. Paths are compared as resolve
// makes them.
func (c *Container) around(target string, resolve func(string) string) (outer Mount) {
	target = resolve(target)
	depth := -1
	for _, m := range c.VolumeMounts {
		if at := resolve(m.path()); at != target && below(target, at) && len(at) > depth {
			outer, depth = m, len(at)
		}
	}
	return outer
}

// throughLink returns a clean path in images in which /var/run is a link to /run.
func throughLink(name string) string {
	if below(name, "/var/run") {
		return strings.TrimPrefix(name, "/var")
	}
	return name
}

// warnOwnMounts is for mounts of our volumes that the pod's author wrote, which are left as they are.
func warnOwnMounts(r *request, readers []*Container) []string {
	var warnings []string
	mount := func(c *Container, m Mount, what, cure string) {
		warn(&warnings, "container %s mounts %s at %s %s; %s", short(c.Name), m.Name, m.MountPath, what, cure)
	}
	for _, c := range readers {
		ours := r.secretsVolume(c.Name)
		for _, m := range c.VolumeMounts {
			switch {
			case m.Name != ours:
			case m.part():
				mount(c, m, "by subPath or subPathExpr, which shows what was there at the container's start and follows no refresh",
					"mount the whole volume, or leave the mount to the webhook")
			case !m.ReadOnly:
				mount(c, m, "and could write to it", "add readOnly: true, or leave the mount to the webhook")
			}
		}
	}
	return warnings
}

// below reports whether one clean path is the other or is inside it.
func below(path, top string) bool {
	rest, found := strings.CutPrefix(path, top)
	return found && (rest == "" || rest[0] == '/' || top == "/")
}

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
