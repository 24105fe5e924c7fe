package injector

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// agentID is the user and group of the agent's image, for pods that do not set runAsUser.
const agentID = 65532

// permissions are the user and group that the agent runs as, and how narrow the modes of its files can be.
type permissions struct {
	pod      SecurityContext
	uid, gid int64
	mode     agentconfig.FileMode // of files that do not state one

	sameUser bool // every reader runs as uid
	fsGroup  bool // every reader has the volume's group
}

// permissionsOf looks at the containers that read the files.
//
// If all of them run as one user, apart from those that read any file as root, the agent runs as that user and owns the files. With
// fsGroup, the volume's directory has that group and the setgid bit, and every process of the pod has the group, so that group permission
// is enough for readers of several users. Otherwise, and for root, which no agent may be, the files are open to all users, in a volume
// that only the readers mount. The kubelet changes modes once, when it makes the volume, before there is a file in it:
// https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/volume/emptydir/empty_dir.go (SetUpAt)
func permissionsOf(pod *PodSpec, readers []*Container) permissions {
	a := permissions{pod: pod.SecurityContext, uid: agentID, gid: agentID, mode: 0o444, fsGroup: pod.SecurityContext.FSGroup != nil}
	if a.fsGroup {
		a.mode = 0o440
	}
	bound := a.modeReaders(readers)
	if user, same := a.user(bound); same && user != 0 {
		a.uid, a.sameUser, a.mode = user, len(bound) == len(readers), 0o400
	}
	if group, same := common(bound, pod.SecurityContext.RunAsGroup, func(s *SecurityContext) *int64 { return s.RunAsGroup }); same {
		a.gid = group
	}
	return a
}

// modeReaders returns the readers to which a file's mode matters: all but those that read any file as root, unless there are no others.
func (a *permissions) modeReaders(readers []*Container) []*Container {
	rest := slices.DeleteFunc(slices.Clone(readers), a.readsAll)
	if len(rest) == 0 {
		return readers
	}
	return rest
}

// readsAll reports whether a container's processes can read any file: root can, unless the capability for it is dropped.
func (a *permissions) readsAll(c *Container) bool {
	user := a.userOf(c)
	return user != nil && *user == 0 && c.SecurityContext.override()
}

// user returns the user that all containers run as, if each states it.
func (a *permissions) user(containers []*Container) (int64, bool) {
	return common(containers, a.pod.RunAsUser, func(s *SecurityContext) *int64 { return s.RunAsUser })
}

// common returns the id that all containers run with, their own over the pod's, if each states one.
func common(containers []*Container, pods *int64, of func(*SecurityContext) *int64) (int64, bool) {
	var all *int64
	for _, c := range containers {
		id := cmp.Or(of(&c.SecurityContext), pods)
		if id == nil || (all != nil && *all != *id) {
			return 0, false
		}
		all = id
	}
	if all == nil {
		return 0, false
	}
	return *all, true
}

// reads reports whether a container can certainly read a file of this mode. The kernel checks one class of bits: the owner's for the
// owner, else the group's for its members, else the others'. Root is exempt.
func (a *permissions) reads(c *Container, mode agentconfig.FileMode) bool {
	user, group := a.userOf(c), cmp.Or(c.SecurityContext.RunAsGroup, a.pod.RunAsGroup)
	switch {
	case user != nil && *user == a.uid:
		return mode&0o400 != 0
	case a.readsAll(c):
		return true
	case a.fsGroup || group != nil && *group == a.gid:
		return mode&0o040 != 0
	}
	return mode&0o004 != 0
}

// unreadable reports the files whose own mode shuts out a container that they are for.
func (a *permissions) unreadable(r *request, readers []*Container) (mistakes config.Mistakes, warnings []string) {
	for _, s := range r.Spec.Secrets {
		if s.Mode == nil {
			continue
		}
		i := slices.IndexFunc(readers, func(c *Container) bool {
			return s.Shows(c.Name) && !a.reads(c, agentconfig.FileMode(*s.Mode))
		})
		if i < 0 {
			continue
		}
		r.refuse(&mistakes, &warnings, podconfig.Prefix+"secret."+s.File, fmt.Sprintf("mode %04o: container %s could not read the file, which "+
			"is user %d's: it %s; remove mode, or %s", *s.Mode, short(readers[i].Name), a.uid, a.runsAs(readers[i]), strictly))
	}
	return mistakes, warnings
}

// refuse adds a mistake about a container. In a pod that was injected before it is a warning: another webhook added the container, and a
// mistake would keep the pods from starting.
func (r *request) refuse(mistakes *config.Mistakes, warnings *[]string, annotation, problem string) {
	if injected(&r.Pod.Spec) {
		warn(warnings, "%s: %s", annotation, problem)
		return
	}
	mistakes.Add(annotation, "%s", problem)
}

// warn adds a warning, up to a number that a user can still read.
func warn(warnings *[]string, format string, args ...any) {
	const most = 50
	if len(*warnings) < most {
		*warnings = append(*warnings, fmt.Sprintf(format, args...))
	}
}

// strictly and stricter are how to have files that are not open to everybody.
const (
	strictly = "state one securityContext.runAsUser, not 0, for all containers with the files, or the pod's fsGroup and a mode such as 0440"
	stricter = "state one securityContext.runAsUser, not 0, for all of them (0400), or the pod's fsGroup (0440)"
)

// warnOpen says why the files are open to all users of the containers that mount them, and how to change that.
func (a *permissions) warnOpen(spec *podconfig.Spec, readers []*Container) []string {
	if a.mode != 0o444 || len(spec.Env) == 0 && !slices.ContainsFunc(spec.Secrets, func(s podconfig.Secret) bool { return s.Mode == nil }) {
		return nil
	}
	var unstated, stated []string
	readers = a.modeReaders(readers)
	for _, c := range readers {
		if user := a.userOf(c); user == nil {
			unstated = append(unstated, c.Name)
		} else {
			stated = append(stated, fmt.Sprintf("%s %d", c.Name, *user))
		}
	}
	why := "they run as root, which the agent may not"
	switch _, same := a.user(readers); {
	case len(unstated) > 0:
		why = "no runAsUser is stated for " + some(unstated)
	case !same:
		why = "they run as different users, " + some(stated)
	}
	return []string{"files are 0444, open to every process of the containers that mount them: " + why + "; to be stricter, " + stricter}
}

// maxSome is the most items of a list that a message is made from.
const maxSome = 8

// some returns the first items of a list, for a message.
func some(list []string) string {
	shown := make([]string, 0, maxSome)
	for _, item := range list[:min(len(list), maxSome)] {
		shown = append(shown, short(item))
	}
	said := strings.Join(shown, ", ")
	if more := len(list) - len(shown); more > 0 {
		said += fmt.Sprintf(" and %d more", more)
	}
	return said
}

// short cuts a name to the longest that Kubernetes allows, for a message.
func short(name string) string {
	const most = 253
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}

// userOf returns the user that a container's processes run as, nil if the pod does not set it.
func (a *permissions) userOf(c *Container) *int64 {
	return cmp.Or(c.SecurityContext.RunAsUser, a.pod.RunAsUser)
}

func (a *permissions) runsAs(c *Container) string {
	if user := a.userOf(c); user != nil {
		return fmt.Sprintf("runs as user %d", *user)
	}
	return "states no runAsUser"
}
