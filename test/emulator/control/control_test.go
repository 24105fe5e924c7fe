package control_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/control"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

func start(t *testing.T) (*emulatortest.Server, control.Client) {
	t.Helper()
	s := emulatortest.Start(t)
	api := httptest.NewServer(control.Handler(s.Emulator))
	t.Cleanup(api.Close)
	return s, control.Client{URL: api.URL}
}

func TestSecrets(t *testing.T) {
	s, c := start(t)
	ctx := t.Context()
	for _, step := range []error{
		c.PutSecret(ctx, emulator.Secret{Name: "app/prod/db", Value: emulator.Value{Text: "one"}}),
		c.TagSecret(ctx, "app/prod/db", map[string]string{"env": "dev"}),
		c.Rotate(ctx, "app/prod/db", emulator.Version{Value: emulator.Value{Text: "two"}}),
		c.Rotate(ctx, "acs:kms:cn-hangzhou:1234567890123456:secret/app/prod/db",
			emulator.Version{ID: "third", Value: emulator.Value{Text: "three"}}),
		c.PutSecret(ctx, emulator.Secret{Name: "gone", Value: emulator.Value{Text: "x"}}),
		c.DeleteSecret(ctx, "gone"),
	} {
		if step != nil {
			t.Fatal(step)
		}
	}
	list, err := c.Secrets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	want := []emulator.Secret{{
		Account: emulatortest.Account, Region: emulatortest.Region, Name: "app/prod/db", Type: "Generic",
		Tags: map[string]string{"env": "dev"},
		Versions: []emulator.Version{
			{ID: "v1"}, {ID: "v2", Stages: []string{"ACSPrevious"}}, {ID: "third", Stages: []string{"ACSCurrent"}},
		},
	}}
	if diff := cmp.Diff(want, list, cmpopts.IgnoreUnexported(emulator.Secret{}), cmpopts.EquateEmpty()); diff != "" {
		t.Error("secrets (-want +got):\n", diff)
	}
	if diff := cmp.Diff(s.Secrets(), list, cmpopts.IgnoreUnexported(emulator.Secret{}), cmpopts.EquateEmpty()); diff != "" {
		t.Error("client and emulator disagree:\n", diff)
	}
}

func TestRolesFaultsCallsSessions(t *testing.T) {
	s, c := start(t)
	ctx := t.Context()
	roles, err := c.Roles(ctx)
	if err != nil || len(roles) != 1 {
		t.Fatalf("got %v, %v", roles, err)
	}
	second := roles[0]
	second.Name = "second"
	if err := c.PutRole(ctx, second); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]emulator.Role{roles[0], second}, s.Roles()); diff != "" {
		t.Error("roles (-want +got):\n", diff)
	}
	if err := c.DeleteRole(ctx, "second"); err != nil || len(s.Roles()) != 1 {
		t.Errorf("%v: %v", err, s.Roles())
	}

	fault := emulator.Fault{Action: "GetSecretValue", Count: 2, Latency: emulator.Duration(1500 * time.Millisecond)}
	id, err := c.AddFault(ctx, fault)
	if err != nil {
		t.Fatal(err)
	}
	fault.ID = id
	faults, err := c.Faults(ctx)
	if diff := cmp.Diff([]emulator.Fault{fault}, faults); err != nil || diff != "" {
		t.Errorf("faults: %v (-want +got):\n%s", err, diff)
	}
	if err := c.RemoveFault(ctx, id); err != nil || len(s.Faults()) != 0 {
		t.Errorf("%v: %v", err, s.Faults())
	}
	if _, err := c.AddFault(ctx, fault); err != nil {
		t.Fatal(err)
	}
	if err := c.ClearFaults(ctx); err != nil || len(s.Faults()) != 0 {
		t.Errorf("%v: %v", err, s.Faults())
	}

	resp, err := (&http.Client{Transport: &http.Transport{}}).Get("http://" + s.Addr)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("plain HTTP on the TLS port: %s", resp.Status)
		}
	}
	counts, err := c.Calls(ctx)
	if err != nil || len(counts) != 0 {
		t.Errorf("got %v, %v, want no calls", counts, err)
	}
	for _, step := range []error{c.ResetCalls(ctx), c.ExpireSessions(ctx)} {
		if step != nil {
			t.Error(step)
		}
	}
}

func TestMistakes(t *testing.T) {
	_, c := start(t)
	for name, x := range map[string]struct {
		method, path, body string
		status             int
	}{
		"unknown secret":    {"DELETE", "/secrets/nothing", "", 404},
		"rotate unknown":    {"POST", "/secrets/nothing/versions", `{"text":"x"}`, 404},
		"unknown role":      {"DELETE", "/roles/nothing", "", 404},
		"unknown fault":     {"DELETE", "/faults/9", "", 404},
		"unknown path":      {"GET", "/values", "", 404},
		"method":            {"POST", "/calls", "", 405},
		"not JSON":          {"PUT", "/secrets/a", "a: b", 400},
		"unknown field":     {"PUT", "/secrets/a", `{"value":"x"}`, 400},
		"other name":        {"PUT", "/secrets/a", `{"name":"b","text":"x"}`, 400},
		"no value":          {"PUT", "/secrets/a", `{}`, 400},
		"two values":        {"PUT", "/secrets/a", `{"text":"x","binary":"eA=="}`, 400},
		"not base64":        {"PUT", "/secrets/a", `{"binary":"s3cret!"}`, 400},
		"too long":          {"PUT", "/secrets/a", `{"text":"` + strings.Repeat("s3cret", 6000) + `"}`, 400},
		"type":              {"PUT", "/secrets/a", `{"text":"x","type":"rds"}`, 400},
		"name":              {"PUT", "/secrets/a%20b", `{"text":"x"}`, 400},
		"policy":            {"PUT", "/roles/a", `{"trustPolicy":"{}"}`, 400},
		"fault of nothing":  {"POST", "/faults", `{"action":"GetSecretValue"}`, 400},
		"fault's place":     {"POST", "/faults", `{"hang":"elsewhere"}`, 400},
		"fault's duration":  {"POST", "/faults", `{"latency":"5"}`, 400},
		"fault's status":    {"POST", "/faults", `{"status":99}`, 400},
		"body over a limit": {"PUT", "/secrets/a", `{"text":"` + strings.Repeat("x", 2<<20) + `"}`, 400},
	} {
		t.Run(name, func(t *testing.T) {
			req, err := http.NewRequestWithContext(t.Context(), x.method, c.URL+x.path, strings.NewReader(x.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			text, _ := io.ReadAll(resp.Body)
			if resp.StatusCode != x.status {
				t.Errorf("got %s %s, want %d", resp.Status, text, x.status)
			}
			if strings.Contains(string(text), "s3cret") {
				t.Errorf("the answer tells the value: %s", text)
			}
		})
	}
}

func TestClientSaysWhatFailed(t *testing.T) {
	_, c := start(t)
	err := c.DeleteSecret(t.Context(), "a/b")
	if want := "secret acs:kms:cn-hangzhou:1234567890123456:secret/a/b: not found"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fmt.Errorf("no time"))
	if err := c.ResetCalls(ctx); err == nil {
		t.Error("no error from a cancelled call")
	}
}
