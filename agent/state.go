package agent

import (
	"encoding/json"
	"errors"
	"io/fs"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const (
	// stateFile passes the values from init to the sidecar, and from a sidecar to its replacement.
	stateFile = "state.json"
	// roundFile has the round under way, so that a restarted container continues it.
	roundFile = "round.json"
	// keepFor is how long a value that one attempt got is good for the later ones of its round: longer than the pauses that the
	// cloud asks for.
	keepFor = 2 * source.LongestPause
)

// snapshot is everything that one refresh fetched.
type snapshot struct {
	At     time.Time `json:"fetched"` // when KMS gave the oldest of them
	Values values    `json:"secrets"`
}

// covers reports whether there is an answer to every ref.
func (s snapshot) covers(refs []kms.Ref) bool {
	for _, ref := range refs {
		if _, ok := s.Values[ref]; !ok {
			return false
		}
	}
	return true
}

// savedValue is one of the values as it is written.
type savedValue struct {
	Ref    kms.Ref     `json:"ref"`
	Secret *kms.Secret `json:"secret,omitempty"` // nil: KMS had none
	Code   string      `json:"code,omitempty"`   // what KMS said instead
	Status int         `json:"status,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (v values) MarshalJSON() ([]byte, error) {
	var out []savedValue
	for ref, value := range v {
		saved := savedValue{Ref: ref, Secret: &value.secret}
		if value.absent != nil {
			saved.Secret, saved.Code, saved.Status = nil, value.absent.Code, value.absent.Status
		}
		out = append(out, saved)
	}
	return json.Marshal(out)
}

// UnmarshalJSON implements json.Unmarshaler.
func (v *values) UnmarshalJSON(text []byte) error {
	var in []savedValue
	if err := json.Unmarshal(text, &in); err != nil {
		return err
	}
	*v = values{}
	for _, saved := range in {
		if saved.Secret == nil {
			(*v)[saved.Ref] = value{absent: &kms.Error{Ref: saved.Ref, Code: saved.Code, Status: saved.Status}}
		} else {
			(*v)[saved.Ref] = value{secret: *saved.Secret}
		}
	}
	return nil
}

// save replaces the state atomically.
func (s snapshot) save(directory string) error {
	return handover.Write(directory, stateFile, s)
}

// loadSnapshot reads what save wrote; its error is fs.ErrNotExist if there is nothing.
func loadSnapshot(directory string) (s snapshot, err error) {
	err = handover.Read(directory, stateFile, &s)
	return s, err
}

// round is one refresh of all secrets, with its attempts and its result.
type round struct {
	snapshot                 // what it has so far
	Interval config.Duration `json:"interval"`      // between two rounds at present; 0: as the document says
	Next     time.Time       `json:"next,omitzero"` // when the secrets are asked for next
}

// begin is called before each attempt. It drops values that are too old, so that they are fetched again.
func (r *round) begin(interval time.Duration) {
	lasting := r.Values.lasting()
	if age := time.Since(r.At); age < 0 || age > max(keepFor, interval) {
		r.Values = lasting
	}
	if len(r.Values) == len(lasting) {
		r.At = time.Now()
	}
}

// save keeps the round for the next process. Without the file that process only makes a few more calls.
func (a *Agent) save(r round) {
	if err := handover.Write(a.doc.StateDir, roundFile, r); err != nil {
		a.log.Warn("the round cannot be remembered: the next process of the agent begins it anew", logkey.Error, err)
	}
}

// loadRound returns the round of the process before, or an empty one.
func (a *Agent) loadRound() (r round) {
	if err := handover.Read(a.doc.StateDir, roundFile, &r); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("the round that is remembered cannot be used: beginning it anew", logkey.Error, err)
		}
		r = round{}
	}
	if r.Values == nil {
		r.Values = values{}
	}
	if len(r.Values) > 0 {
		a.log.Info("going on with what is there", logkey.Secrets, len(r.Values), logkey.Fetched, r.At)
	}
	return r
}
