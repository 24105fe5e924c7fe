package source

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// asking is an error that came with Retry-After.
type asking struct {
	error
	wait time.Duration
}

func (e asking) RetryAfterHint() time.Duration { return e.wait }
func (e asking) Unwrap() error                 { return e.error }

var throttling = &kms.Error{Status: http.StatusTooManyRequests, Code: "Rejected.Throttling"}

// cloud gives every secret, or refuses it.
type cloud struct {
	asked int
	err   error
}

func (c *cloud) Read(context.Context, kms.Ref) (kms.Secret, error) {
	c.asked++
	return kms.Secret{}, c.err
}

func (c *cloud) ReadAll(context.Context, []kms.Ref) ([]kms.Secret, error) {
	return nil, errors.ErrUnsupported
}

func (c *cloud) CloseIdleConnections() {}

// One throttled call is a pause for all secrets, without calls, and it grows.
func TestThrottlingPausesAllSecrets(t *testing.T) {
	for name, refusal := range map[string]error{
		"KMS": throttling, "user": &kms.Error{Status: 400, Code: "Throttling.User"}, "STS": &identity.Error{Code: "Throttling.Api"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &cloud{err: refusal}
				h := New(c, &identity.Sessions{}, nil)
				for second := range 3600 {
					for _, secret := range []string{"a", "b"} {
						held := h.Remaining() > 0
						_, err := h.Read(t.Context(), kms.Ref{Name: secret})
						if !failure.Throttled(err) {
							t.Fatalf("second %d: %v", second, err)
						}
						var about *kms.Error
						if held && errors.As(err, &about) && about.Ref.Name != secret {
							t.Fatalf("asked for %s: %v", secret, err)
						}
					}
					time.Sleep(time.Second)
				}
				if n := c.asked; n < 10 || n > 90 {
					t.Errorf("%d calls in an hour", n)
				}
				c.err = nil
				time.Sleep(h.Remaining())
				if _, err := h.Read(t.Context(), kms.Ref{Name: "a"}); err != nil || h.refusals != 0 {
					t.Errorf("after the pause: %v, %d refusals", err, h.refusals)
				}
			})
		})
	}
}

// Calls that were under way together are one refusal.
// A call that began before the pause and succeeds in it ends no pause, also not for the next process.
func TestSuccessOfACallUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		directory := t.TempDir()
		var before, after throttle
		before.resume(directory, slog.New(slog.DiscardHandler))
		before.note(asking{throttling, 4 * time.Minute})
		before.note(nil)
		after.resume(directory, slog.New(slog.DiscardHandler))
		if before.Remaining() < 4*time.Minute || after.Remaining() < 4*time.Minute {
			t.Errorf("%s, and %s of the next process", before.Remaining(), after.Remaining())
		}
	})
}

func TestThrottleCountsABurstOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(throttle)
		for range 4 {
			h.note(asking{throttling, 10 * time.Second})
		}
		if h.refusals != 1 || h.Remaining() < 10*time.Second || h.Remaining() > 10*time.Second+firstPause {
			t.Errorf("%d refusals, %s", h.refusals, h.Remaining())
		}
		h.note(nil) // one that was still answered does not end the pause
		if h.Remaining() < 10*time.Second {
			t.Errorf("%s remain", h.Remaining())
		}
	})
}

// A pod that STS refuses twice comes back early in the next minute by which STS counts, and after a quarter of an hour of refusals
// not in every one.
func TestSecondRefusalOfSTSLastsUntilItsNextMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := new(throttle)
		minutes := 1
		for refusal := range 200 {
			time.Sleep(time.Second)
			refused := time.Now()
			h.note(&identity.Error{Code: "Throttling.Api"})
			pause := h.Remaining()
			time.Sleep(pause)
			into := time.Since(time.Now().Truncate(stsWindow))
			later := int(time.Now().Truncate(stsWindow).Sub(refused.Truncate(stsWindow)) / stsWindow)
			switch {
			case refusal == 0:
				if pause > firstPause {
					t.Errorf("the first pause is %s", pause)
				}
			case into > stsSpread || later < 1 || refusal <= stsPatience && later > 1 || later > 5:
				t.Errorf("refusal %d: back %d minutes later, %s into it", refusal, later, into)
			}
			minutes = max(minutes, later)
		}
		if minutes != 5 {
			t.Errorf("at most %d minutes", minutes)
		}
	})
}
