package faults

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/authority"
)

// Errors reveal values where a value cannot be decoded, and where a program quotes what it received.
func TestNothingLeaksFromAPodThatFails(t *testing.T) {
	file := func(f agentconfig.File) func(*pod) {
		f.Path, f.Mode = "bad", 0o400
		return func(p *pod) { p.doc.Files = append(p.doc.Files, f) }
	}
	template := func(text string) func(*pod) {
		return file(agentconfig.File{Format: config.Template, Template: text,
			From: []config.Source{{Name: "db", Secret: "app/db"}, {Name: "key", Secret: "app/key"}}})
	}
	secret := func(value emulator.Value, f agentconfig.File) func(*pod) {
		f.Secret = "app/bad"
		return func(p *pod) {
			p.cloud.Put(p.t, emulator.Secret{Name: "app/bad", Tags: map[string]string{"env": "dev"}, Value: value})
			file(f)(p)
		}
	}
	fault := func(f emulator.Fault) func(*pod) {
		return func(p *pod) { p.cloud.Fault(p.t, f) }
	}
	for name, test := range map[string]struct {
		spoil func(*pod)
		says  string
	}{
		"key that is not there": {file(agentconfig.File{Secret: "app/db", Format: config.Env,
			Keys: []config.Key{{Name: "A", Path: "none"}}}), "none"},
		"key of what has no keys": {file(agentconfig.File{Secret: "app/key", Format: config.Env,
			Keys: []config.Key{{Name: "A", Path: "password"}}}), "file bad"},
		"JMESPath that fails on the value": {file(agentconfig.File{Secret: "app/db", Format: config.JSON,
			Keys: []config.Key{{Name: "A", Path: "abs(password)"}}}), "file bad"},
		"template field that is not there": {template("{{ .db.none }}"), "none"},
		"template function that fails":     {template("{{ .db.password | b64dec }}"), "file bad"},
		"template of the wrong type":       {template("{{ .key.field }}"), "file bad"},
		"template that indexes a value":    {template(`{{ index .db "x" "y" }}`), "file bad"},
		"template with a failing compare":  {template("{{ if lt .db.password 3 }}x{{ end }}"), "file bad"},
		"value that is not JSON":           {secret(emulator.Value{Text: `{"a": sentinel-x`}, agentconfig.File{Format: config.JSON}), "file bad"},
		"value that is not YAML":           {secret(emulator.Value{Text: "a: [sentinel-x"}, agentconfig.File{Format: config.YAML}), "file bad"},
		"name that no variable can have": {secret(emulator.Value{Text: `{"x y\n": "sentinel"}`}, agentconfig.File{Format: config.Env}),
			"file bad"},
		"variable with a NUL": {func(p *pod) {
			p.cloud.Put(p.t, emulator.Secret{Name: "app/bad", Tags: map[string]string{"env": "dev"}, Value: emulator.Value{Text: "sentinel\x00x"}})
			p.doc.Env = append(p.doc.Env, config.Variable{Name: "BAD", Secret: "app/bad"})
		}, "env.BAD"},
		"STS that quotes the token": {func(p *pod) {
			token, err := os.ReadFile(p.token)
			if err != nil {
				p.t.Fatal(err)
			}
			p.cloud.Fault(p.t, emulator.Fault{Action: "AssumeRoleWithOIDC", Status: 400, Code: "InvalidParameter.OIDCToken", Message: "bad " +
				string(token)})
		}, "InvalidParameter.OIDCToken"},
		"KMS that quotes the request": {fault(emulator.Fault{Action: "*GetSecretValue", Status: 403, Code: "SignatureDoesNotMatch",
			Message: "x-acs-security-token:CAISx"}), "SignatureDoesNotMatch"},
		"proxy before KMS": {fault(emulator.Fault{Action: "*GetSecretValue", Status: 403, Body: "<html>" + sentinel}), "proxy"},
		"half an answer of KMS": {fault(emulator.Fault{Action: "*GetSecretValue", Status: 403, Body: `{"SecretData":"` + sentinel}),
			"proxy"},
		"pod without the permission": {func(p *pod) {
			p.writeToken(p.cloud.Issuer.Token(p.t, "system:serviceaccount:rrsa-dev:other"))
		}, "AuthenticationFail.NoPermission"},
		"wrong CA": {func(p *pod) {
			other, err := authority.New()
			if err != nil {
				p.t.Fatal(err)
			}
			p.doc.KMS.CABundle, p.doc.STS.CABundle = string(other.PEM()), string(other.PEM())
		}, "certificate"},
		"secret that is not there": {file(agentconfig.File{Secret: "app/none", Format: config.Raw}), "app/none"},
		"directory that is a file": {func(p *pod) { p.doc.SecretsDir = p.token }, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newLeakyPod(t)
			test.spoil(p)
			e := gather(t, p)
			c := withTerminationLog(p.command(t.Context(), agentconfig.CommandInit))
			out, err := c.CombinedOutput()
			if err == nil || !strings.Contains(string(out), test.says) {
				t.Errorf("%q is not in what init says: %v\n%s", test.says, err, out)
			}
			if _, last, ok := strings.Cut(string(out), terminationMark); canMount() && (!ok || !strings.Contains(last, test.says)) {
				t.Errorf("%q is not in the termination message: %s", test.says, last)
			}
			e.look("init", out)
			if left, err := filepath.Glob(filepath.Join(p.doc.SecretsDir, "*")); len(left) > 0 {
				t.Errorf("files without all secrets: %v, %v", left, err)
			}
		})
	}
}

// The state that a sidecar finds may be forged.
func TestNothingLeaksFromADamagedState(t *testing.T) {
	p := newLeakyPod(t)
	files := []string{"state.json", "round.json", "pause.json", "sessions.json"}
	for _, name := range files {
		text := []byte(`{"format":3,"holds":[{"secret":"` + sentinel + `"}]`)
		if err := os.WriteFile(filepath.Join(p.doc.StateDir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.cloud.Fault(t, emulator.Fault{Action: "AssumeRoleWithOIDC", Status: 403, Code: "NoPermission"})
	out, err := withTerminationLog(p.command(t.Context(), agentconfig.CommandRun)).CombinedOutput()
	for _, name := range files {
		if err == nil || !strings.Contains(string(out), name+" is damaged") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
	gather(t, p).look("run", out)
}

const terminationMark = "--- termination message"

// withTerminationLog has a command write its last words to a /dev/termination-log of its own, and these printed after all that
// it prints. Without the right to mount they are lost; they are what the log ends with.
func withTerminationLog(c *exec.Cmd) *exec.Cmd {
	if !canMount() {
		return c
	}
	const script = `mount -t tmpfs tmpfs /dev && : >/dev/termination-log && "$@"; code=$?; echo "` + terminationMark +
		`"; cat /dev/termination-log; exit $code`
	c.Args = append([]string{"unshare", "-m", "sh", "-c", script, "sh"}, append([]string{c.Path}, c.Args[1:]...)...)
	c.Path, c.Err = "/usr/bin/unshare", nil
	return c
}
