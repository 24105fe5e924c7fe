package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sort"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const (
	// stateFile hands the values over from init to sidecar and from a sidecar to the one that replaces it.
	stateFile = "state.json"
	// roundFile has the round under way, so that a container which starts again goes on where the one before was.
	roundFile = "round.json"
	// keepFor is how long a value that one attempt got is good for the later ones of its round: longer than the pauses that the
	// cloud asks for.
	keepFor = 2 * source.LongestPause
)

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

// savedSnapshot is a snapshot as it is written.
type savedSnapshot struct {
	Fetched time.Time    `json:"fetched"`
	Secrets []savedValue `json:"secrets"`
}

type savedValue struct {
	Ref    kms.Ref     `json:"ref"`
	Secret *kms.Secret `json:"secret,omitempty"` // nil: KMS had none
	Code   string      `json:"code,omitempty"`   // what KMS said instead
	Status int         `json:"status,omitempty"`
}

func (s snapshot) saved() savedSnapshot {
	out := savedSnapshot{Fetched: s.at}
	for ref, v := range s.values {
		saved := savedValue{Ref: ref, Secret: &v.secret}
		if v.absent != nil {
			saved.Secret, saved.Code, saved.Status = nil, v.absent.Code, v.absent.Status
		}
		out.Secrets = append(out.Secrets, saved)
	}
	return out
}

func (in savedSnapshot) snapshot() snapshot {
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
	return handover.Write(directory, stateFile, s.saved())
}

// loadSnapshot reads what save wrote; its error is fs.ErrNotExist if there is nothing.
func loadSnapshot(directory string) (snapshot, error) {
	var in savedSnapshot
	err := handover.Read(directory, stateFile, &in)
	return in.snapshot(), err
}

// round is one refresh of all secrets, with as many attempts as it takes, and what comes after it.
type round struct {
	snapshot               // what it has so far
	interval time.Duration // between two rounds at present; 0: as the document says
	next     time.Time     // when the secrets are asked for next
}

// savedRound is a round as it is written.
type savedRound struct {
	savedSnapshot
	Interval config.Duration `json:"interval"`
	Next     time.Time       `json:"next,omitzero"`
}

// begin is called before each attempt. What has been there for too long is asked for anew.
func (r *round) begin(interval time.Duration) {
	lasting := r.values.lasting()
	if age := time.Since(r.at); age < 0 || age > max(keepFor, interval) {
		r.values = lasting
	}
	if len(r.values) == len(lasting) {
		r.at = time.Now()
	}
}

// save leaves the round for the process after this one. The file is a convenience: without it there are a few calls more.
func (a *Agent) save(r round) {
	if err := handover.Write(a.doc.StateDir, roundFile, savedRound{r.saved(), config.Duration(r.interval), r.next.UTC()}); err != nil {
		a.log.Warn("the round cannot be remembered: the next process of the agent begins it anew", logkey.Error, err)
	}
}

// loadRound is the round that a process before left, or one that has nothing.
func (a *Agent) loadRound() round {
	var saved savedRound
	if err := handover.Read(a.doc.StateDir, roundFile, &saved); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("the round that is remembered cannot be used: beginning it anew", logkey.Error, err)
		}
		return round{snapshot: snapshot{values: values{}}}
	}
	r := round{saved.snapshot(), time.Duration(saved.Interval), saved.Next}
	if len(r.values) > 0 {
		a.log.Info("going on with what is there", logkey.Secrets, len(r.values), logkey.Fetched, r.at)
	}
	return r
}

// Status is what the pod's agent holds, by what it remembers.
func Status(doc config.Agent) (status.Status, error) {
	held, err := loadSnapshot(doc.StateDir)
	if err != nil {
		return status.Status{Secrets: []status.Secret{}}, fmt.Errorf("the agent holds no secrets yet: %w", err)
	}
	out := held.status()
	var saved savedRound
	if handover.Read(doc.StateDir, roundFile, &saved) == nil { // there is none before the sidecar's first refresh is planned
		out.Interval, out.Next = saved.Interval, saved.Next
	}
	return out, nil
}

func (s snapshot) status() status.Status {
	out := status.Status{Fetched: s.at.UTC(), Secrets: []status.Secret{}}
	for ref, v := range s.values {
		secret := status.Secret{Name: ref.Name, RoleARN: ref.RoleARN}
		if v.absent != nil {
			secret.Version, secret.Absent = ref.VersionID, v.absent.Code
		} else {
			secret.Version, secret.Stages = v.secret.VersionID, v.secret.Stages
		}
		out.Secrets = append(out.Secrets, secret)
	}
	// Not slices.SortFunc, which is 15 kB of program for each type that it sorts.
	sort.Slice(out.Secrets, func(i, j int) bool {
		a, b := out.Secrets[i], out.Secrets[j]
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.RoleARN, b.RoleARN), cmp.Compare(a.Version, b.Version)) < 0
	})
	return out
}

// Probe asks STS and KMS for everything that the pod declares, now, and says what stood in the way; nil is nothing. What they
// answer is thrown away.
func (a *Agent) Probe(ctx context.Context) []status.Problem {
	got := values{}
	err := a.fetch(ctx, got)
	if err == nil {
		_, err = a.render(got) // says which absent secret the pod cannot do without
	}
	if err == nil {
		return nil
	}
	return a.Problems(err)
}
