package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

func held(t *testing.T, env []string, args ...string) status.Status {
	t.Helper()
	code, out := output(t, env, append([]string{"status"}, args...)...)
	var s status.Status
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	if strings.Contains(out, "sentinel") {
		t.Fatal("the status has a secret's value in it")
	}
	return s
}

func TestStatus(t *testing.T) {
	env, _, cloud := pod(t)
	if s := held(t, env); len(s.Secrets) != 0 || len(s.Problems) != 1 ||
		!strings.Contains(s.Problems[0], "no secrets yet: the first attempt is under way") {
		t.Errorf("before the start: %+v", s)
	}
	if s := held(t, env, "--probe"); len(s.Problems) != 0 {
		t.Errorf("before the start, with a probe: %+v", s)
	}
	if code, out := output(t, env, "init"); code != 0 {
		t.Fatal(out)
	}
	s := held(t, env)
	if len(s.Secrets) != 1 || s.Secrets[0].Name != "app/key" || s.Secrets[0].Version == "" || len(s.Problems) != 0 ||
		time.Since(s.Fetched) > time.Minute {
		t.Errorf("after the start: %+v", s)
	}
	if err := cloud.DeleteSecret("app/key"); err != nil {
		t.Fatal(err)
	}
	if s = held(t, env, "--probe"); len(s.Secrets) != 1 || len(s.Problems) != 1 ||
		!strings.Contains(s.Problems[0], "Forbidden.ResourceNotFound") || !strings.Contains(s.Problems[0], "\n  fix: check the name") {
		t.Errorf("without the secret: %+v", s)
	}
	if code, out := output(t, env, "status", "--nonsense"); code != exitMisuse || !strings.Contains(out, "--probe") {
		t.Errorf("exit %d: %s", code, out)
	}
}

// The last words of an init container that did its work are what the pod started with.
func TestInitializedTells(t *testing.T) {
	env, _, _ := pod(t)
	if code, out := output(t, env, "init"); code != 0 {
		t.Fatal(out)
	}
	doc, err := agentconfig.Read([]byte(strings.TrimPrefix(env[0], agentconfig.Env+"=")))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "termination-log")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	initialized(doc, path)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var s status.Status
	if err := json.Unmarshal(text, &s); err != nil || len(s.Secrets) != 1 || s.Secrets[0].Name != "app/key" {
		t.Errorf("%v: %s", err, text)
	}
}
