package agent

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// One exchange with STS is all that a pod makes, whichever of its containers start how often, until its session is due.
func TestAPodMakesOneExchange(t *testing.T) {
	for name, withInit := range map[string]bool{"init and sidecar": true, "single": false} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			if withInit {
				p.init()
			}
			for range 3 {
				stop := p.run()
				p.log.skip()
				p.waitFor("refreshed")
				p.waitFor("refreshed")
				stop()
				if withInit {
					p.init() // as after a restart of the whole pod
				}
			}
			if n := p.cloud.Calls().Sum(emulator.Call{Action: "AssumeRoleWithOIDC"}); n != 1 {
				t.Errorf("%d exchanges", n)
			}
			p.onlyInState()
		})
	}
}

// onlyInState fails the test if the session is anywhere but in the agent's own directory, or for others to read there.
func (p *pod) onlyInState() {
	p.t.Helper()
	path := filepath.Join(p.doc.StateDir, source.SessionsFile)
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		p.t.Fatalf("%v, %v", info, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		p.t.Fatal(err)
	}
	var kept struct {
		Holds map[string]struct{ Credentials identity.Credentials }
	}
	if err := json.Unmarshal(text, &kept); err != nil || len(kept.Holds) != 1 {
		p.t.Fatalf("%d sessions, %v", len(kept.Holds), err)
	}
	seen := p.log.String()
	for name, content := range p.files() {
		seen += name + content
	}
	status, err := Status(p.doc)
	if err != nil {
		p.t.Fatal(err)
	}
	said, err := json.Marshal(status)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, session := range kept.Holds {
		for _, secret := range []string{session.Credentials.AccessKeyID, session.Credentials.AccessKeySecret, session.Credentials.SecurityToken} {
			if secret == "" || strings.Contains(seen+string(said), secret) {
				p.t.Errorf("%.8s… is in the log, the files or the status", secret)
			}
		}
	}
}

// A pod's session is of its identity: with another, or with one that is narrower, STS is asked.
func TestASessionIsUsedForItsIdentityOnly(t *testing.T) {
	for name, change := range map[string]func(*pod){
		"another role":     func(p *pod) { p.env["ALIBABA_CLOUD_ROLE_ARN"] += "-b" },
		"another policy":   func(p *pod) { p.doc.SessionPolicy = true },
		"another lifetime": func(p *pod) { p.doc.SessionDuration = config.Duration(20 * time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			other := p.cloud.Roles()[0]
			other.Name += "-b"
			if err := p.cloud.PutRole(other); err != nil {
				t.Fatal(err)
			}
			p.init()
			p.cloud.ResetCalls()
			change(p)
			if err := os.Remove(filepath.Join(p.doc.StateDir, stateFile)); err != nil {
				t.Fatal(err)
			}
			p.init()
			p.wantCalls(1, 1)
		})
	}
}

// A role whose MaxSessionDuration is less than the administrator asks for is a mistake, and the pod says what to do about it.
func TestSessionLongerThanTheRoleAllows(t *testing.T) {
	p := newPod(t)
	p.doc.SessionDuration = config.Duration(2 * time.Hour)
	a := p.agent()
	err := a.Init(t.Context())
	if err == nil || Passing(err) {
		t.Fatalf("got %v", err)
	}
	for _, part := range []string{"sts.sessionDuration", "MaxSessionDuration of acs:ram::"} {
		if text := a.Explain(err); !strings.Contains(text, part) {
			t.Errorf("%q is not in %s", part, text)
		}
	}
}

// The kubelet starts an init container again that was throttled until its time was over: the pause goes on, and so does the round.
func TestARestartIsNoWayAroundAPause(t *testing.T) {
	for name, refusal := range map[string]error{
		"STS": &identity.Error{Action: identity.AssumeRoleWithOIDC, Code: "Throttling.Api"}, "KMS": throttling,
		"Retry-After of a proxy": &kms.Error{Status: 503, RetryAfter: 3 * time.Minute, Err: context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				count := map[string]int{}
				c := &clockwork{answer: func(_ int, ref kms.Ref) (kms.Secret, error) {
					if count[ref.Name]++; ref.Name == "b" && count["b"] <= 4 {
						return kms.Secret{}, refusal
					}
					return kms.Secret{VersionID: "v1"}, nil
				}}
				a := clockworkAgent(t, c, time.Hour, "a", "b")
				begun, err := time.Now(), error(nil)
				for range 1000 { // killed every second
					restarted := clockworkAgent(t, c, time.Hour, "a", "b")
					restarted.doc = a.doc
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					err = restarted.Init(ctx)
					if err != nil {
						<-ctx.Done()
					}
					cancel()
					if err == nil {
						break
					}
				}
				if err != nil || count["a"] != 1 || count["b"] > 5 {
					t.Errorf("asked %v in %s: %v", count, time.Since(begun), err)
				}
				pauses := c.pauses()
				if most := slices.Max(pauses); most < 20*time.Second && name != "KMS" {
					t.Errorf("the pauses were %s", pauses)
				}
				if left := list(t, a.doc.StateDir); !slices.Equal(left, []string{reportFile, stateFile}) {
					t.Errorf("left: %s", left)
				}
			})
		})
	}
}

// Damaged files of every kind cost calls, a line of the log each, and nothing else.
func TestDamagedStateIsNoObstacle(t *testing.T) {
	for _, text := range []string{
		"", "sentinel", `{"format":1}`, `{"format":3,"holds":[`, `{"format":3,"holds":[]}`,
		`{"format":3,"holds":{"until":"sentinel","interval":"sentinel"}}`,
	} {
		p := newPod(t)
		p.doc.RefreshInterval = config.Duration(time.Hour)
		for _, name := range []string{stateFile, roundFile, source.PauseFile, source.SessionsFile} {
			if err := os.WriteFile(filepath.Join(p.doc.StateDir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p.init()
		p.wantFiles(firstFiles)
		p.wantCalls(1, 1)
		log := p.log.String()
		if strings.Count(log, `"level":"WARN"`) > 3 || !strings.Contains(log, "cannot be used") || strings.Contains(log, "sentinel") {
			t.Errorf("%q: %s", text, log)
		}
	}
}

// A round that is throttled doubles the interval once, however many attempts it takes; successes bring it back slowly.
func TestThrottlingLengthensTheInterval(t *testing.T) {
	for _, least := range []time.Duration{10 * time.Second, 5 * time.Minute, 2 * time.Hour} {
		s := newSchedule(agentconfig.Config{RefreshInterval: config.Duration(least)}, 0)
		s.failed(0, false)
		s.succeeded(snapshot{}, time.Now())
		if s.interval != least {
			t.Errorf("an outage made it %s", s.interval)
		}
		want := least
		for range 20 {
			for range 5 {
				if wait := s.failed(time.Minute, true); wait < time.Minute || wait > catchUp {
					t.Errorf("a pause of %s", wait)
				}
			}
			want = max(least, min(2*want, slowestInterval))
			s.succeeded(snapshot{}, time.Now())
			if s.interval != want {
				t.Errorf("the interval is %s, want %s", s.interval, want)
			}
		}
		successes := 0
		for ; s.interval > least; successes++ {
			before := s.interval
			if s.succeeded(snapshot{}, time.Now()); s.interval < before*9/10 {
				t.Errorf("from %s to %s", before, s.interval)
			}
		}
		if successes > 150 || successes < 40 && least < slowestInterval {
			t.Errorf("%s is back after %d successes", least, successes)
		}
	}
}

// The longer interval lasts over a restart, and status and metrics say so.
func TestTheIntervalIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{answer: func(n int, _ kms.Ref) (kms.Secret, error) {
			if n == 2 || n == 3 {
				return kms.Secret{}, throttling
			}
			return kms.Secret{VersionID: "v1"}, nil
		}}
		a := clockworkAgent(t, c, 5*time.Minute, "k")
		told := func() (time.Duration, string) {
			status, err := Status(a.doc)
			if until := time.Until(status.Next); err != nil || until < 0 || until > 11*time.Minute {
				t.Errorf("the next attempt is in %s, %v", until, err)
			}
			scraped := httptest.NewRecorder()
			a.metrics.Handler(nil).ServeHTTP(scraped, httptest.NewRequest(http.MethodGet, "/metrics", nil))
			_, gauge, _ := strings.Cut(scraped.Body.String(), "\nkms_agent_refresh_interval_seconds ")
			gauge, _, _ = strings.Cut(gauge, "\n")
			return time.Duration(status.Interval), gauge
		}
		runFor(t, a, 4*time.Minute)
		if interval, gauge := told(); interval != 5*time.Minute || gauge != "300" {
			t.Errorf("at first %s, %s", interval, gauge)
		}
		runFor(t, a, 6*time.Minute)
		if interval, gauge := told(); interval != 10*time.Minute || gauge != "600" || len(c.asked) != 4 {
			t.Errorf("after a throttled round %s, %s, %d calls", interval, gauge, len(c.asked))
		}
		runFor(t, a, time.Second) // a restart
		if interval, gauge := told(); interval != 10*time.Minute || gauge != "600" || len(c.asked) != 4 {
			t.Errorf("after a restart %s, %s, %d calls", interval, gauge, len(c.asked))
		}
		runFor(t, a, 12*time.Minute)
		if interval, _ := told(); interval != 9*time.Minute+30*time.Second || len(c.asked) != 5 {
			t.Errorf("after a success %s, %d calls", interval, len(c.asked))
		}
	})
}
