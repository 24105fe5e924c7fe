package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/agent/volume"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// declared returns the document's files and, as if each were a file of its own, its variables.
func (a *Agent) declared() []agentconfig.File {
	all := slices.Clip(a.doc.Files)
	for _, v := range a.doc.Env {
		f := agentconfig.File{Path: agentconfig.EnvFile + "/" + v.Name, Secret: v.Secret, Format: config.Raw}
		if v.Key != "" {
			f.Keys = []config.Key{{Name: v.Name, Path: v.Key}}
		}
		all = append(all, f)
	}
	return all
}

// variable returns the name of the variable that a file stands for, if it does.
func variable(f agentconfig.File) (name string, ok bool) {
	return strings.CutPrefix(f.Path, agentconfig.EnvFile+"/")
}

// label names a file or a variable as its annotation does.
func label(f agentconfig.File) string {
	if name, ok := variable(f); ok {
		return "env." + name
	}
	return "file " + f.Path
}

// render makes the files of the values. All that cannot be made is reported together; then there are no files.
func (a *Agent) render(got values) ([]volume.File, error) {
	var files []volume.File
	var errs []error
	variables := map[string]string{}
	for _, f := range a.declared() {
		inputs, err := inputsOf(f, got)
		if err != nil || inputs == nil {
			errs = append(errs, err)
			continue
		}
		name, isVariable := variable(f)
		data, err := render.Render(f.Format, f.Keys, f.Template, inputs...)
		if err == nil && isVariable {
			err = holdable(inputs[0], data)
		}
		switch {
		case err != nil:
			annotation := "secret." + f.Path
			if isVariable {
				annotation = label(f)
			}
			errs = append(errs, &failure.RenderError{Annotation: annotation, Err: fmt.Errorf("%s of %s: %w", label(f), origin(f, got), err)})
		case isVariable:
			variables[name] = string(data)
		default:
			files = append(files, volume.File{Path: f.Path, Data: data, Mode: fs.FileMode(f.Mode)})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(variables) > 0 { // the file that kms-agent exec reads
		data, err := json.Marshal(variables)
		if err != nil {
			return nil, fmt.Errorf("encode the variables: %w", err)
		}
		files = append(files, volume.File{Path: agentconfig.EnvFile, Data: data, Mode: fs.FileMode(a.doc.EnvMode)})
	}
	return files, nil
}

// inputsOf returns the values that a file is made of. A file that is optional has none if KMS lacks one of its secrets.
func inputsOf(f agentconfig.File, got values) ([]render.Input, error) {
	var all []render.Input
	var errs []error
	absent := false
	for i, ref := range refsOf(f) {
		v := got[ref]
		if v.absent != nil {
			absent = true
			if !f.Optional {
				errs = append(errs, fmt.Errorf("%s: %w", label(f), v.absent))
			}
			continue
		}
		input := render.Input{Data: v.secret.Data, Binary: v.secret.Binary}
		if len(f.From) > 0 {
			input.Alias = f.From[i].Name
		}
		all = append(all, input)
	}
	if absent {
		return nil, errors.Join(errs...)
	}
	return all, nil
}

// origin names the secrets of a file and their versions.
func origin(f agentconfig.File, got values) string {
	var all []string
	for _, ref := range refsOf(f) {
		all = append(all, fmt.Sprintf("secret %s, version %s", ref.Name, got[ref].secret.VersionID))
	}
	return strings.Join(all, " and ")
}

// holdable reports why an environment variable cannot hold a value.
func holdable(from render.Input, value []byte) error {
	switch {
	case from.Binary:
		return errors.New("the secret is binary, which an environment variable cannot hold; use a file")
	case bytes.IndexByte(value, 0) >= 0:
		return errors.New("the value has a NUL character in it, which an environment variable cannot hold; use a file")
	}
	return nil
}

// views are the directories of a pod, each with the files that some of its containers see. Each is switched at one moment; a container
// has one.
type views []*volume.Dir

func openViews(doc agentconfig.Config) (views, error) {
	var all views
	for _, path := range append([]string{doc.SecretsDir}, doc.ViewDirs...) {
		dir, err := volume.Open(path)
		if err != nil {
			all.close()
			return nil, fmt.Errorf("open the secrets' directory: %w", err)
		}
		all = append(all, dir)
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
	return !slices.ContainsFunc(v, func(view *volume.Dir) bool { return !view.Written() })
}

func (v views) sweep() error {
	var errs []error
	for _, view := range v {
		errs = append(errs, view.Sweep())
	}
	return errors.Join(errs...)
}

// write gives each view its files, and returns the paths that changed in any, sorted, and what is to be said of views that have no
// room for another set beside the one that they have now. A view that cannot be written does not hold up the others.
func (v views) write(doc agentconfig.Config, files []volume.File) (changed, crowded []string, err error) {
	narrowed := map[string][]string{}
	for _, f := range doc.Files {
		if len(f.Dirs) > 0 {
			narrowed[f.Path] = f.Dirs
		}
	}
	var errs []error
	for _, view := range v {
		seen := slices.DeleteFunc(slices.Clone(files), func(f volume.File) bool {
			dirs, few := narrowed[f.Path]
			return few && !slices.Contains(dirs, view.Path())
		})
		paths, err := view.Write(seen)
		changed = append(changed, paths...)
		size, room := view.Sizes(seen)
		switch {
		case errors.Is(err, syscall.ENOSPC):
			errs = append(errs, fmt.Errorf("write the files in %s: %w: %s of files, and as much again while they change, do not fit %s",
				view.Path(), err, megabytes(size), megabytes(room)))
		case err != nil:
			errs = append(errs, fmt.Errorf("write the files in %s: %w", view.Path(), err))
		case room > 0 && 2*size > room:
			crowded = append(crowded, fmt.Sprintf("%s: a change of all its files will not fit: %s of files, and as much again while they "+
				"change, in a volume of %s; have the administrator raise agent.volumeSize, or ask for fewer files",
				view.Path(), megabytes(size), megabytes(room)))
		}
	}
	slices.Sort(changed)
	return slices.Compact(changed), crowded, errors.Join(errs...)
}

// megabytes returns a size as the administrator writes it, with one digit more.
func megabytes(bytes int64) string {
	return strconv.FormatFloat(float64(bytes)/(1<<20), 'f', 1, 64) + "Mi"
}
