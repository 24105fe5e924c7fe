package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/agent/volume"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// declared are the document's files and, as if each were a file of its own, its variables.
func (a *Agent) declared() []config.File {
	all := slices.Clip(a.doc.Files)
	for _, v := range a.doc.Env {
		f := config.File{Path: config.EnvFile + "/" + v.Name, Secret: v.Secret, Format: config.Raw}
		if v.Key != "" {
			f.Keys = []config.Key{{Name: v.Name, Path: v.Key}}
		}
		all = append(all, f)
	}
	return all
}

// label is a file, or a variable, as its annotation has it.
func label(f config.File) string {
	if name, ok := variable(f); ok {
		return "env." + name
	}
	return "file " + f.Path
}

// variable is the name of the variable that a file stands for, if it does.
func variable(f config.File) (name string, ok bool) {
	return strings.CutPrefix(f.Path, config.EnvFile+"/")
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

// envFile is all variables in the file that kms-agent exec reads.
func (a *Agent) envFile(variables map[string]string) (volume.File, error) {
	data, err := json.Marshal(variables)
	if err != nil {
		return volume.File{}, fmt.Errorf("encode the variables: %w", err)
	}
	return volume.File{Path: config.EnvFile, Data: data, Mode: fs.FileMode(a.doc.EnvMode)}, nil
}
