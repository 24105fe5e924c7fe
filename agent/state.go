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
)

const (
	// stateFile passes the values from init to the sidecar, and from a sidecar to its replacement.
	stateFile = "state.json"
	// roundFile has what the round under way has fetched, so that a restarted container continues it.
	roundFile = "round.json"
	// keepFor is how long what a round has is good for its next attempt, unless the interval is longer: longer than the pauses that the
	// cloud asks for.
	keepFor = 2 * source.LongestPause
)

// snapshot is everything that one refresh fetched.
type snapshot struct {
	At     time.Time `json:"fetched"`      // when KMS gave the oldest of them
	Got    time.Time `json:"got,omitzero"` // when it gave the newest, to a round of several attempts
	Values values    `json:"secrets"`
}

// savedValue is one of the values as it is written, with one of the two.
type savedValue struct {
	Ref    kms.Ref    `json:"ref"`
	Secret kms.Secret `json:"secret,omitzero"`
	Absent *kms.Error `json:"absent,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (v values) MarshalJSON() ([]byte, error) {
	var out []savedValue
	for ref, value := range v {
		out = append(out, savedValue{ref, value.secret, value.absent})
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
		(*v)[saved.Ref] = value{saved.Secret, saved.Absent}
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

// begin is called before each attempt of a round, which is one refresh of all secrets, on what the round has so far. It drops values if
// none was added for too long, so that they are fetched again; as long as some are added the round goes on, however many attempts it takes.
func (s *snapshot) begin(interval time.Duration) {
	lasting := s.Values.lasting()
	last := s.At
	if s.Got.After(last) {
		last = s.Got
	}
	if age := time.Since(last); age < 0 || age > max(keepFor, interval) {
		s.Values = lasting
	}
	if len(s.Values) == len(lasting) {
		s.At = time.Now()
	}
}

// keep saves what the round has for the next process. Without the file that process only makes a few more calls.
func (a *Agent) keep(r snapshot) {
	if err := handover.Write(a.doc.StateDir, roundFile, r); err != nil {
		a.log.Warn("the round cannot be remembered: the next process of the agent begins it anew", logkey.Error, err)
	}
}

// loadRound returns what the round of the process before had.
func (a *Agent) loadRound() (r snapshot) {
	if err := handover.Read(a.doc.StateDir, roundFile, &r); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("the round that is remembered cannot be used: beginning it anew", logkey.Error, err)
		}
		r = snapshot{}
	}
	if r.Values == nil {
		r.Values = values{}
	}
	if len(r.Values) > 0 {
		a.log.Info("going on with what is there", logkey.Secrets, len(r.Values), logkey.Fetched, r.At)
	}
	return r
}
