package agent

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

const (
	// firstHold is the longest pause after the first throttled call; each further one doubles it.
	firstHold = 5 * time.Second
	// stsWindow is what STS counts calls by. Whom it refuses twice has met a quota that is used up, not a busy moment: who came
	// back within the same minute would only be refused again, and be one of those that keep the account over its quota.
	stsWindow = time.Minute
	// longestHold bounds every pause, also one that an answer asks for.
	longestHold = 5 * time.Minute
)

// hold keeps all calls of an agent, for whatever secret, from a cloud that has asked for fewer: until the pause is over they
// get the refusal that caused it, without a call. It may be used at the same time by all who read.
type hold struct {
	reader

	mu       sync.Mutex
	until    time.Time
	refusals int
	last     error
}

func (h *hold) read(ctx context.Context, ref kms.Ref) (kms.Secret, error) {
	if err := h.refuse(ref); err != nil {
		return kms.Secret{}, err
	}
	secret, err := h.reader.read(ctx, ref)
	h.note(err)
	return secret, err
}

// remaining is how long the pause still takes.
func (h *hold) remaining() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return max(0, time.Until(h.until))
}

func (h *hold) refuse(ref kms.Ref) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !time.Now().Before(h.until) {
		return nil
	}
	var refusal *kms.Error
	if errors.As(h.last, &refusal) {
		about := *refusal
		about.Ref = ref
		return &about
	}
	return h.last
}

func (h *hold) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	asked := retryAfter(err)
	switch {
	case err == nil:
		h.refusals = 0
	case !throttled(err) && asked == 0, time.Now().Before(h.until): // or one of several calls that were under way together
	default:
		least, jitter := min(asked, longestHold), backoff(h.refusals, firstHold, longestHold)
		if h.refusals > 0 && refusedBySTS(err) {
			least, jitter = max(least, stsWindow), backoff(h.refusals-1, stsWindow, longestHold)
		}
		// Everybody who is refused at that moment gets the same answer: the jitter comes on top of it.
		h.until = time.Now().Add(least + jitter)
		h.refusals++
		h.last = err
	}
}

// throttled reports whether err says that there are too many calls.
func throttled(err error) bool {
	var gateway *kms.Error
	var sts *identity.Error
	switch {
	case errors.As(err, &gateway):
		return gateway.Status == 429 || gateway.Code == "Rejected.Throttling" || strings.HasPrefix(gateway.Code, "Throttling")
	case errors.As(err, &sts):
		return sts.Code == "HTTP 429" || strings.HasPrefix(sts.Code, "Throttling")
	}
	return false
}

func refusedBySTS(err error) bool {
	var sts *identity.Error
	return errors.As(err, &sts)
}

// retryAfter is the pause that an answer asked for (Retry-After); 0 if it did not.
func retryAfter(err error) time.Duration {
	var hint interface{ RetryAfterHint() time.Duration }
	if !errors.As(err, &hint) {
		return 0
	}
	return max(0, hint.RetryAfterHint())
}
