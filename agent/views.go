package agent

import (
	"errors"
	"fmt"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/agent/volume"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A view is a directory with the files that some of the pod's containers see.
type view struct {
	*volume.Dir
	path string
}

// views are all of a pod. Each is switched at one moment; a container has one.
type views []view

func openViews(doc config.Agent) (views, error) {
	var all views
	for _, path := range append([]string{doc.SecretsDir}, doc.ViewDirs...) {
		dir, err := volume.Open(path)
		if err != nil {
			all.close()
			return nil, fmt.Errorf("open the secrets' directory: %w", err)
		}
		all = append(all, view{dir, path})
	}
	return all, nil
}

func (v views) close() {
	for _, view := range v {
		view.Close()
	}
}

// written reports whether every view has a complete set of files.
func (v views) written() bool {
	return !slices.ContainsFunc(v, func(view view) bool { return !view.Written() })
}

func (v views) sweep() error {
	var errs []error
	for _, view := range v {
		errs = append(errs, view.Sweep())
	}
	return errors.Join(errs...)
}

// write gives each view its files, and returns the paths that changed in any, sorted. A view that cannot be written does not hold
// up the others.
func (v views) write(doc config.Agent, files []volume.File) ([]string, error) {
	narrowed := map[string][]string{}
	for _, f := range doc.Files {
		if len(f.Dirs) > 0 {
			narrowed[f.Path] = f.Dirs
		}
	}
	var changed []string
	var errs []error
	for _, view := range v {
		seen := slices.DeleteFunc(slices.Clone(files), func(f volume.File) bool {
			dirs, few := narrowed[f.Path]
			return few && !slices.Contains(dirs, view.path)
		})
		paths, err := view.Write(seen)
		if err != nil {
			errs = append(errs, fmt.Errorf("write the files in %s: %w", view.path, err))
		}
		changed = append(changed, paths...)
	}
	slices.Sort(changed)
	return slices.Compact(changed), errors.Join(errs...)
}
