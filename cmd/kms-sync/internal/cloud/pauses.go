package cloud

import (
	"errors"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
)

const (
	// firstPause is the longest pause after the first refusal that asks for fewer calls; each further one doubles it.
	firstPause   = 5 * time.Second
	longestPause = 5 * time.Minute
	// longestRejection is that after sessions and access keys that are not taken, which may be replaced at any time.
	longestRejection = 30 * time.Second
	// enough calls in a row without an answer are an outage: the next ones are made after firstOutage, doubled to longestOutage.
	enough        = 5
	firstOutage   = time.Second
	longestOutage = 30 * time.Second
	// probe is how long the rest goes on for all others when it is over for one, whose call is to tell whether the outage is.
	probe = 10 * time.Second
)

// A rest is a time without calls, and why. It is safe for concurrent use.
type rest struct {
	mu      sync.Mutex
	until   time.Time
	times   int // in a row
	last    error
	probing bool // one call is made while all others rest
}

// wait returns a Wait until the rest is over, nil afterwards.
func (r *rest) wait(why string) *Wait {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.left(why)
}

// left is called with mu held.
func (r *rest) left(why string) *Wait {
	left := time.Until(r.until)
	if left <= 0 {
		return nil
	}
	return &Wait{After: left + pause.UpTo(time.Second), Why: why, Err: r.last}
}

// enter is wait for a call that is made if it returns nil: after an outage it is the only one until its outcome is known.
func (r *rest) enter(why string) *Wait {
	r.mu.Lock()
	defer r.mu.Unlock()
	wait := r.left(why)
	if wait == nil && r.times >= enough {
		r.until, r.probing = time.Now().Add(probe), true
	}
	return wait
}

// about has a Wait say of the caller's own secret, or role, what the last call was answered: others share the rest, and what they read as
// which role is not the caller's to know.
func (w *Wait) about(ref kms.Ref, role string) *Wait {
	if last, gateway := errors.AsType[*kms.Error](w.Err); gateway {
		own := *last
		own.Ref, w.Err = ref, &own
	}
	if last, sts := errors.AsType[*identity.Error](w.Err); sts {
		w.Err = &identity.Error{Action: last.Action, Host: last.Host, RoleARN: role, Code: last.Code, Message: last.Message, Err: last.Err}
	}
	return w
}

// throttled notes the outcome of a call of one identity. It rests when the cloud asks for fewer calls, and when it does not take the
// identity's sessions, which would cost an exchange for each call.
func (r *rest) throttled(err error) {
	var refusal *kms.Error
	rejected := errors.As(err, &refusal) && refusal.Class() == kms.CredentialsRejected
	r.mu.Lock()
	defer r.mu.Unlock()
	asked, limit := min(failure.RetryAfter(err), longestPause), longestPause
	if rejected {
		limit = longestRejection
	}
	switch {
	case err == nil:
		r.times, r.last = 0, nil
	case !failure.Throttled(err) && asked == 0 && !rejected, time.Now().Before(r.until): // or one of several that were under way together
	default:
		r.until = time.Now().Add(asked + pause.UpTo(pause.Doubled(firstPause, r.times, limit)))
		r.times++
		r.last = err
	}
}

// answered notes the outcome of a call of any identity.
func (r *rest) answered(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !unanswered(err) {
		r.times, r.last, r.until, r.probing = 0, nil, time.Time{}, false
		return
	}
	r.times++
	if r.probing {
		r.times += enough - 1 // it stands for those that would have been made
	}
	r.last = err
	if r.times >= enough && (r.probing || !time.Now().Before(r.until)) {
		r.probing = false
		r.until = time.Now().Add(pause.NearlyUpTo(pause.Doubled(firstOutage, (r.times-enough)/enough, longestOutage)))
	}
}

// unanswered reports whether a service is out of order or out of reach.
func unanswered(err error) bool {
	var gateway *kms.Error
	var sts *identity.Error
	switch {
	case failure.Throttled(err):
		return false
	case errors.As(err, &gateway):
		return gateway.Class() == kms.Retryable
	case errors.As(err, &sts):
		return sts.Retryable()
	}
	return false
}
