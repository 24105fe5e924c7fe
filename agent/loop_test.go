package agent

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// clockwork is a reader that notes when it is asked, in a synctest bubble.
type clockwork struct {
	mu       sync.Mutex
	asked    []time.Time
	answer   func(n int, ref kms.Ref) (kms.Secret, error) // n counts from 1
	rotation time.Time
	closed   int // how often its connections were
}

func (c *clockwork) Read(_ context.Context, ref kms.Ref) (kms.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, time.Now())
	if c.answer != nil {
		return c.answer(len(c.asked), ref)
	}
	return kms.Secret{Name: ref.Name, VersionID: "v1", Data: []byte("x"), NextRotation: c.rotation}, nil
}

// ReadAll implements source.Reader: a client key's protocol has no such call.
func (c *clockwork) ReadAll(context.Context, []kms.Ref) ([]kms.Secret, error) {
	return nil, errors.ErrUnsupported
}

func (c *clockwork) CloseIdleConnections() { c.closed++ }

// sourceOf reads with r and has no sessions.
func sourceOf(r source.Reader) *source.Source {
	return source.New(r, &identity.Sessions{}, nil)
}

// pauses are the times between two questions.
func (c *clockwork) pauses() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []time.Duration
	for i := 1; i < len(c.asked); i++ {
		all = append(all, c.asked[i].Sub(c.asked[i-1]))
	}
	return all
}

var (
	outage    = &kms.Error{Status: 503, Code: "ServiceUnavailableTemporary"}
	forbidden = &kms.Error{Status: 403, Code: "Forbidden.NoPermission"}
)

func clockworkAgent(t *testing.T, c *clockwork, interval time.Duration, secrets ...string) *Agent {
	doc := agentconfig.Config{SecretsDir: t.TempDir(), StateDir: t.TempDir(), RefreshInterval: config.Duration(interval)}
	for _, name := range secrets {
		doc.Files = append(doc.Files, agentconfig.File{Path: name, Mode: 0o400, Secret: name, Format: config.Raw})
	}
	log := NewLogger(&strings.Builder{}, doc)
	a, err := New(doc, sourceOf(c), metrics.New(), log)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// runFor lets the agent run for d of the bubble's time.
func runFor(t *testing.T, a *Agent, d time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	if err := a.Run(ctx); err != nil {
		t.Fatal(err)
	}
}

// However long KMS refuses most calls, a pod whose secrets are fetched one by one has all of them at last, and the agent goes on.
func TestRefusalsOfDaysEnd(t *testing.T) {
	for name, c := range map[string]struct {
		of, secrets int // one of so many calls succeeds
	}{"all throttled": {0, 1}, "most throttled": {3, 20}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				cloud := &clockwork{}
				cloud.answer = func(n int, ref kms.Ref) (kms.Secret, error) {
					if time.Since(begun) > time.Minute && (c.of == 0 || n%c.of != 0) {
						return kms.Secret{}, &kms.Error{Ref: ref, Status: 429, Code: "Rejected.Throttling"}
					}
					return kms.Secret{Name: ref.Name, VersionID: "v1", Data: []byte("x")}, nil
				}
				var names []string
				for i := range c.secrets {
					names = append(names, fmt.Sprint("s", i))
				}
				a := clockworkAgent(t, cloud, 5*time.Minute, names...)
				runFor(t, a, 48*time.Hour)
				if s := statusOf(t, a); c.of > 0 && s.Fetched.Before(begun.Add(time.Hour)) || c.of == 0 && s.LastError == nil {
					t.Errorf("after two days: fetched at %s of %s, %+v", s.Fetched, begun, s.LastError)
				}
			})
		})
	}
}

func TestRefreshKeepsItsIntervalWithATenthOfJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{}
		runFor(t, clockworkAgent(t, c, 5*time.Minute, "k"), 8*time.Hour)
		pauses := c.pauses()
		if n := len(pauses); n < 8*12-10 || n > 8*12+10 {
			t.Errorf("%d refreshes in 8 hours", n)
		}
		if least, most := slices.Min(pauses), slices.Max(pauses); least < 270*time.Second || most > 331*time.Second ||
			most-least < 30*time.Second {
			t.Errorf("pauses from %s to %s, want 5 minutes give or take 30 s", least, most)
		}
	})
}

func TestIntervalZeroNeverRefreshes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{}
		runFor(t, clockworkAgent(t, c, 0, "k"), 240*time.Hour)
		if len(c.asked) != 1 {
			t.Errorf("asked %d times", len(c.asked))
		}
	})
}

// The longest durations that can be written are as good as never.
func TestIntervalOfCenturies(t *testing.T) {
	for _, centuries := range []time.Duration{500_000 * time.Hour, math.MaxInt64} {
		synctest.Test(t, func(t *testing.T) {
			c := &clockwork{answer: func(n int, ref kms.Ref) (kms.Secret, error) {
				if n == 2 {
					return kms.Secret{}, outage
				}
				return kms.Secret{VersionID: "v1"}, nil
			}}
			a := clockworkAgent(t, c, centuries, "k")
			runFor(t, a, 300*24*time.Hour)
			if len(c.asked) != 1 {
				t.Errorf("%s: asked %d times in 300 days", centuries, len(c.asked))
			}
			runFor(t, a, 150*24*time.Hour)
			if len(c.asked) != 3 {
				t.Errorf("%s: asked %d times in 450 days, want one that fails and another", centuries, len(c.asked))
			}
			if ttl := a.localSource().TTL; ttl <= 0 {
				t.Errorf("%s: values are good for %s", centuries, ttl)
			}
		})
	}
}

func TestRestartKeepsTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{}
		a := clockworkAgent(t, c, 5*time.Minute, "k")
		for range 60 { // a sidecar that is killed every second asks no more often than one that is not
			runFor(t, a, time.Second)
		}
		if len(c.asked) != 1 {
			t.Errorf("asked %d times in a minute", len(c.asked))
		}
		runFor(t, a, 6*time.Minute)
		if len(c.asked) != 2 {
			t.Errorf("asked %d times after the interval", len(c.asked))
		}
	})
}

// A node's clock may be hours ahead when its first pods start, until it is set.
func TestClockThatWasSetBackDelaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{}
		a := clockworkAgent(t, c, 5*time.Minute, "k")
		ahead := snapshot{At: time.Now().Add(8 * time.Hour), Values: values{{Name: "k"}: {}}}
		if err := ahead.save(a.doc.StateDir); err != nil {
			t.Fatal(err)
		}
		runFor(t, a, 6*time.Minute)
		if len(c.asked) != 1 {
			t.Errorf("asked %d times in the first interval", len(c.asked))
		}
	})
}

func TestRotationOfAManagedSecretIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rotation := time.Now().Add(20 * time.Minute)
		c := &clockwork{rotation: rotation}
		runFor(t, clockworkAgent(t, c, 2*time.Hour, "k"), time.Hour)
		if len(c.asked) != 2 || c.asked[1].Before(rotation) || c.asked[1].After(rotation.Add(rotationGrace)) {
			t.Errorf("asked at %v, want once soon after %v", c.asked, rotation)
		}
	})
}

// Each pause is at most twice the one allowed before, up to the interval, and they are spread: no fleet in step.
func TestFailuresBackOffUpToTheInterval(t *testing.T) {
	for _, cause := range []error{outage, forbidden} {
		synctest.Test(t, func(t *testing.T) {
			c := &clockwork{answer: func(n int, ref kms.Ref) (kms.Secret, error) {
				if n > 1 {
					return kms.Secret{}, cause
				}
				return kms.Secret{VersionID: "v1"}, nil
			}}
			interval := 5 * time.Minute
			runFor(t, clockworkAgent(t, c, interval, "k"), 12*time.Hour)
			pauses := c.pauses()[1:]
			for i, pause := range pauses {
				if most := min(interval, time.Duration(math.Min(float64(firstRetry)*math.Pow(2, float64(i)), float64(interval)))); pause > most {
					t.Errorf("pause %d is %s, want at most %s", i, pause, most)
				}
			}
			late := pauses[10:]
			var sum time.Duration
			for _, pause := range late {
				sum += pause
			}
			if mean := sum / time.Duration(len(late)); mean < 2*time.Minute || mean > 3*time.Minute {
				t.Errorf("mean pause %s of %d, want about half the interval", mean, len(late))
			}
		})
	}
}

func TestAfterAnOutageTheIntervalIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{answer: func(n int, ref kms.Ref) (kms.Secret, error) {
			if n > 1 && n < 10 {
				return kms.Secret{}, outage
			}
			return kms.Secret{VersionID: "v1"}, nil
		}}
		runFor(t, clockworkAgent(t, c, time.Minute, "k"), time.Hour)
		for _, pause := range c.pauses()[9:] {
			if pause < 54*time.Second || pause > 67*time.Second {
				t.Errorf("pause %s after the outage", pause)
			}
		}
	})
}

// An attempt after a throttled one asks for the rest only.
func TestRetryAsksForTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := map[string]int{}
		c := &clockwork{}
		c.answer = func(n int, ref kms.Ref) (kms.Secret, error) {
			count[ref.Name]++
			if ref.Name == "b" && count["b"] > 1 && count["b"] < 6 {
				return kms.Secret{}, outage
			}
			return kms.Secret{VersionID: "v1"}, nil
		}
		runFor(t, clockworkAgent(t, c, 10*time.Minute, "a", "b", "c"), 12*time.Minute)
		if count["b"] != 6 || count["a"] > 4 || count["c"] > 4 {
			t.Errorf("asked %v", count)
		}
	})
}

func TestValuesOfALongFailureAreAskedForAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		count := map[string]int{}
		c := &clockwork{}
		c.answer = func(n int, ref kms.Ref) (kms.Secret, error) {
			count[ref.Name]++
			if ref.Name == "b" && count["b"] > 1 {
				return kms.Secret{}, outage
			}
			return kms.Secret{VersionID: "v1"}, nil
		}
		runFor(t, clockworkAgent(t, c, 5*time.Minute, "a", "b"), 2*time.Hour)
		if count["a"] < 8 || count["a"] >= count["b"] {
			t.Errorf("asked %v", count)
		}
	})
}

func TestStartTriesForAMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{answer: func(int, kms.Ref) (kms.Secret, error) { return kms.Secret{}, outage }}
		begin := time.Now()
		err := clockworkAgent(t, c, 0, "k").Init(t.Context())
		if !Passing(err) {
			t.Errorf("%v: a Job would take it for a mistake", err)
		}
		if !errors.Is(err, outage) || !strings.Contains(err.Error(), "no secrets within 1m0s") || time.Since(begin) != time.Minute {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
		if n := len(c.asked); n < 8 || n > 60 {
			t.Errorf("%d attempts in a minute", n)
		}
	})
}

func TestStartThatIsTooSlowSaysHowFarItCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var names []string
		for i := range 40 {
			names = append(names, fmt.Sprint("k", i))
		}
		a := clockworkAgent(t, &clockwork{}, 0, names...)
		a.source = sourceOf(&slow{})
		if err := a.Init(t.Context()); err == nil || !strings.Contains(err.Error(), "they had given 25 of 40") {
			t.Errorf("got %v", err)
		}
	})
}

// slow takes eight seconds for each secret.
type slow struct{ clockwork }

func (*slow) Read(ctx context.Context, _ kms.Ref) (kms.Secret, error) {
	pause.Sleep(ctx, 8*time.Second)
	return kms.Secret{VersionID: "v1"}, ctx.Err()
}

func TestStartDoesNotRepeatARefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{answer: func(int, kms.Ref) (kms.Secret, error) { return kms.Secret{}, forbidden }}
		begin := time.Now()
		err := clockworkAgent(t, c, 0, "a", "b", "c").Init(t.Context())
		if !errors.Is(err, forbidden) || len(c.asked) != 3 || time.Since(begin) != 0 {
			t.Errorf("%d questions in %s: %v", len(c.asked), time.Since(begin), err)
		}
	})
}

func TestOutageIsFoundOutByOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{answer: func(int, kms.Ref) (kms.Secret, error) { return kms.Secret{}, outage }}
		a := clockworkAgent(t, c, 0, "a", "b", "c", "d")
		if err := a.fetch(t.Context(), values{}); !errors.Is(err, outage) || len(c.asked) != 1 {
			t.Errorf("%d questions: %v", len(c.asked), err)
		}
	})
}

func TestStopEndsEverythingAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{answer: func(int, kms.Ref) (kms.Secret, error) { return kms.Secret{}, outage }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := clockworkAgent(t, c, time.Minute, "k").Run(ctx); err != nil || time.Since(begin) != time.Second {
			t.Errorf("stopped while starting: after %s, %v", time.Since(begin), err)
		}
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := clockworkAgent(t, c, time.Minute, "k").Init(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("init that was stopped: %v", err)
		}
	})
}

func TestSweepRemovesReplacedValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{answer: func(n int, _ kms.Ref) (kms.Secret, error) {
			return kms.Secret{VersionID: fmt.Sprint("v", n), Data: fmt.Append(nil, n)}, nil
		}}
		a := clockworkAgent(t, c, time.Minute, "k")
		runFor(t, a, 67*time.Second+sweepAfter) // one refresh, and before the next
		sets := 0
		for _, name := range list(t, a.doc.SecretsDir) {
			if strings.HasPrefix(name, "..2") {
				sets++
			}
		}
		if len(c.asked) != 2 || sets != 1 {
			t.Errorf("%d refreshes left %d sets", len(c.asked), sets)
		}
	})
}

func TestConnectionsCloseAfterEachRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{}
		runFor(t, clockworkAgent(t, c, 5*time.Minute, "k"), time.Hour)
		if c.closed < 10 || c.closed != len(c.asked) {
			t.Errorf("closed %d times in %d refreshes", c.closed, len(c.asked))
		}
	})
}
