package agent

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/agent/volume"
)

// render makes the files of the values. All that cannot be made is reported together; then there are no files.
func (a *Agent) render(got values) ([]volume.File, error) {
	var files []volume.File
	var errs []error
	for _, f := range a.doc.Files {
		v := got[kms.Ref{Name: f.Secret, VersionID: f.VersionID, VersionStage: f.VersionStage}]
		if v.absent != nil {
			if !f.Optional {
				errs = append(errs, fmt.Errorf("file %s: %w", f.Path, v.absent))
			}
			continue
		}
		data, err := render.Render(f.Format, f.Keys, v.secret.Data, v.secret.Binary)
		if err != nil {
			errs = append(errs, fmt.Errorf("file %s of secret %s, version %s: %w", f.Path, f.Secret, v.secret.VersionID, err))
			continue
		}
		files = append(files, volume.File{Path: f.Path, Data: data, Mode: fs.FileMode(f.Mode)})
	}
	return files, errors.Join(errs...)
}
