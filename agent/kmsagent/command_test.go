package kmsagent

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// The emulator's authority is trusted as a user's own is: by the environment, once for the process.
func TestMain(m *testing.M) {
	bundle := filepath.Join(os.TempDir(), fmt.Sprintf("kms-agent-standalone-%d.pem", os.Getpid()))
	if err := os.WriteFile(bundle, emulatortest.CAPEM(), 0o600); err != nil {
		panic(err)
	}
	os.Setenv("SSL_CERT_FILE", bundle)
	code := m.Run()
	os.Remove(bundle)
	os.Exit(code)
}

const binaryValue = "\x00\x01\x02\xff"

// The commands of the documentation, one after the other.
func TestTokenThenAgent(t *testing.T) {
	h := newHost(t)
	if _, err := h.run("token", h.tokenFile); err != nil {
		t.Fatal(err)
	}
	h.agent("")
	status, body := h.get("/secretsmanager/get?secretId=app/dev/secret-1")
	stages, _ := json.Marshal(body["VersionStages"])
	if status != 200 || body["SecretData"] != "sentinel-1" || body["SecretName"] != "app/dev/secret-1" || body["SecretDataType"] != "text" ||
		body["SecretType"] != "Generic" || body["VersionId"] != "v1" || string(stages) != `{"VersionStage":["ACSCurrent"]}` ||
		body["RequestId"] == "" || body["CreateTime"] == "" {
		t.Errorf("%d %v", status, body)
	}
	h.get("/v1/app/dev/secret-1")
	h.get("/v1/app/dev/secret-1?versionStage=ACSCurrent")
	h.wantKMSCalls(1)

	if err := h.cloud.Rotate("app/dev/secret-1", emulator.Version{Value: emulator.Value{Text: "sentinel-3"}}); err != nil {
		t.Fatal(err)
	}
	if _, body := h.get("/v1/app/dev/secret-1"); body["SecretData"] != "sentinel-1" {
		t.Errorf("not from the cache: %v", body)
	}
	if _, body := h.get("/v1/app/dev/secret-1?refreshNow=true"); body["SecretData"] != "sentinel-3" {
		t.Errorf("not refreshed: %v", body)
	}
	for path, want := range map[string]struct {
		status int
		code   string
	}{
		"/v1/app/dev/none":                     {404, "Forbidden.ResourceNotFound"},
		"/v1/app/prod/secret-1":                {403, "Forbidden.NoPermission"},
		"/v1/app/dev/secret-1?versionId=other": {404, "Forbidden.ResourceNotFound"},
	} {
		status, body := h.get(path)
		if status != want.status || body["Code"] != want.code || body["RequestId"] == "" || body["Recommend"] == "" {
			t.Errorf("%s: %d %v", path, status, body)
		}
	}
	log := h.stderr.String()
	token, _ := os.ReadFile(h.tokenFile)
	if strings.Contains(log, "sentinel") || strings.Contains(log, string(token)) {
		t.Errorf("the log holds a value or the token: %s", log)
	}
	if !strings.Contains(log, "LogPath, MaxSize and MaxBackups have no effect") {
		t.Errorf("nothing about LogPath: %s", log)
	}
}

// The same in one command, for images without a shell; a second start keeps the token.
func TestTokenFileFlag(t *testing.T) {
	h := newHost(t)
	delete(h.env, "KMS_TOKEN")
	stop := h.agent("", "--token-file="+h.tokenFile)
	before, err := os.ReadFile(h.tokenFile)
	if err != nil {
		t.Fatal(err)
	}
	stop()
	h.agent("", "--token-file="+h.tokenFile)
	if after, err := os.ReadFile(h.tokenFile); err != nil || !bytes.Equal(before, after) {
		t.Errorf("another token, %v: applications have read the first", err)
	}
	if status, _ := h.get("/v1/app/dev/secret-1"); status != 200 {
		t.Error(status)
	}
}

func TestWatch(t *testing.T) {
	h := newHost(t)
	h.agent("", "--token-file="+h.tokenFile)
	lines := bufio.NewScanner(h.ask("/v1/watch?secretId=app/dev/secret-1").Body)
	lines.Scan()
	if err := h.cloud.Rotate("app/dev/secret-1", emulator.Version{Value: emulator.Value{Text: "sentinel-3"}}); err != nil {
		t.Fatal(err)
	}
	h.get("/v1/app/dev/secret-1?refreshNow=true")
	for lines.Scan() {
		if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
			if want := `{"SecretName":"app/dev/secret-1","VersionId":"v2","VersionStages":["ACSCurrent"]}`; data != want {
				t.Errorf("%s, want %s", data, want)
			}
			return
		}
	}
	t.Errorf("the stream ended: %v", lines.Err())
}

func TestSTSRefuses(t *testing.T) {
	h := newHost(t)
	h.env["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] = h.cloud.Issuer.TokenFile(t, "system:serviceaccount:other:sa")
	h.agent("", "--token-file="+h.tokenFile)
	status, body := h.get("/v1/app/dev/secret-1")
	if recommend, _ := body["Recommend"].(string); status != 403 || body["Code"] != "AuthenticationFail.NoPermission" ||
		!strings.Contains(recommend, "system:serviceaccount:other:sa") {
		t.Errorf("%d %v", status, body)
	}
}

func TestGet(t *testing.T) {
	for shape, want := range map[int]map[string]string{
		0: {"app/dev/secret-1": "sentinel-1", "app/dev/binary": binaryValue},
		1: {"app/dev/secret-1": "sentinel-1", "app/dev/binary": binaryValue},
		2: {"app/dev/secret-1": `{"value":"sentinel-1"}`},
	} {
		t.Run(fmt.Sprintf("type %d", shape), func(t *testing.T) {
			h := newHost(t)
			h.agent(fmt.Sprintf("ResponseType = %d", shape), "--token-file="+h.tokenFile)
			for id, value := range want {
				if out, err := h.run("get", id); err != nil || out != value {
					t.Errorf("type %d: %q, %v; want %q", shape, out, err, value)
				}
			}
			if shape == 1 {
				if _, body := h.get("/v1/app/dev/secret-1"); body["ARN"] != "acs:kms:cn-hangzhou:1234567890123456:secret/app/dev/secret-1" {
					t.Errorf("%v", body)
				}
			}
			if out, err := h.run("get", "--version-stage=ACSCurrent", "--refresh-now", "app/dev/secret-1"); err != nil || out == "" {
				t.Errorf("%q, %v", out, err)
			}
			if out, err := h.run("get", "app/prod/secret-1"); err == nil || out != "" ||
				!strings.Contains(err.Error(), "Forbidden.NoPermission") ||
				!strings.Contains(err.Error(), "a policy of "+emulatortest.RoleARN+" must allow kms:GetSecretValue") {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

func TestMisuseTeaches(t *testing.T) {
	h := newHost(t)
	h.env[addressVariable] = "1" // no server listens there
	complete := writeConfig(t, documented)
	for _, c := range []struct {
		unset   string
		command string
		args    []string
		want    string
	}{
		{"", "agent", nil, "usage: kms-agent agent [--token-file=PATH] <config.toml>"},
		{"", "agent", []string{"--tokenfile=x", complete}, "usage: "},
		{"", "agent", []string{"/nonexistent.toml"}, "/nonexistent.toml"},
		{"", "agent", []string{complete}, "KMS_TOKEN: read the token"},
		{"KMS_TOKEN", "agent", []string{complete}, "set KMS_TOKEN"},
		{"ALIBABA_CLOUD_ROLE_ARN", "agent", []string{"--token-file=" + h.tokenFile, complete}, "ALIBABA_CLOUD_ROLE_ARN is not set"},
		{"", "token", nil, "usage: kms-agent token <path>"},
		{"", "token", []string{"/nonexistent/token"}, "/nonexistent/token"},
		{"", "get", nil, "usage: kms-agent get"},
		{"", "get", []string{"app/db"}, "no agent answers on 127.0.0.1:1"},
	} {
		env := h.env[c.unset]
		delete(h.env, c.unset)
		if _, err := h.run(c.command, c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %q without %s: %v; want %s", c.command, c.args, c.unset, err, c.want)
		}
		if c.unset != "" {
			h.env[c.unset] = env
		}
	}
}
