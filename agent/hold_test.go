package agent

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

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

// One throttled call is a pause for all secrets, without calls, and it grows.
func TestThrottlingHoldsAllSecrets(t *testing.T) {
	for name, refusal := range map[string]error{
		"KMS": throttling, "user": &kms.Error{Status: 400, Code: "Throttling.User"}, "STS": &identity.Error{Code: "Throttling.Api"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &clockwork{answer: func(int, kms.Ref) (kms.Secret, error) { return kms.Secret{}, refusal }}
				h := &hold{reader: c}
				for second := range 3600 {
					for _, secret := range []string{"a", "b"} {
						_, err := h.read(t.Context(), kms.Ref{Name: secret})
						if !throttled(err) {
							t.Fatalf("second %d: %v", second, err)
						}
						var about *kms.Error
						if errors.As(err, &about) && second > 0 && h.remaining() > 0 && about.Ref.Name != "" && about.Ref.Name != secret {
							t.Fatalf("asked for %s: %v", secret, err)
						}
					}
					time.Sleep(time.Second)
				}
				if n := len(c.asked); n < 15 || n > 90 {
					t.Errorf("%d calls in an hour", n)
				}
				c.answer = nil
				time.Sleep(h.remaining())
				if _, err := h.read(t.Context(), kms.Ref{Name: "a"}); err != nil || h.refusals != 0 {
					t.Errorf("after the pause: %v, %d refusals", err, h.refusals)
				}
			})
		})
	}
}

func TestRetryAfterIsHonoured(t *testing.T) {
	for _, asked := range []time.Duration{30 * time.Second, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			c := &clockwork{answer: func(n int, _ kms.Ref) (kms.Secret, error) {
				if n == 2 {
					return kms.Secret{}, asking{&kms.Error{Status: 503, Code: "ServiceUnavailableTemporary"}, asked}
				}
				return kms.Secret{VersionID: "v1"}, nil
			}}
			runFor(t, clockworkAgent(t, c, time.Minute, "k"), 15*time.Minute)
			least := min(asked, longestHold)
			if pause := c.pauses()[1]; pause < least || pause > least+firstHold+firstRetry {
				t.Errorf("asked for %s, paused for %s", asked, pause)
			}
		})
	}
}

// Calls that were under way together are one refusal.
func TestHoldCountsABurstOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hold{reader: &clockwork{}}
		for range 4 {
			h.note(asking{throttling, 10 * time.Second})
		}
		if h.refusals != 1 || h.remaining() < 10*time.Second || h.remaining() > 11*time.Second {
			t.Errorf("%d refusals, %s", h.refusals, h.remaining())
		}
		h.note(nil) // one that was still answered does not end the pause
		if h.remaining() < 10*time.Second {
			t.Errorf("%s remain", h.remaining())
		}
	})
}
