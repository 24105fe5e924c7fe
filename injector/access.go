package injector

import (
	"fmt"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// agentID is the user and group of the agent in a pod that does not say who its containers run as: the image's own.
const agentID = 65532

// access is who the agent runs as and, following from that, how narrow its files can be.
type access struct {
	uid, gid int64
	mode     config.FileMode // of files that do not state one

	sameUser  bool // every reader runs as uid
	sameGroup bool // every reader runs with gid as its group
	fsGroup   bool // every reader has the volume's group
}

// accessOf looks at the containers that read the files.
//
// All of one user: the agent is that user, and its files are its own. With fsGroup the volume's directory has that group and the
// setgid bit, and every process of the pod has the group, so that group permission is both enough and needed for nothing
// else. Else, and for root, which no agent may be, files are open to all in a volume that only the readers mount.
func accessOf(pod PodSpec, readers []Container) access {
	user, sameUser := common(readers, pod.SecurityContext.RunAsUser, func(s SecurityContext) *int64 { return s.RunAsUser })
	group, sameGroup := common(readers, pod.SecurityContext.RunAsGroup, func(s SecurityContext) *int64 { return s.RunAsGroup })
	a := access{uid: agentID, gid: agentID, mode: 0o444, fsGroup: pod.SecurityContext.FSGroup != nil}
	if sameUser && user != 0 {
		a.uid, a.sameUser, a.mode = user, true, 0o400
	}
	if sameGroup {
		a.gid, a.sameGroup = group, true
	}
	if a.fsGroup {
		a.mode = 0o440
	}
	return a
}

// common is the id that all containers run with, their own over the pod's, if each states one.
func common(containers []Container, pods *int64, of func(SecurityContext) *int64) (int64, bool) {
	var all *int64
	for _, c := range containers {
		id := of(c.SecurityContext)
		if id == nil {
			id = pods
		}
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

// readable reports whether the readers are known to be able to read a file of this mode. The kernel looks at one class of bits
// alone: the owner's for the owner, else the group's for its members, else the others'.
func (a access) readable(mode config.FileMode) bool {
	switch {
	case a.sameUser:
		return mode&0o400 != 0
	case a.fsGroup || a.sameGroup:
		return mode&0o040 != 0
	}
	return mode&0o004 != 0
}

// warnUnreadable names the files whose own mode shuts out the containers they are for.
func (a access) warnUnreadable(secrets []config.Secret) []string {
	var files []string
	for _, s := range secrets {
		if s.Mode != nil && !a.readable(config.FileMode(*s.Mode)) {
			files = append(files, fmt.Sprintf("%s%s (%04o)", config.Prefix+"secret.", s.File, *s.Mode))
		}
	}
	if len(files) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("by their mode, only the agent (user %d) may be able to read: %s; state the same securityContext.runAsUser for the containers, or an fsGroup and a mode such as 0440",
		a.uid, strings.Join(files, ", "))}
}
