package agent

import (
	"errors"
	"io/fs"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const (
	// roundFile has the round under way, so that a container which starts again goes on where the one before was.
	roundFile = "round.json"
	// keepFor is how long a value that one attempt got is good for the later ones of its round: longer than the pauses that the
	// cloud asks for.
	keepFor = 2 * longestHold
)

// round is one refresh of all secrets, with as many attempts as it takes, and what comes after it.
type round struct {
	snapshot               // what it has so far
	interval time.Duration // between two rounds at present; 0: as the document says
	next     time.Time     // when the secrets are asked for next
}

// savedRound is a round as it is written.
type savedRound struct {
	state
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
	if err := handover.Write(a.doc.StateDir, roundFile, savedRound{r.state(), config.Duration(r.interval), r.next.UTC()}); err != nil {
		a.log.Warn("the round cannot be remembered: the next process of the agent begins it anew", "error", err)
	}
}

// loadRound is the round that a process before left, or one that has nothing.
func (a *Agent) loadRound() round {
	var saved savedRound
	if err := handover.Read(a.doc.StateDir, roundFile, &saved); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			a.log.Warn("the round that is remembered cannot be used: beginning it anew", "error", err)
		}
		return round{snapshot: snapshot{values: values{}}}
	}
	r := round{saved.snapshot(), time.Duration(saved.Interval), saved.Next}
	if len(r.values) > 0 {
		a.log.Info("going on with what is there", "secrets", len(r.values), "fetched", r.at)
	}
	return r
}
