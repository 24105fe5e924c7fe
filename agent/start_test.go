package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

var firstFiles = map[string]string{
	"conf/db.env":  "AccountName=app\nAccountPassword=sentinel-1\n",
	"conf/db.json": `{"user":"app"}` + "\n",
	"api-key":      "sentinel-key-1",
}

func TestInitWritesTheFilesWithOneCallForAllSecrets(t *testing.T) {
	p := newPod(t)
	if err := Ready(t.Context(), p.doc); err == nil {
		t.Error("ready before the files are there")
	}
	p.init()
	p.wantFiles(firstFiles)
	p.wantCalls(1, 1)
	if err := Ready(t.Context(), p.doc); err != nil {
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
		agentconfig.File{Path: "now", Mode: 0o400, Secret: "app/key", Format: config.Raw},
		agentconfig.File{Path: "before", Mode: 0o400, Secret: "app/key", VersionStage: "ACSPrevious", Format: config.Raw},
		agentconfig.File{Path: "now-again", Mode: 0o400, Secret: "app/key", Format: config.Raw})
	if err := p.cloud.Rotate("app/key", emulator.Version{Value: emulator.Value{Text: "two"}}); err != nil {
		t.Fatal(err)
	}
	p.init()
	p.wantFiles(map[string]string{"now": "two", "before": "sentinel-key-1", "now-again": "two"})
	p.wantCalls(1, 2)
}

func TestBinarySecretIsByteExact(t *testing.T) {
	p := newPod(t, agentconfig.File{Path: "k", Mode: 0o400, Secret: "app/bin", Format: config.Raw})
	p.cloud.Put(t, emulator.Secret{Name: "app/bin", Tags: dev, Value: emulator.Value{Binary: "AP8KAA=="}})
	p.init()
	p.wantFiles(map[string]string{"k": "\x00\xff\n\x00"})
}

func TestThrottledStartAsksOnlyForWhatIsMissing(t *testing.T) {
	p := newPod(t)
	p.cloud.Fault(t, emulator.Fault{Action: "AssumeRoleWithOIDC", Code: "Throttling.User", Count: 1})
	p.cloud.Fault(t, emulator.Fault{Action: "BatchGetSecretValue", Code: "InvalidAction.NotFound"})
	p.cloud.Fault(t, emulator.Fault{Secret: "app/key", Code: "Throttling.User", Count: 2})
	p.init()
	p.wantFiles(firstFiles)
	calls := p.cloud.Calls()
	for _, want := range []struct {
		call  emulator.Call
		count int
	}{
		{emulator.Call{Action: "AssumeRoleWithOIDC"}, 2},
		{emulator.Call{Action: "BatchGetSecretValue"}, 1},
		{emulator.Call{Action: "GetSecretValue", Secret: "app/db"}, 1},
		{emulator.Call{Action: "GetSecretValue", Secret: "app/key"}, 3},
	} {
		if n := calls.Sum(want.call); n != want.count {
			t.Errorf("%+v: %d, want %d", want.call, n, want.count)
		}
	}
}

func TestHangingServiceEndsTheStartInTime(t *testing.T) {
	for _, action := range []string{"AssumeRoleWithOIDC", "*GetSecretValue"} {
		p := newPod(t)
		p.cloud.Fault(t, emulator.Fault{Action: action, Hang: emulator.AtHeaders})
		a := p.agent()
		a.startLimit = 200 * time.Millisecond
		begin := time.Now()
		err := a.Init(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no secrets within 200ms") {
			t.Errorf("%s: %v", action, err)
		}
		if took := time.Since(begin); took >= 10*time.Second { // the limit of a request
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
		{"role that does not exist", func(p *pod) { p.env["ALIBABA_CLOUD_ROLE_ARN"] = "acs:ram::1234567890123456:role/missing" },
			[]string{"EntityNotExist.Role", "role/missing", "does not exist"}},
		{"secrets that do not exist or are forbidden, all at once", func(p *pod) {
			p.cloud.Put(p.t, emulator.Secret{Name: "app/prod", Tags: map[string]string{"env": "prod"}, Value: emulator.Value{Text: "sentinel"}})
			p.doc.Files = append(p.doc.Files,
				agentconfig.File{Path: "x", Mode: 0o400, Secret: "app/prod", Format: config.Raw},
				agentconfig.File{Path: "y", Mode: 0o400, Secret: "app/prod", VersionID: "v9", Format: config.Raw})
		}, []string{"file x: get secret app/prod: Forbidden.", "file y: get secret app/prod version v9", emulatortest.RoleARN,
			"kms:GetSecretValue", "kms:tag"}},
		{"unknown secret", func(p *pod) { p.doc.Files[0].Secret = "app/dbb" },
			[]string{"file conf/db.env", "app/dbb", "Forbidden.ResourceNotFound", "optional: true"}},
		{"unknown version", func(p *pod) { p.doc.Files[2].VersionID = "v7" },
			[]string{"file api-key", "app/key version v7", "Forbidden.ResourceNotFound"}},
		{"keys that do not exist, all at once", func(p *pod) {
			p.doc.Files[0].Keys = []config.Key{{Name: "U", Path: "User"}, {Name: "P", Path: "Password"}}
			p.doc.Files[2].Format = config.Env
		}, []string{"file conf/db.env", "key U", "key P", "AccountName, AccountPassword", "file api-key", "not JSON"}},
		{"CA that is not KMS's", func(p *pod) { p.doc.KMS.CABundle = "" }, []string{"certificate", "kms.caFile"}},
		{"CA that is not STS's", func(p *pod) { p.doc.STS.CABundle = "" }, []string{"certificate", "sts.caFile"}},
		{"volume that is not there", func(p *pod) { p.doc.SecretsDir = "/nowhere/secrets" }, []string{"/nowhere/secrets"}},
		{"state that cannot be written", func(p *pod) { p.doc.StateDir = "/nowhere/state" }, []string{"/nowhere/state"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPod(t)
			test.change(p)
			a := p.agent()
			err := a.Init(t.Context())
			if err == nil {
				t.Fatal("no error")
			}
			if strings.Contains(err.Error(), "no secrets within") || Passing(err) {
				t.Errorf("it tried until its limit: %v", err)
			}
			text := a.Explain(err)
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in:\n%s", want, text)
				}
			}
			if strings.Contains(text, "sentinel") || len(text) > 4096 {
				t.Errorf("%d bytes: %s", len(text), text)
			}
			if err := Ready(t.Context(), p.doc); err == nil {
				t.Error("ready after a failed start")
			}
		})
	}
}

func TestOptionalSecretMayBeAbsentAndComeLater(t *testing.T) {
	p := newPod(t,
		agentconfig.File{Path: "key", Mode: 0o400, Secret: "app/key", Format: config.Raw},
		agentconfig.File{Path: "extra", Mode: 0o400, Secret: "app/extra", Format: config.Raw, Optional: true})
	p.init()
	p.wantFiles(map[string]string{"key": "sentinel-key-1"})
	stop := p.run()
	p.waitFor("took over")
	p.cloud.Put(t, emulator.Secret{Name: "app/extra", Tags: dev, Value: emulator.Value{Text: "x"}})
	p.waitFor("files changed")
	stop()
	p.wantFiles(map[string]string{"key": "sentinel-key-1", "extra": "x"})
}

func TestOptionalDoesNotExcuseARefusal(t *testing.T) {
	p := newPod(t, agentconfig.File{Path: "x", Mode: 0o400, Secret: "app/prod", Format: config.Raw, Optional: true})
	p.cloud.Put(t, emulator.Secret{Name: "app/prod", Tags: map[string]string{"env": "prod"}, Value: emulator.Value{Text: "x"}})
	if err := p.agent().Init(t.Context()); err == nil {
		t.Error("a forbidden secret passed as absent")
	}
}

func TestBundleThatIsNoPEM(t *testing.T) {
	for _, change := range []func(*agentconfig.Config){
		func(d *agentconfig.Config) { d.KMS.CABundle = "x" }, func(d *agentconfig.Config) { d.STS.CABundle = "x" },
	} {
		p := newPod(t)
		change(&p.doc)
		if _, err := p.open(); err == nil || !strings.Contains(err.Error(), "caBundle") {
			t.Errorf("got %v", err)
		}
	}
}
