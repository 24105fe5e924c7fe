package agent

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// The source's longest first pause, and what STS counts calls by.
const (
	firstPause = 5 * time.Second
	stsWindow  = time.Minute
	stsSpread  = 25 * time.Second
)

// asking is an error that came with Retry-After.
type asking struct {
	error
	wait time.Duration
}

func (e asking) RetryAfterHint() time.Duration { return e.wait }
func (e asking) Unwrap() error                 { return e.error }

var throttling = &kms.Error{Status: http.StatusTooManyRequests, Code: "Rejected.Throttling"}

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
			least := min(asked, source.LongestPause)
			if pause := c.pauses()[1]; pause < least || pause > least+firstPause+firstRetry {
				t.Errorf("asked for %s, paused for %s", asked, pause)
			}
		})
	}
}

// As it is on the wire: the pause covers the secrets that were not refused too.
func TestRetryAfterOfKMS(t *testing.T) {
	p := newPod(t)
	p.init()
	p.wantCalls(1, 1)
	p.cloud.Fault(t, emulator.Fault{Action: "*GetSecretValue", Status: 429, Code: "Rejected.Throttling",
		RetryAfter: emulator.Duration(4 * time.Minute)})
	stop := p.run()
	var line struct{ In string }
	if err := json.Unmarshal([]byte(p.waitFor("refresh failed")), &line); err != nil {
		t.Fatal(err)
	}
	stop()
	if wait, err := time.ParseDuration(line.In); err != nil || wait < 2*time.Minute || wait > 4*time.Minute+firstPause+firstRetry {
		t.Errorf("the agent asks again in %s, %v", line.In, err)
	}
	p.wantCalls(0, 1)
}

// A start waits for as long as it is told to. If it gave up, the next one would not know of the pause.
func TestPausedStartDoesNotGiveUp(t *testing.T) {
	for name, test := range map[string]struct {
		refusals int
		refusal  error
		least    time.Duration
		fails    string
	}{
		"STS, twice":  {2, &identity.Error{Code: "Throttling.Api"}, stsWindow - firstPause, ""},
		"Retry-After": {1, asking{throttling, 2 * time.Minute}, 2 * time.Minute, ""},
		"STS, always": {1000, &identity.Error{Code: "Throttling.Api"}, pausedStartLimit - stsWindow, "no secrets within 8m"},
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
				if took := time.Since(begun); took < test.least || took > test.least+stsWindow+2*firstPause {
					t.Errorf("it took %s, want %s and a little", took, test.least)
				}
			})
		})
	}
}
