package agent

import (
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// stateFile hands the values over from init to sidecar and from a sidecar to the one that replaces it.
const stateFile = "state.json"

// snapshot is everything that one refresh fetched.
type snapshot struct {
	at     time.Time // when KMS gave the oldest of them
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
	Fetched time.Time    `json:"fetched"`
	Secrets []savedValue `json:"secrets"`
}

type savedValue struct {
	Ref    kms.Ref     `json:"ref"`
	Secret *kms.Secret `json:"secret,omitempty"` // nil: KMS had none
	Code   string      `json:"code,omitempty"`   // what KMS said instead
	Status int         `json:"status,omitempty"`
}

// state is s as it is written.
func (s snapshot) state() state {
	out := state{Fetched: s.at}
	for ref, v := range s.values {
		saved := savedValue{Ref: ref, Secret: &v.secret}
		if v.absent != nil {
			saved.Secret, saved.Code, saved.Status = nil, v.absent.Code, v.absent.Status
		}
		out.Secrets = append(out.Secrets, saved)
	}
	return out
}

// snapshot is what was written as in.
func (in state) snapshot() snapshot {
	s := snapshot{at: in.Fetched, values: values{}}
	for _, saved := range in.Secrets {
		if saved.Secret == nil {
			s.values[saved.Ref] = value{absent: &kms.Error{Ref: saved.Ref, Code: saved.Code, Status: saved.Status}}
		} else {
			s.values[saved.Ref] = value{secret: *saved.Secret}
		}
	}
	return s
}

// save replaces the state at one moment.
func (s snapshot) save(directory string) error {
	return handover.Write(directory, stateFile, s.state())
}

// loadSnapshot reads what save wrote; its error is fs.ErrNotExist if there is nothing.
func loadSnapshot(directory string) (snapshot, error) {
	var in state
	err := handover.Read(directory, stateFile, &in)
	return in.snapshot(), err
}
