package agent

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

const (
	// firstHold is the longest pause after the first throttled call; each further one doubles it.
	firstHold = 5 * time.Second
	// stsWindow is what STS counts calls by. A pod that STS refuses twice has met a quota that is used up, not a busy moment: if it
	// came back within the same minute it would only be refused again, and keep the account over its quota.
	stsWindow = time.Minute
	// stsSpread is the time after the beginning of STS's next minute in which such pods come back: as early as it can be without all
	// of them coming in the same second.
	stsSpread = 25 * time.Second
	// stsPatience is how many minutes in a row a pod tries. After that there are many times more pods than the quota is for, and it
	// leaves out one minute more for each of them that it has tried, to keep the refusals down.
	stsPatience = 15
	// longestHold bounds every pause, also one that an answer asks for.
	longestHold = 5 * time.Minute
)

// hold keeps all calls of an agent, for whatever secret, from a cloud that has asked for fewer: until the pause is over they
// get the refusal that caused it, without a call. It may be used at the same time by all who read.
type hold struct {
	reader
	directory string // where the pause is kept for the process after this one; "": nowhere
	log       *slog.Logger

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
	asked := min(retryAfter(err), longestHold)
	switch {
	case err == nil && h.refusals == 0:
	case err == nil:
		h.refusals = 0
		h.save()
	case !throttled(err) && asked == 0, time.Now().Before(h.until): // or one of several calls that were under way together
	default:
		// Everybody who is refused at that moment gets the same answer: the jitter comes on top of it.
		h.until = time.Now().Add(asked + backoff(h.refusals, firstHold, longestHold))
		if h.refusals > 0 && refusedBySTS(err) {
			h.until = nextMinute(time.Now().Add(asked), h.refusals)
		}
		h.refusals++
		h.last = err
		h.save()
	}
}

// nextMinute is a moment early in the first of STS's minutes that begins after now; after many refusals, in a later one. Minutes
// are taken to begin where the clock's do. If STS has others the pod is back within a minute and the jitter all the same.
func nextMinute(now time.Time, refusals int) time.Time {
	skipped := rand.N(max(1, min(refusals-stsPatience, int(longestHold/stsWindow))))
	begins := now.Truncate(stsWindow).Add(time.Duration(1+skipped) * stsWindow)
	return now.Add(begins.Sub(now) + rand.N(stsSpread)) // of now, so that it stays as far away if somebody sets the clock
}

// throttled reports whether something in err says that there are too many calls.
func throttled(err error) bool { return slices.ContainsFunc(leaves(err), tooMany) }

func tooMany(err error) bool {
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
