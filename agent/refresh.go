package agent

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/notify"
)

// A Refresh is what one refresh has changed.
type Refresh struct {
	At      time.Time     // when the values were fetched
	Files   []notify.File // those with another content, sorted by path; they are in place
	Secrets []NewVersion  // those with another version, whether it changes a file or not
}

// A NewVersion is a secret that has another version than the last time.
type NewVersion struct {
	Ref             kms.Ref
	Version         string // empty: it is gone
	PreviousVersion string // empty: it was not there
}

// An Option changes how New makes an Agent.
type Option func(*Agent)

// WithObserver has an Agent call f after each refresh that changed something, with Run's context, which ends with the agent.
// The first files are no change, but files that another agent fetched and was ended before writing are. Run waits for f:
// what takes time belongs into a goroutine.
func WithObserver(f func(context.Context, Refresh)) Option {
	return func(a *Agent) { a.observers = append(a.observers, f) }
}

// observed tells the observers, if there is something to tell. Without before it is not known what there was.
func (a *Agent) observed(ctx context.Context, before values, now snapshot, paths []string) {
	r := Refresh{At: now.at, Files: a.filesChanged(before, now.values, paths)}
	for ref, v := range now.values {
		old, known := before[ref]
		if known && old.secret.VersionID != v.secret.VersionID {
			r.Secrets = append(r.Secrets, NewVersion{ref, v.secret.VersionID, old.secret.VersionID})
		}
	}
	slices.SortFunc(r.Secrets, func(x, y NewVersion) int { return cmp.Compare(x.Ref.String(), y.Ref.String()) })
	for _, s := range r.Secrets {
		a.log.Info("secret has another version", "secret", s.Ref.String(), "version", s.Version, "before", s.PreviousVersion)
	}
	if len(r.Files) == 0 && len(r.Secrets) == 0 {
		return
	}
	for _, f := range a.observers {
		f(ctx, r)
	}
}

// filesChanged adds to paths which of their secrets changed them.
func (a *Agent) filesChanged(before, now values, paths []string) []notify.File {
	var all []notify.File
	for _, f := range a.doc.Files {
		if !slices.Contains(paths, f.Path) {
			continue
		}
		first := len(all)
		for _, s := range sources(f) {
			file := notify.File{
				Path: f.Path, Secret: s.ref.Name, Version: now[s.ref].secret.VersionID, PreviousVersion: before[s.ref].secret.VersionID,
			}
			if file.Version != file.PreviousVersion {
				all = append(all, file)
			}
		}
		if len(all) == first { // the versions are the same, but the file was another, or gone
			s := sources(f)[0].ref
			version := now[s].secret.VersionID
			all = append(all, notify.File{Path: f.Path, Secret: s.Name, Version: version, PreviousVersion: version})
		}
	}
	slices.SortStableFunc(all, func(x, y notify.File) int { return cmp.Compare(x.Path, y.Path) })
	return all
}
