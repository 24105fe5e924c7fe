package source

import (
	"errors"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
)

const (
	// firstPause is the longest pause after the first throttled call; each further one doubles it.
	firstPause = 5 * time.Second
	// stsWindow is what STS counts calls by. A pod that STS refuses twice has met a quota that is used up, not a busy moment: if it
	// came back within the same minute it would only be refused again, and keep the account over its quota.
	stsWindow = time.Minute
	// stsSpread is the time after the beginning of STS's next minute in which such pods come back: as early as it can be without all
	// of them coming in the same second.
	stsSpread = 25 * time.Second
	// stsPatience is how many minutes in a row a pod tries. After that there are many times more pods than the quota is for, and it
	// leaves out one minute more for each of them that it has tried, to keep the refusals down.
	stsPatience = 15
	// LongestPause bounds every pause, also one that an answer asks for.
	LongestPause = 5 * time.Minute
)

// The files that one process of the agent leaves for the next.
const (
	PauseFile    = "pause.json"    // the pause under way, so that a container which starts again is not back too soon
	SessionsFile = "sessions.json" // the sessions, so that it needs no exchange
)

// throttle keeps all calls of an agent, for whatever secret, from a cloud that has asked for fewer: until the pause is over they
// get the refusal that caused it, without a call. It is safe for concurrent use.
type throttle struct {
	directory string // where the pause is kept for the process after this one; "": nowhere
	log       *slog.Logger

	mu       sync.Mutex
	until    time.Time
	refusals int
	last     error
}

// Remaining returns the rest of the pause.
func (t *throttle) Remaining() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return max(0, time.Until(t.until))
}

func (t *throttle) refuse(ref kms.Ref) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !time.Now().Before(t.until) {
		return nil
	}
	if refusal, ok := errors.AsType[*kms.Error](t.last); ok {
		about := *refusal
		about.Ref = ref
		return &about
	}
	return t.last
}

func (t *throttle) note(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	asked := min(failure.RetryAfter(err), LongestPause)
	switch {
	case err == nil && (t.refusals == 0 || time.Now().Before(t.until)): // the latter began before the pause
	case err == nil:
		t.refusals = 0
		t.save()
	case !failure.Throttled(err) && asked == 0, time.Now().Before(t.until): // or one of several calls that were under way together
	default:
		// All agents that are refused at that moment get the same answer: the jitter comes on top of it.
		t.until = time.Now().Add(asked + pause.UpTo(pause.Doubled(firstPause, t.refusals, LongestPause)))
		if _, sts := errors.AsType[*identity.Error](err); sts && t.refusals > 0 {
			t.until = nextMinute(time.Now().Add(asked), t.refusals)
		}
		t.refusals++
		t.last = err
		t.save()
	}
}

// nextMinute returns a moment early in the first of STS's minutes that begins after now; after many refusals, in a later one. Minutes
// are taken to begin where the clock's do. If STS has others the pod is back within a minute and the jitter all the same.
func nextMinute(now time.Time, refusals int) time.Time {
	skipped := rand.N(max(1, min(refusals-stsPatience, int(LongestPause/stsWindow))))
	begins := now.Truncate(stsWindow).Add(time.Duration(1+skipped) * stsWindow)
	return now.Add(begins.Sub(now) + rand.N(stsSpread)) // of now, so that it stays as far away if the clock is set
}

// savedPause is a throttle as it is written, with the refusal in one of the two.
type savedPause struct {
	Until    time.Time       `json:"until"`
	Refusals int             `json:"refusals"`
	STS      *identity.Error `json:"sts,omitempty"`
	KMS      *kms.Error      `json:"kms,omitempty"`
}

// resume takes over the pause that a process before left in a directory, and leaves its own there.
func (t *throttle) resume(directory string, log *slog.Logger) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.directory, t.log = directory, log
	var p savedPause
	if err := handover.Read(directory, PauseFile, &p); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("the pause that is remembered cannot be used: asking at once", logkey.Error, err)
		}
		return
	}
	switch {
	case p.STS != nil:
		t.last = p.STS
	case p.KMS != nil:
		if p.KMS.Code == "" {
			p.KMS.Err = errors.New(p.KMS.Message)
		}
		t.last = p.KMS
	default:
		return
	}
	t.refusals = p.Refusals
	remaining := min(time.Until(p.Until), 2*LongestPause) // if it is more, the clock has been set back since
	if t.until = time.Now().Add(remaining); remaining > 0 {
		log.Info("the pause that STS or KMS asked for goes on", logkey.In, remaining.String(), logkey.Error, t.last)
	}
}

// save is called with mu held.
func (t *throttle) save() {
	if t.directory == "" {
		return
	}
	if t.refusals == 0 {
		handover.Remove(t.directory, PauseFile)
		return
	}
	p := savedPause{Until: t.until, Refusals: t.refusals}
	if refusal, ok := errors.AsType[*kms.Error](t.last); ok {
		about := *refusal
		if about.Err != nil { // an interface, which cannot be decoded again
			about.Message, about.Err = about.Err.Error(), nil
		}
		p.KMS = &about
	} else if !errors.As(t.last, &p.STS) {
		return
	}
	if err := handover.Write(t.directory, PauseFile, p); err != nil {
		t.log.Warn("the pause cannot be remembered", logkey.Error, err)
	}
}
