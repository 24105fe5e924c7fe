package identity

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

const sessionsFile = "sessions.json"

// store keeps sessions in a directory.
type store string

func (s store) Read(what any) error  { return handover.Read(string(s), sessionsFile, what) }
func (s store) Write(what any) error { return handover.Write(string(s), sessionsFile, what) }

// process is a Source as a new process of the agent has it, and its log.
func process(t *testing.T, directory, identity string, life time.Duration, calls *int) (*Source, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	kept := new(Sessions)
	kept.Open(store(directory), slog.New(slog.NewTextHandler(&log, nil)))
	return NewSource(Provider{ID: identity, Get: func(context.Context) (Credentials, error) {
		*calls++
		return Credentials{Credentials: openapi.Credentials{AccessKeyID: "STS.id", AccessKeySecret: "sentinel", SecurityToken: "sentinel"},
			Expires: time.Now().Add(life)}, nil
	}}, kept, nil), &log
}

func TestASessionServesTheProcessesAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		directory, calls := t.TempDir(), 0
		for range 200 { // a process a minute
			source, log := process(t, directory, "a", time.Hour, &calls)
			if c := get(t, source); c.AccessKeySecret != "sentinel" || !c.valid(time.Now()) {
				t.Fatalf("got %v", c)
			}
			if log.Len() > 0 {
				t.Error(log)
			}
			time.Sleep(time.Minute)
		}
		if calls < 4 || calls > 5 { // as of one process: each at three quarters of the one before
			t.Errorf("%d exchanges in 200 minutes", calls)
		}
		if info, err := os.Stat(filepath.Join(directory, sessionsFile)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
		other, _ := process(t, directory, "b", time.Hour, &calls)
		calls = 0
		get(t, other)
		if calls != 1 {
			t.Error("another identity has the session")
		}
		again, _ := process(t, directory, "a", time.Hour, &calls)
		again.Invalidate(get(t, again))
		calls = 0
		after, _ := process(t, directory, "a", time.Hour, &calls)
		if get(t, after); calls != 1 {
			t.Error("a session that KMS has rejected is handed over")
		}
	})
}

// What cannot be used costs an exchange, and no more: one line of the log, which quotes nothing.
func TestSessionsThatCannotBeUsed(t *testing.T) {
	for name, c := range map[string]struct {
		text, says string
	}{
		"damaged":       {`{"format":3,"holds":{"a":{"Credentials":{"AccessKeySecret":"senti`, "damaged"},
		"another form":  {`{"format":3,"holds":{"a":"sentinel"}}`, "damaged"},
		"an older form": {`{"format":1,"secrets":[]}`, "has format 1"},
		"nothing":       {`{"format":3,"holds":null}`, ""},
		"ended":         {`{"format":3,"holds":{"a":{"Credentials":{"AccessKeyID":"STS.id","Expires":"2000-01-01T00:00:00Z"}}}}`, ""},
		"no credential": {`{"format":3,"holds":{"a":{"Credentials":{"Expires":"0001-01-01T00:00:00Z"}}}}`, ""},
		"a clock ahead": {`{"format":3,"holds":{"a":{"Credentials":{"AccessKeyID":"STS.id","Expires":"2999-01-01T00:00:00Z"}}}}`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			directory, calls := t.TempDir(), 0
			if err := os.WriteFile(filepath.Join(directory, sessionsFile), []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
			source, log := process(t, directory, "a", time.Hour, &calls)
			if get(t, source); calls != 1 {
				t.Errorf("%d exchanges", calls)
			}
			text := log.String()
			if told := strings.Contains(text, "cannot be used"); told != (c.says != "") || !strings.Contains(text, c.says) {
				t.Errorf("log: %s", text)
			}
			if strings.Contains(text, "sentinel") || strings.Count(text, "\n") > 1 {
				t.Errorf("log: %s", text)
			}
			if get(t, source); calls != 1 {
				t.Errorf("%d exchanges", calls)
			}
		})
	}
}

// A session belongs to everything that STS was asked for, and to the host that was asked.
func TestTheFingerprintIsOfTheWholeIdentity(t *testing.T) {
	base := RRSA{RoleARN: "acs:ram::1:role/a", ProviderARN: "acs:ram::1:oidc-provider/p", STS: STS{
		SessionName: "ns.sa.pod", Policy: "{}", Endpoint: "sts.example", Duration: time.Hour,
	}}
	seen := map[string]string{}
	for name, change := range map[string]func(*RRSA){
		"nothing": func(*RRSA) {}, "role": func(c *RRSA) { c.RoleARN += "b" }, "provider": func(c *RRSA) { c.ProviderARN += "b" },
		"session": func(c *RRSA) { c.SessionName += "b" }, "policy": func(c *RRSA) { c.Policy = "" },
		"endpoint": func(c *RRSA) { c.Endpoint = "" }, "region": func(c *RRSA) { c.Endpoint, c.Region = "", "cn-beijing" },
		"network": func(c *RRSA) { c.Endpoint, c.Region, c.VPC = "", "cn-beijing", true }, "life": func(c *RRSA) { c.Duration *= 2 },
	} {
		cfg := base
		change(&cfg)
		source, err := NewRRSA(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if other := seen[source.ID]; other != "" {
			t.Errorf("%s and %s share a session", name, other)
		}
		seen[source.ID] = name
	}
}

// With the real exchanges: an access key's role, and a second role from it.
func TestSessionsOfSecondRolesAreKept(t *testing.T) {
	s := cloud(t)
	directory := t.TempDir()
	for range 3 {
		provider, err := NewAccessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: where(s)})
		if err != nil {
			t.Fatal(err)
		}
		kept := new(Sessions)
		first := NewSource(provider, kept, nil)
		kept.Open(store(directory), slog.New(slog.DiscardHandler))
		roles, err := NewRoles(first, readerARN, where(s), nil)
		if err != nil {
			t.Fatal(err)
		}
		second := roles.Source(remoteARN)
		get(t, first)
		get(t, second)
	}
	if n := s.Calls().Sum(emulator.Call{Action: "AssumeRole"}); n != 2 {
		t.Errorf("%d exchanges for two roles and three processes", n)
	}
}

// The administrator's duration is asked for and is what the session has; a second role has an hour, the most that STS gives it.
func TestSessionDuration(t *testing.T) {
	s := cloud(t)
	role := s.Roles()
	for i := range role {
		role[i].MaxSessionDuration = 4 * 3600
		if err := s.PutRole(role[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, duration := range []time.Duration{4 * time.Hour, 5 * time.Hour} {
		sts := where(s)
		sts.Duration = duration
		first, err := accessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: sts})
		if err != nil {
			t.Fatal(err)
		}
		c, err := first.Credentials(t.Context())
		if duration > 4*time.Hour {
			if err == nil || !strings.Contains(err.Error(), "InvalidParameter.DurationSeconds") {
				t.Errorf("longer than the role allows: %v", err)
			}
			continue
		}
		if left := time.Until(c.Expires); err != nil || left < 239*time.Minute || left > 4*time.Hour {
			t.Errorf("%s, %v", left, err)
		}
		roles, err := NewRoles(first, readerARN, sts, nil)
		if err != nil {
			t.Fatal(err)
		}
		second := roles.Source(remoteARN)
		if left := time.Until(get(t, second).Expires); left > time.Hour || left < 59*time.Minute {
			t.Errorf("a second role's session lasts %s", left)
		}
	}
}
