package injector

import (
	"fmt"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const mountPathAnnotation = config.Prefix + "mount-path"

// A place is one of our volumes in a container that reads the files.
type place struct {
	Mount
	annotation string // that asks for it, or chooses it
	cure       string // for whoever has something else there
}

func (r *Request) places(container string) []place {
	spec := &r.Spec
	const move = "move or remove that mount"
	all := []place{{
		Mount{Name: r.secretsVolume(container), MountPath: spec.MountPath, ReadOnly: true},
		mountPathAnnotation, "choose another " + mountPathAnnotation + ", or move that mount",
	}}
	if spec.API != nil {
		all = append(all, place{apiMount(true), config.Prefix + "api", move})
	}
	if len(spec.Env) > 0 {
		all = append(all, place{programMount(true), variablesAnnotation(spec), move})
	}
	if spec.AppIdentity {
		all = append(all, place{tokenMount(), config.Prefix + "app-identity", move})
	}
	return all
}

// conflicts are mounts of the readers' own that stand where ours must be, that ours would hide or make impossible to set up.
func conflicts(r *Request, readers []Container) config.Mistakes {
	var m config.Mistakes
	for _, p := range r.places("")[1:] {
		if below(p.MountPath, r.Spec.MountPath) || below(r.Spec.MountPath, p.MountPath) {
			m = append(m, config.Mistake{Where: mountPathAnnotation, Problem: fmt.Sprintf(
				"%s and %s, where the volume %s is, would be inside each other; choose another %s", r.Spec.MountPath, p.MountPath, p.Name, mountPathAnnotation)})
		}
	}
	for _, c := range readers {
		for _, p := range r.places(c.Name) {
			if !c.mounts(p.Name) {
				m = append(m, r.conflict(c, p)...)
			}
		}
	}
	return m
}

func (r *Request) conflict(c Container, p place) config.Mistakes {
	var m config.Mistakes
	target := p.MountPath
	for _, mount := range c.VolumeMounts {
		at := mount.path()
		switch {
		case at == target:
			m = append(m, config.Mistake{Where: p.annotation, Problem: fmt.Sprintf(
				"container %s already has the volume %s at %s; %s", c.Name, mount.Name, target, p.cure)})
		case below(at, target):
			// The runtime would have to make the inner mount's directory in our volume, which is read-only there.
			m = append(m, config.Mistake{Where: p.annotation, Problem: fmt.Sprintf(
				"container %s has the volume %s at %s, inside %s, which is read-only; %s", c.Name, mount.Name, at, target, p.cure)})
		case below(target, at):
			if v, _ := r.Pod.Spec.volume(mount.Name); mount.ReadOnly || v.readOnly() {
				m = append(m, config.Mistake{Where: p.annotation, Problem: fmt.Sprintf(
					"%s is inside the volume %s of container %s, at %s, which is read-only; %s", target, mount.Name, c.Name, at, p.cure)})
			}
		}
	}
	return m
}

// warnOwnMounts is for mounts of our volumes that the pod's author wrote, which are left as they are.
func warnOwnMounts(r *Request, readers []Container) []string {
	var warnings []string
	warn := func(c Container, m Mount, what, cure string) {
		warnings = append(warnings, fmt.Sprintf("container %s mounts %s at %s %s; %s", c.Name, m.Name, m.MountPath, what, cure))
	}
	for _, c := range readers {
		ours := r.secretsVolume(c.Name)
		for _, m := range c.VolumeMounts {
			switch {
			case m.Name != ours:
			case m.SubPath != "":
				warn(c, m, "by subPath, which shows what was there at the container's start and follows no refresh", "mount the whole volume, or leave the mount to the webhook")
			case !m.ReadOnly:
				warn(c, m, "and could write to it", "add readOnly: true, or leave the mount to the webhook")
			}
		}
	}
	return warnings
}

// below reports whether one clean path is the other or is inside it.
func below(path, top string) bool {
	return path == top || top == "/" || strings.HasPrefix(path, top+"/")
}
