package agent

import (
	"context"
	"slices"
	"sort"
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

// Hooks are what an Agent calls while it works, where it works: it waits for them, so what takes time belongs into a
// goroutine. A hook may be nil.
type Hooks struct {
	// Attempted is called after every attempt to fetch all secrets and write the files, with its error and how many it wrote.
	Attempted func(written int, err error)
	// Holds is called with all that the agent has when it took over what was remembered, and after each attempt that
	// succeeded. Secrets that KMS does not have are left out. The map is the hook's to keep.
	Holds func(fetched time.Time, secrets map[kms.Ref]kms.Secret)
	// Changed is called after a refresh that changed something, with Run's context. The first files are no change, but those
	// that an agent before fetched and did not come to write are.
	Changed func(context.Context, Refresh)
}

// An Option changes how New makes an Agent.
type Option func(*Agent)

// WithHooks has an Agent call hooks, besides those that it has already.
func WithHooks(hooks Hooks) Option {
	return func(a *Agent) { a.hooks = append(a.hooks, hooks) }
}

// WithReader has an Agent read secrets with read, and ask neither STS nor KMS: for simulations of what time and the cloud do to
// it. What read refuses should be an *identity.Error or a *kms.Error, or it is taken for something that does not pass.
func WithReader(read func(context.Context, kms.Ref) (kms.Secret, error)) Option {
	return func(a *Agent) { a.reader = &hold{reader: readerFunc(read)} }
}

type readerFunc func(context.Context, kms.Ref) (kms.Secret, error)

func (f readerFunc) read(ctx context.Context, ref kms.Ref) (kms.Secret, error) { return f(ctx, ref) }

// attempted tells of an attempt to get the files up to date.
func (a *Agent) attempted(held snapshot, written int, err error) {
	for _, h := range a.hooks {
		if h.Attempted != nil {
			h.Attempted(written, err)
		}
	}
	if err == nil {
		a.holds(held)
	}
}

func (a *Agent) holds(held snapshot) {
	for _, h := range a.hooks {
		if h.Holds == nil {
			continue
		}
		secrets := make(map[kms.Ref]kms.Secret, len(held.values))
		for ref, v := range held.values {
			if v.absent == nil {
				secrets[ref] = v.secret
			}
		}
		h.Holds(held.at, secrets)
	}
}

// changed tells of changes, if there are any. Without before it is not known what there was.
func (a *Agent) changed(ctx context.Context, before values, now snapshot, paths []string) {
	r := Refresh{At: now.at, Files: a.filesChanged(before, now.values, paths)}
	for ref, v := range now.values {
		old, known := before[ref]
		if known && old.secret.VersionID != v.secret.VersionID {
			r.Secrets = append(r.Secrets, NewVersion{ref, v.secret.VersionID, old.secret.VersionID})
		}
	}
	sort.Slice(r.Secrets, func(i, j int) bool { return r.Secrets[i].Ref.String() < r.Secrets[j].Ref.String() })
	for _, s := range r.Secrets {
		a.log.Info("secret has another version", "secret", s.Ref.String(), "version", s.Version, "before", s.PreviousVersion)
	}
	if len(r.Files) == 0 && len(r.Secrets) == 0 {
		return
	}
	for _, h := range a.hooks {
		if h.Changed != nil {
			h.Changed(ctx, r)
		}
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
	sort.SliceStable(all, func(i, j int) bool { return all[i].Path < all[j].Path })
	return all
}
