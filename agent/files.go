package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/agent/volume"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A source is one of the secrets that a file is made of.
type source struct {
	alias string // in the file's template; empty if the file has one secret
	ref   kms.Ref
}

// sources are what a file is made of.
func sources(f config.File) []source {
	if len(f.From) == 0 {
		return []source{{ref: kms.Ref{Name: f.Secret, VersionID: f.VersionID, VersionStage: f.VersionStage, RoleARN: f.RoleARN}}}
	}
	var all []source
	for _, from := range f.From {
		all = append(all, source{alias: from.Name, ref: kms.Ref{Name: from.Secret, RoleARN: f.RoleARN}})
	}
	return all
}

// spec is what to make of them.
func spec(f config.File) render.Spec {
	return render.Spec{Format: f.Format, Keys: f.Keys, Template: f.Template}
}

// render makes the files of the values. All that cannot be made is reported together; then there are no files.
func (a *Agent) render(got values) ([]volume.File, error) {
	var files []volume.File
	var errs []error
	variables := map[string]string{}
	for _, f := range a.declared() {
		inputs, origin, err := inputs(f, got)
		switch {
		case err != nil:
			errs = append(errs, err)
			continue
		case inputs == nil:
			continue
		}
		data, err := render.Render(spec(f), inputs...)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s of %s: %w", label(f), origin, err))
			continue
		}
		if name, ok := variable(f); ok {
			if err := holdable(inputs[0], data); err != nil {
				errs = append(errs, fmt.Errorf("%s of %s: %w", label(f), origin, err))
			}
			variables[name] = string(data)
			continue
		}
		files = append(files, volume.File{Path: f.Path, Data: data, Mode: fs.FileMode(f.Mode)})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(variables) > 0 {
		file, err := a.envFile(variables)
		if err != nil {
			return nil, err
		}
		files = append(files, file)
	}
	return files, nil
}

// inputs are the values that a file is made of, and their names and versions in words. A file that is optional has none if
// KMS lacks one of its secrets.
func inputs(f config.File, got values) ([]render.Input, string, error) {
	var all []render.Input
	var origin []string
	var errs []error
	absent := false
	for _, s := range sources(f) {
		v := got[s.ref]
		if v.absent != nil {
			absent = true
			if !f.Optional {
				errs = append(errs, fmt.Errorf("%s: %w", label(f), v.absent))
			}
			continue
		}
		all = append(all, render.Input{Alias: s.alias, Data: v.secret.Data, Binary: v.secret.Binary})
		origin = append(origin, fmt.Sprintf("secret %s, version %s", s.ref.Name, v.secret.VersionID))
	}
	if absent {
		return nil, "", errors.Join(errs...)
	}
	return all, strings.Join(origin, " and "), nil
}
