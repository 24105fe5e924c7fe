package agent

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

var firstFiles = map[string]string{
	"conf/db.env":  "AccountName=app\nAccountPassword=sentinel-1\n",
	"conf/db.json": `{"user":"app"}` + "\n",
	"api-key":      "sentinel-key-1",
}

func TestInitWritesTheFilesWithOneCallForEachSecret(t *testing.T) {
	p := newPod(t)
	if err := Ready(p.doc); err == nil {
		t.Error("ready before the files are there")
	}
	p.init()
	p.wantFiles(firstFiles)
	p.wantCalls(1, 2)
	if err := Ready(p.doc); err != nil {
		t.Error(err)
	}
	for path, want := range map[string]os.FileMode{
		filepath.Join(p.doc.SecretsDir, "conf/db.env"): 0o440,
		filepath.Join(p.doc.SecretsDir, "api-key"):     0o400,
		filepath.Join(p.doc.StateDir, stateFile):       0o600,
	} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", path, info.Mode(), err, want)
		}
	}
}

func TestVersionsOfOneSecretAreTwoCalls(t *testing.T) {
	p := newPod(t,
		config.File{Path: "now", Mode: 0o400, Secret: "app/key", Format: config.Raw},
		config.File{Path: "before", Mode: 0o400, Secret: "app/key", VersionStage: "ACSPrevious", Format: config.Raw},
		config.File{Path: "now-again", Mode: 0o400, Secret: "app/key", Format: config.Raw})
	if err := p.cloud.Rotate("app/key", emulator.Version{Value: emulator.Value{Text: "two"}}); err != nil {
		t.Fatal(err)
	}
	p.init()
	p.wantFiles(map[string]string{"now": "two", "before": "sentinel-key-1", "now-again": "two"})
	p.wantCalls(1, 2)
}

func TestBinarySecretIsByteExact(t *testing.T) {
	p := newPod(t, config.File{Path: "k", Mode: 0o400, Secret: "app/bin", Format: config.Raw})
	p.cloud.Put(t, emulator.Secret{Name: "app/bin", Tags: dev, Value: emulator.Value{Binary: "AP8KAA=="}})
	p.init()
	p.wantFiles(map[string]string{"k": "\x00\xff\n\x00"})
}

// The sidecar starts from what init fetched, also if it is killed, the files are gone, and nobody can be reached.
func TestSidecarTakesOverWithoutACall(t *testing.T) {
	p := newPod(t)
	p.doc.RefreshInterval = config.Duration(time.Hour)
	p.init()
	p.wantCalls(1, 2)
	api := filepath.Join(p.doc.SecretsDir, "api-key")
	before, err := os.Stat(api)
	if err != nil {
		t.Fatal(err)
	}

	stop := p.run()
	p.log.wait("took over")
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
	p.log.wait("took over")
	p.wantFiles(firstFiles)
	p.wantCalls(0, 0)
}

func TestSidecarWithoutStateDoesInitsWork(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"no state":      os.Remove,
		"damaged":       func(path string) error { return os.WriteFile(path, []byte(`{"format":1,"secrets":[{"ref`), 0o600) },
		"other format":  func(path string) error { return os.WriteFile(path, []byte(`{"format":7}`), 0o600) },
		"other secrets": func(path string) error { return os.WriteFile(path, []byte(`{"format":1,"secrets":[]}`), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			p.doc.RefreshInterval = 0
			p.init()
			p.wantCalls(1, 2)
			if err := spoil(filepath.Join(p.doc.StateDir, stateFile)); err != nil {
				t.Fatal(err)
			}
			stop := p.run()
			p.log.wait("refresh-interval is 0")
			stop()
			p.wantFiles(firstFiles)
			p.wantCalls(1, 2)
		})
	}
}

func TestFilesFollowARotation(t *testing.T) {
	p := newPod(t)
	p.init()
	stop := p.run()
	p.log.wait("refreshed")
	key, err := os.Stat(filepath.Join(p.doc.SecretsDir, "api-key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cloud.Rotate("app/db", emulator.Version{Value: emulator.Value{Text: `{"AccountName":"app_clone","AccountPassword":"sentinel-2"}`}}); err != nil {
		t.Fatal(err)
	}
	if line := p.log.wait("files changed"); !strings.Contains(line, `["conf/db.env","conf/db.json"]`) {
		t.Errorf("log: %s", line)
	}
	p.log.wait("secret has another version")
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
		"KMS is down":          {Action: "GetSecretValue", Status: 503},
		"a proxy answers":      {Status: 502, Body: "<html>sentinel</html>"},
		"answers are cut off":  {Cut: emulator.AtBody},
		"connections are cut":  {Cut: emulator.AtHeaders},
		"throttled":            {Status: 429, Code: "Rejected.Throttling"},
		"permission withdrawn": {Action: "GetSecretValue", Secret: "app/key", Code: "Forbidden.NoPermission"},
		"secret deleted":       {Action: "GetSecretValue", Code: "Forbidden.ResourceNotFound"},
		"clocks differ":        {ClockSkew: emulator.Duration(time.Hour)},
		"garbage":              {Body: `{"SecretData":"sentinel"`},
		"empty values":         {Action: "GetSecretValue", Body: `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			p.init()
			p.cloud.Fault(t, fault)
			p.run()
			for range 3 {
				p.log.wait("refresh failed")
			}
			p.wantFiles(firstFiles)
			p.cloud.ClearFaults()
			p.log.wait("refreshed again")
			p.wantFiles(firstFiles)
		})
	}
}

// A new version that cannot be rendered is not remembered either: a restart would have nothing to show.
func TestVersionThatCannotBeRendered(t *testing.T) {
	p := newPod(t)
	p.init()
	if err := p.cloud.Rotate("app/db", emulator.Version{Value: emulator.Value{Text: `{"AccountName":null,"sentinel":"sentinel"}`}}); err != nil {
		t.Fatal(err)
	}
	stop := p.run()
	p.log.wait("refresh failed")
	stop()
	p.wantFiles(firstFiles)
	p.run()
	p.log.wait("took over")
	p.wantFiles(firstFiles)
}

func TestSessionThatEndsEarlyIsReplacedOnce(t *testing.T) {
	p := newPod(t)
	p.init()
	stop := p.run()
	p.log.wait("refreshed")
	p.cloud.ExpireSessions()
	p.cloud.ResetCalls()
	for range 3 {
		p.log.wait("refreshed")
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

func TestThrottledStartAsksOnlyForWhatIsMissing(t *testing.T) {
	p := newPod(t)
	p.cloud.Fault(t, emulator.Fault{Action: "AssumeRoleWithOIDC", Code: "Throttling.User", Count: 1})
	p.cloud.Fault(t, emulator.Fault{Secret: "app/key", Code: "Throttling.User", Count: 2})
	p.init()
	p.wantFiles(firstFiles)
	calls := p.cloud.Calls()
	for _, want := range []struct {
		call  emulator.Call
		count int
	}{
		{emulator.Call{Action: "AssumeRoleWithOIDC"}, 2},
		{emulator.Call{Secret: "app/db"}, 1},
		{emulator.Call{Secret: "app/key"}, 3},
	} {
		if n := calls.Sum(want.call); n != want.count {
			t.Errorf("%+v: %d, want %d", want.call, n, want.count)
		}
	}
}

func TestHangingServiceEndsTheStartInTime(t *testing.T) {
	for _, action := range []string{"AssumeRoleWithOIDC", "GetSecretValue"} {
		p := newPod(t)
		p.cloud.Fault(t, emulator.Fault{Action: action, Hang: emulator.AtHeaders})
		a := p.agent()
		a.startLimit = 200 * time.Millisecond
		begin := time.Now()
		err := a.Init(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no secrets within 200ms") {
			t.Errorf("%s: %v", action, err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("%s: took %s", action, took)
		}
		p.wantFiles(map[string]string{})
	}
}

func TestStartFailsAtOnceAndSaysWhy(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*pod)
		want   []string
	}{
		{"ServiceAccount that the role does not trust", func(p *pod) {
			p.env["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] = p.cloud.Issuer.TokenFile(p.t, "system:serviceaccount:rrsa-dev:other")
		}, []string{
			"AuthenticationFail.NoPermission", emulatortest.RoleARN, "why: ", "fix: ", "oidc:sub system:serviceaccount:rrsa-dev:other",
			"oidc:iss " + emulatortest.IssuerURL, "oidc:aud sts.aliyuncs.com", `"oidc:sub":"system:serviceaccount:rrsa-dev:other"`,
		}},
		{"expired token", func(p *pod) {
			p.env["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] = p.cloud.Issuer.TokenFile(p.t, emulatortest.Subject, func(c *jwt.Claims) {
				c.Expiry = jwt.NewNumericDate(time.Now().Add(-time.Hour))
			})
		}, []string{"AuthenticationFail.OIDCToken.Expired", "clock", "fix: "}},
		{"token for another audience", func(p *pod) {
			p.env["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] = p.cloud.Issuer.TokenFile(p.t, emulatortest.Subject, func(c *jwt.Claims) {
				c.Audience = jwt.Audience{"kubernetes"}
			})
		}, []string{"AudienceNotMatch", "kubernetes", "sts.aliyuncs.com"}},
		{"no token", func(p *pod) { p.env["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] = "/nowhere/token" },
			[]string{"/nowhere/token", "rrsa-oidc-token"}},
		{"role that does not exist", func(p *pod) { p.env["ALIBABA_CLOUD_ROLE_ARN"] = "acs:ram::1234567890123456:role/nobody" },
			[]string{"EntityNotExist.Role", "role/nobody", "does not exist"}},
		{"secrets that do not exist or are forbidden, all at once", func(p *pod) {
			p.cloud.Put(p.t, emulator.Secret{Name: "app/prod", Tags: map[string]string{"env": "prod"}, Value: emulator.Value{Text: "sentinel"}})
			p.doc.Files = append(p.doc.Files,
				config.File{Path: "x", Mode: 0o400, Secret: "app/prod", Format: config.Raw},
				config.File{Path: "y", Mode: 0o400, Secret: "app/prod", VersionID: "v9", Format: config.Raw})
		}, []string{"file x: get secret app/prod: Forbidden.", "file y: get secret app/prod version v9", emulatortest.RoleARN, "kms:GetSecretValue", "kms:tag"}},
		{"unknown secret", func(p *pod) { p.doc.Files[0].Secret = "app/dbb" },
			[]string{"file conf/db.env", "app/dbb", "Forbidden.ResourceNotFound", "optional: true"}},
		{"unknown version", func(p *pod) { p.doc.Files[2].VersionID = "v7" },
			[]string{"file api-key", "app/key version v7", "Forbidden.ResourceNotFound"}},
		{"keys that do not exist, all at once", func(p *pod) {
			p.doc.Files[0].Keys = []config.Key{{Name: "U", Path: "User"}, {Name: "P", Path: "Password"}}
			p.doc.Files[2].Format = config.Env
		}, []string{"file conf/db.env", "key U", "key P", "AccountName, AccountPassword", "file api-key", "not JSON"}},
		{"CA that is not KMS's", func(p *pod) { p.doc.KMS.CABundle = "" }, []string{"certificate", "kms.caBundle"}},
		{"CA that is not STS's", func(p *pod) { p.doc.STS.CABundle = "" }, []string{"certificate", "sts.caBundle"}},
		{"volume that is not there", func(p *pod) { p.doc.SecretsDir = "/nowhere/secrets" }, []string{"/nowhere/secrets"}},
		{"state that cannot be written", func(p *pod) { p.doc.StateDir = "/nowhere/state" }, []string{"/nowhere/state"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t)
			test.change(p)
			a := p.agent()
			begin := time.Now()
			err := a.Init(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			if took := time.Since(begin); took > 10*time.Second {
				t.Errorf("took %s", took)
			}
			text := TerminationMessage(a.Explain(err))
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in:\n%s", want, text)
				}
			}
			if strings.Contains(text, "sentinel") || len(text) > 4096 {
				t.Errorf("%d bytes: %s", len(text), text)
			}
			if err := Ready(p.doc); err == nil {
				t.Error("ready after a failed start")
			}
		})
	}
}

func TestOptionalSecretMayBeAbsentAndComeLater(t *testing.T) {
	p := newPod(t,
		config.File{Path: "key", Mode: 0o400, Secret: "app/key", Format: config.Raw},
		config.File{Path: "extra", Mode: 0o400, Secret: "app/extra", Format: config.Raw, Optional: true})
	p.init()
	p.wantFiles(map[string]string{"key": "sentinel-key-1"})
	stop := p.run()
	p.log.wait("took over")
	p.cloud.Put(t, emulator.Secret{Name: "app/extra", Tags: dev, Value: emulator.Value{Text: "x"}})
	p.log.wait("files changed")
	stop()
	p.wantFiles(map[string]string{"key": "sentinel-key-1", "extra": "x"})
}

func TestOptionalDoesNotExcuseARefusal(t *testing.T) {
	p := newPod(t, config.File{Path: "x", Mode: 0o400, Secret: "app/prod", Format: config.Raw, Optional: true})
	p.cloud.Put(t, emulator.Secret{Name: "app/prod", Tags: map[string]string{"env": "prod"}, Value: emulator.Value{Text: "x"}})
	if err := p.agent().Init(t.Context()); err == nil {
		t.Error("a forbidden secret passed as absent")
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
	p.log.wait("refreshed")
	for _, fault := range []emulator.Fault{
		{Status: 500, Body: "sentinel"}, {Body: `{"SecretData":"sentinel"}`}, {Code: "SignatureDoesNotMatch"}, {Cut: emulator.AtBody},
	} {
		p.cloud.ExpireSessions()
		p.cloud.Fault(t, fault)
		p.log.wait("refresh failed")
		p.cloud.ClearFaults()
		p.log.wait("refreshed again")
	}
	if err := p.cloud.Rotate("app/db", emulator.Version{Value: emulator.Value{Text: `{"sentinel-in-list":["sentinel"]}`}}); err != nil {
		t.Fatal(err)
	}
	p.log.wait("refresh failed")
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

func TestBundleThatIsNoPEM(t *testing.T) {
	for _, change := range []func(*config.Agent){
		func(d *config.Agent) { d.KMS.CABundle = "x" }, func(d *config.Agent) { d.STS.CABundle = "x" },
	} {
		p := newPod(t)
		change(&p.doc)
		if _, err := New(p.doc, os.Getenv, NewLogger(p.log, p.doc)); err == nil || !strings.Contains(err.Error(), "caBundle") {
			t.Errorf("got %v", err)
		}
	}
}
