package agent

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
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
						held := h.remaining() > 0
						_, err := h.read(t.Context(), kms.Ref{Name: secret})
						if !throttled(err) {
							t.Fatalf("second %d: %v", second, err)
						}
						var about *kms.Error
						if held && errors.As(err, &about) && about.Ref.Name != secret {
							t.Fatalf("asked for %s: %v", secret, err)
						}
					}
					time.Sleep(time.Second)
				}
				if n := len(c.asked); n < 10 || n > 90 {
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
		if h.refusals != 1 || h.remaining() < 10*time.Second || h.remaining() > 10*time.Second+firstHold {
			t.Errorf("%d refusals, %s", h.refusals, h.remaining())
		}
		h.note(nil) // one that was still answered does not end the pause
		if h.remaining() < 10*time.Second {
			t.Errorf("%s remain", h.remaining())
		}
	})
}

// As it is on the wire: the pause covers the secrets that were not refused too.
func TestRetryAfterOfKMS(t *testing.T) {
	p := newPod(t)
	p.init()
	p.wantCalls(1, 1)
	p.cloud.Fault(t, emulator.Fault{Action: "*GetSecretValue", Status: 429, Code: "Rejected.Throttling", RetryAfter: emulator.Duration(4 * time.Minute)})
	stop := p.run()
	var line struct{ In string }
	if err := json.Unmarshal([]byte(p.waitFor("refresh failed")), &line); err != nil {
		t.Fatal(err)
	}
	stop()
	if wait, err := time.ParseDuration(line.In); err != nil || wait < 2*time.Minute || wait > 4*time.Minute+firstHold+firstRetry {
		t.Errorf("the agent asks again in %s, %v", line.In, err)
	}
	p.wantCalls(0, 1)
}

// A pod that STS refuses twice comes back early in the next minute by which STS counts, and after a quarter of an hour of refusals
// not in every one.
func TestSecondRefusalOfSTSLastsUntilItsNextMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hold{reader: &clockwork{}}
		minutes := 1
		for refusal := range 200 {
			time.Sleep(time.Second)
			refused := time.Now()
			h.note(&identity.Error{Code: "Throttling.Api"})
			pause := h.remaining()
			time.Sleep(pause)
			into := time.Since(time.Now().Truncate(stsWindow))
			later := int(time.Now().Truncate(stsWindow).Sub(refused.Truncate(stsWindow)) / stsWindow)
			switch {
			case refusal == 0:
				if pause > firstHold {
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

// A start waits for as long as it is told to. If it gave up, the next one would not know of the pause.
func TestHeldStartDoesNotGiveUp(t *testing.T) {
	for name, test := range map[string]struct {
		refusals int
		refusal  error
		least    time.Duration
		fails    string
	}{
		"STS, twice":  {2, &identity.Error{Code: "Throttling.Api"}, stsWindow - firstHold, ""},
		"Retry-After": {1, asking{throttling, 2 * time.Minute}, 2 * time.Minute, ""},
		"STS, always": {1000, &identity.Error{Code: "Throttling.Api"}, heldStartLimit - stsWindow, "no secrets within 8m"},
		"an outage":   {1000, outage, startLimit, "no secrets within 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := &clockwork{answer: func(n int, _ kms.Ref) (kms.Secret, error) {
					if n <= test.refusals {
						return kms.Secret{}, test.refusal
					}
					return kms.Secret{VersionID: "v1"}, nil
				}}
				begun := time.Now()
				err := clockworkAgent(t, c, time.Minute, "k").Init(t.Context())
				if (err != nil) != (test.fails != "") || err != nil && !strings.Contains(err.Error(), test.fails) {
					t.Errorf("the start: %v, want %q", err, test.fails)
				}
				if took := time.Since(begun); took < test.least || took > test.least+stsWindow+2*firstHold {
					t.Errorf("it took %s, want %s and a little", took, test.least)
				}
			})
		})
	}
}
