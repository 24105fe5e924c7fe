package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// stateFile, in a directory in memory that only the agent's containers mount, hands the values over from init to sidecar
// and from a sidecar to the one that replaces it.
const stateFile = "state.json"

// stateFormat changes when an agent could misread what another version wrote. Both come from one image in one pod, so no
// other is ever converted.
const stateFormat = 1

// snapshot is everything that one refresh fetched.
type snapshot struct {
	at     time.Time
	values values
}

// covers reports whether there is an answer to every ref.
func (s snapshot) covers(refs []kms.Ref) bool {
	for _, ref := range refs {
		if _, ok := s.values[ref]; !ok {
			return false
		}
	}
	return true
}

// state is a snapshot as it is written.
type state struct {
	Format  int          `json:"format"`
	Fetched time.Time    `json:"fetched"`
	Secrets []savedValue `json:"secrets"`
}

type savedValue struct {
	Ref    kms.Ref     `json:"ref"`
	Secret *kms.Secret `json:"secret,omitempty"` // nil: KMS had none
	Code   string      `json:"code,omitempty"`   // what KMS said instead
	Status int         `json:"status,omitempty"`
}

// save replaces the state at one moment. Nobody else may read it.
func (s snapshot) save(directory string) error {
	out := state{Format: stateFormat, Fetched: s.at}
	for ref, v := range s.values {
		saved := savedValue{Ref: ref, Secret: &v.secret}
		if v.absent != nil {
			saved.Secret, saved.Code, saved.Status = nil, v.absent.Code, v.absent.Status
		}
		out.Secrets = append(out.Secrets, saved)
	}
	data, err := json.Marshal(out)
	if err != nil {
		return err
	}
	next := filepath.Join(directory, stateFile+".next")
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err := errors.Join(err, file.Close()); err != nil {
		os.Remove(next)
		return err
	}
	return os.Rename(next, filepath.Join(directory, stateFile))
}

// loadSnapshot reads what save wrote; its error is fs.ErrNotExist if there is nothing. No error quotes the state.
func loadSnapshot(directory string) (snapshot, error) {
	data, err := os.ReadFile(filepath.Join(directory, stateFile))
	if err != nil {
		return snapshot{}, err
	}
	var in state
	if json.Unmarshal(data, &in) != nil {
		return snapshot{}, errors.New("the state is damaged")
	}
	if in.Format != stateFormat {
		return snapshot{}, fmt.Errorf("the state has format %d, this agent reads %d", in.Format, stateFormat)
	}
	s := snapshot{at: in.Fetched, values: values{}}
	for _, saved := range in.Secrets {
		if saved.Secret == nil {
			s.values[saved.Ref] = value{absent: &kms.Error{Ref: saved.Ref, Code: saved.Code, Status: saved.Status}}
		} else {
			s.values[saved.Ref] = value{secret: *saved.Secret}
		}
	}
	return s, nil
}
