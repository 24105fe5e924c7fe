package agent

import (
	"context"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/notify"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
)

func statusOf(t *testing.T, a *Agent) status.Status {
	t.Helper()
	s, err := Status(a.doc)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := json.Marshal(s); err != nil || strings.Contains(string(text), "sentinel") {
		t.Errorf("%v: it has a value in it: %s", err, text)
	}
	return s
}

// The status says which version the files got when, why the last attempt failed, and that a program was not told; also after a restart.
func TestStatusSaysWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const outage = 6 // the question from which on there is one
		c := &clockwork{answer: func(n int, ref kms.Ref) (kms.Secret, error) {
			switch {
			case n >= outage:
				return kms.Secret{}, &kms.Error{Ref: ref, Code: "ServiceUnavailableTemporary", Status: 503}
			case n >= 3:
				return kms.Secret{VersionID: "v2", Data: []byte("sentinel-2")}, nil
			}
			return kms.Secret{VersionID: "v1", Data: []byte("sentinel-1")}, nil
		}}
		a := clockworkAgent(t, c, time.Minute, "db")
		if _, err := Status(a.doc); err == nil || strings.Contains(err.Error(), a.doc.StateDir) {
			t.Errorf("before the start: %v", err)
		}
		a.doc.OnChange = "signal:HUP:no-such-program"
		var err error
		if a, err = New(a.doc, a.source, metrics.New(), a.log); err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		runFor(t, a, 90*time.Second)
		s := statusOf(t, a)
		if len(s.Secrets) != 1 || s.Secrets[0].Version != "v1" || !s.Secrets[0].Written.Equal(begun) || s.LastError != nil ||
			s.Next.IsZero() || len(s.Notifications) != 1 || !s.Notifications[0].Changed.IsZero() {
			t.Errorf("at the start: %+v", s)
		}
		for _, when := range []string{"in the outage", "after a restart"} {
			if a, err = New(a.doc, a.source, metrics.New(), a.log); err != nil {
				t.Fatal(err)
			}
			runFor(t, a, 8*time.Minute)
			s = statusOf(t, a)
			if len(s.Secrets) != 1 || s.Secrets[0].Version != "v2" || s.Secrets[0].Written.Before(begun.Add(time.Minute)) ||
				s.Fetched.After(begun.Add(8*time.Minute)) {
				t.Errorf("%s: %+v", when, s)
			}
			if f := s.LastError; f == nil || f.Attempts < 2 || len(f.Causes) != 1 || f.Causes[0].Code != "ServiceUnavailableTemporary" ||
				!strings.Contains(f.Causes[0].Cure, "do not restart pods") || !s.Next.After(f.At) {
				t.Errorf("%s: %+v", when, f)
			}
			if n := s.Notifications; len(n) != 1 || !n[0].Untold() || n[0].Attempts < 6 || n[0].Secrets[0].Version != "v2" ||
				!strings.Contains(n[0].Failure, "no process no-such-program") {
				t.Errorf("%s: %+v", when, n)
			}
		}
	})
}

// An API without files holds nothing that could be fresh or stale.
func TestStatusOfAnAPIAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := clockworkAgent(t, &clockwork{}, time.Minute)
		runFor(t, a, time.Minute)
		if s := statusOf(t, a); !s.Fetched.IsZero() || len(s.Secrets) != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A probe tells what KMS says of each secret, and not of the first that fails only.
func TestProbeAsksForEverySecret(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &clockwork{answer: func(_ int, ref kms.Ref) (kms.Secret, error) {
			if ref.Name == "good" {
				return kms.Secret{VersionID: "v1", Data: []byte("sentinel")}, nil
			}
			return kms.Secret{}, &kms.Error{Ref: ref, Code: "ServiceUnavailableTemporary", Status: 503}
		}}
		problems, asked := clockworkAgent(t, c, time.Minute, "bad", "good", "worse").Probe(t.Context())
		if len(problems) != 2 || problems[0].Secret != "bad" || problems[1].Secret != "worse" || len(asked) != 3 {
			t.Errorf("%+v of %q", problems, asked)
		}
	})
}

// What a process could not tell a target, because it failed or because the process ended, the next one tells.
func TestTheNextProcessTells(t *testing.T) {
	for name, ends := range map[string]bool{"the target is away": false, "the process ends as it writes": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, end := context.WithTimeout(t.Context(), 90*time.Second)
				defer end()
				a := clockworkAgent(t, &clockwork{answer: func(n int, _ kms.Ref) (kms.Secret, error) {
					version := "v1"
					if n > 2 { // of two secrets
						version = "v2"
					}
					if n == 4 && ends {
						end()
					}
					return kms.Secret{VersionID: version, Data: []byte(version)}, nil
				}}, time.Minute, "other", "db")
				a.doc.Files[1].OnChange = "signal:HUP:no-such-program"
				var heard []notify.Change
				next := func() {
					var err error
					if a, err = New(a.doc, a.source, metrics.New(), a.log); err != nil {
						t.Fatal(err)
					}
				}
				next()
				if err := a.Run(ctx); err != nil {
					t.Fatal(err)
				}
				untold := statusOf(t, a).Notifications
				if len(untold) != 1 || untold[0].Changed.IsZero() || !untold[0].Told.IsZero() {
					t.Fatalf("%+v", untold)
				}
				next()
				a.tell = func(_ context.Context, c notify.Change) { heard = append(heard, c) }
				runFor(t, a, time.Second)
				want := notify.Change{At: untold[0].Changed, Files: []notify.File{{Path: "db", Secret: "db", Version: "v2"}}}
				if len(heard) != 1 || !reflect.DeepEqual(heard[0], want) {
					t.Fatalf("heard %+v", heard)
				}
				a.notified(a.notifier.Target("db"), want, 1, nil)
				next()
				a.tell = func(_ context.Context, c notify.Change) { t.Errorf("told again: %+v", c) }
				runFor(t, a, time.Second)
			})
		})
	}
}
