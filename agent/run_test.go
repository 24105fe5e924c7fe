package agent

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// The sidecar starts from what init fetched, even after a kill, without the files, and while STS and KMS are unreachable.
func TestSidecarTakesOverWithoutACall(t *testing.T) {
	p := newPod(t)
	p.doc.RefreshInterval = config.Duration(time.Hour)
	p.init()
	p.wantCalls(1, 1)
	api := filepath.Join(p.doc.SecretsDir, "api-key")
	before, err := os.Stat(api)
	if err != nil {
		t.Fatal(err)
	}

	stop := p.run()
	p.waitFor("took over")
	stop()
	p.wantFiles(firstFiles)
	if after, err := os.Stat(api); err != nil || !os.SameFile(before, after) || !before.ModTime().Equal(after.ModTime()) {
		t.Error("the sidecar touched files that did not change")
	}

	p.cloud.Fault(t, emulator.Fault{Status: 503})
	entries, err := os.ReadDir(p.doc.SecretsDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(p.doc.SecretsDir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	p.run()
	p.waitFor("took over")
	p.wantFiles(firstFiles)
	p.wantCalls(0, 0)
}

func TestSidecarWithoutStateDoesInitsWork(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"no state": os.Remove,
		"damaged": func(path string) error {
			return os.WriteFile(path, []byte(`{"format":2,"holds":{"secrets":[{"ref`), 0o600)
		},
		"other format": func(path string) error { return os.WriteFile(path, []byte(`{"format":7}`), 0o600) },
		"other secrets": func(path string) error {
			return os.WriteFile(path, []byte(`{"format":2,"holds":{"secrets":[]}}`), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			p.doc.RefreshInterval = 0
			p.init()
			p.wantCalls(1, 1)
			if err := spoil(filepath.Join(p.doc.StateDir, stateFile)); err != nil {
				t.Fatal(err)
			}
			stop := p.run()
			p.waitFor("refresh-interval is 0")
			stop()
			p.wantFiles(firstFiles)
			p.wantCalls(0, 1) // the session is there
		})
	}
}

func TestFilesFollowARotation(t *testing.T) {
	p := newPod(t)
	p.init()
	stop := p.run()
	p.waitFor("refreshed")
	key, err := os.Stat(filepath.Join(p.doc.SecretsDir, "api-key"))
	if err != nil {
		t.Fatal(err)
	}
	rotated := emulator.Version{Value: emulator.Value{Text: `{"AccountName":"app_clone","AccountPassword":"sentinel-2"}`}}
	if err := p.cloud.Rotate("app/db", rotated); err != nil {
		t.Fatal(err)
	}
	if line := p.waitFor("files changed"); !strings.Contains(line, `["conf/db.env","conf/db.json"]`) {
		t.Errorf("log: %s", line)
	}
	p.waitFor("secret has another version")
	stop()
	want := maps.Clone(firstFiles)
	want["conf/db.env"] = "AccountName=app_clone\nAccountPassword=sentinel-2\n"
	want["conf/db.json"] = `{"user":"app_clone"}` + "\n"
	p.wantFiles(want)
	if again, err := os.Stat(filepath.Join(p.doc.SecretsDir, "api-key")); err != nil || !os.SameFile(key, again) {
		t.Errorf("a file of another secret was touched: %v", err)
	}
}

func TestOutageAfterStartLeavesTheFiles(t *testing.T) {
	for name, fault := range map[string]emulator.Fault{
		"KMS is down":          {Action: "*GetSecretValue", Status: 503},
		"a proxy answers":      {Status: 502, Body: "<html>sentinel</html>"},
		"answers are cut off":  {Cut: emulator.AtBody},
		"connections are cut":  {Cut: emulator.AtHeaders},
		"throttled":            {Status: 429, Code: "Rejected.Throttling"},
		"permission withdrawn": {Action: "*GetSecretValue", Secret: "app/key", Code: "Forbidden.NoPermission"},
		"secret deleted":       {Action: "*GetSecretValue", Code: "Forbidden.ResourceNotFound"},
		"clocks differ":        {ClockSkew: emulator.Duration(time.Hour)},
		"garbage":              {Body: `{"SecretData":"sentinel"`},
		"empty values":         {Action: "*GetSecretValue", Body: `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			p.init()
			p.cloud.Fault(t, fault)
			p.run()
			for range 3 {
				p.waitFor("refresh failed")
			}
			p.wantFiles(firstFiles)
			p.cloud.ClearFaults()
			p.waitFor("refreshed again")
			p.wantFiles(firstFiles)
		})
	}
}

// A new version that cannot be rendered is not remembered either: a restart would have nothing to show.
func TestVersionThatCannotBeRendered(t *testing.T) {
	p := newPod(t)
	p.init()
	rotated := emulator.Version{Value: emulator.Value{Text: `{"AccountName":null,"sentinel":"sentinel"}`}}
	if err := p.cloud.Rotate("app/db", rotated); err != nil {
		t.Fatal(err)
	}
	stop := p.run()
	p.waitFor("refresh failed")
	stop()
	p.wantFiles(firstFiles)
	p.run()
	p.waitFor("took over")
	p.wantFiles(firstFiles)
}

func TestSessionThatEndsEarlyIsReplacedOnce(t *testing.T) {
	p := newPod(t)
	p.init()
	stop := p.run()
	p.waitFor("refreshed")
	p.cloud.ResetCalls()
	p.cloud.ExpireSessions()
	p.log.skip()
	for range 3 { // the first may have begun before the sessions ended
		p.waitFor("refreshed")
	}
	stop()
	calls := p.cloud.Calls()
	if n := calls.Sum(emulator.Call{Action: "AssumeRoleWithOIDC"}); n != 1 {
		t.Errorf("%d calls of STS, want 1", n)
	}
	if n := calls.Sum(emulator.Call{Code: "InvalidSecurityToken.Expired"}); n != 1 {
		t.Errorf("%d calls with the ended session, want 1: %v", n, calls)
	}
	if strings.Contains(p.log.String(), "refresh failed") {
		t.Error("an ended session was a failure")
	}
}

// Whatever goes wrong, at the most talkative level: no value, no token.
func TestNothingLeaksIntoLogsOrErrors(t *testing.T) {
	p := newPod(t)
	token, err := os.ReadFile(p.env["ALIBABA_CLOUD_OIDC_TOKEN_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	p.init()
	p.run()
	p.waitFor("refreshed")
	for _, fault := range []emulator.Fault{
		{Status: 500, Body: "sentinel"}, {Body: `{"SecretData":"sentinel"}`}, {Code: "SignatureDoesNotMatch"}, {Cut: emulator.AtBody},
	} {
		p.cloud.ExpireSessions()
		p.cloud.Fault(t, fault)
		p.waitFor("refresh failed")
		p.cloud.ClearFaults()
		p.waitFor("refreshed again")
	}
	if err := p.cloud.Rotate("app/db", emulator.Version{Value: emulator.Value{Text: `{"sentinel-in-list":["sentinel"]}`}}); err != nil {
		t.Fatal(err)
	}
	p.waitFor("refresh failed")
	text := p.log.String()
	state, err := os.ReadFile(filepath.Join(p.doc.StateDir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{"sentinel-1", "sentinel-key-1", "sentinel\"", string(token), "Authorization", "x-acs-security-token"}
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q:\n%s", secret, text)
		}
	}
	if !json.Valid(state) {
		t.Error("the state is damaged")
	}
}
