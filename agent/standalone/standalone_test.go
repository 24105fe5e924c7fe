package standalone

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

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

// host is where a standalone agent runs: its cloud, its environment, and what it printed.
type host struct {
	t         *testing.T
	cloud     *emulatortest.Server
	env       map[string]string
	tokenFile string
	address   string
	stderr    output
}

type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

func newHost(t *testing.T) *host {
	cloud := emulatortest.Start(t)
	dev := map[string]string{"env": "dev"}
	cloud.Put(t,
		emulator.Secret{Name: "app/dev/secret-1", Tags: dev, Value: emulator.Value{Text: "sentinel-1"}},
		emulator.Secret{Name: "app/dev/binary", Tags: dev, Value: emulator.Value{Binary: "AAEC/w=="}},
		emulator.Secret{Name: "app/prod/secret-1", Tags: map[string]string{"env": "prod"}, Value: emulator.Value{Text: "sentinel-2"}},
	)
	h := &host{t: t, cloud: cloud, tokenFile: filepath.Join(t.TempDir(), "token")}
	h.env = map[string]string{
		"ALIBABA_CLOUD_ROLE_ARN":          emulatortest.RoleARN,
		"ALIBABA_CLOUD_OIDC_PROVIDER_ARN": emulatortest.ProviderARN,
		"ALIBABA_CLOUD_OIDC_TOKEN_FILE":   cloud.Issuer.TokenFile(t, emulatortest.Subject),
		"ALIBABA_CLOUD_STS_ENDPOINT":      cloud.Addr,
		"KMS_TOKEN":                       "file://" + h.tokenFile,
	}
	return h
}

func (h *host) run(command string, args ...string) (string, error) {
	h.t.Helper()
	var stdout bytes.Buffer
	err := Commands()[command](h.t.Context(), args, func(name string) string { return h.env[name] }, &stdout, &h.stderr)
	return stdout.String(), err
}

// client is not http.DefaultClient, whose transport the agent replaces for the STS SDK.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// agent starts kms-agent agent and waits until it answers.
func (h *host) agent(settings string, flags ...string) (stop func()) {
	h.t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.address = free.Addr().String()
	_, port, _ := net.SplitHostPort(h.address)
	free.Close()
	h.env[addressVariable] = port
	file := writeConfig(h.t, fmt.Sprintf("[Server]\nHttpPort = %s\n%s\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = %q\n[Log]\nLogLevel = \"Debug\"\nLogPath = \"./logs/\"\n",
		port, settings, h.cloud.Addr))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		getenv := func(name string) string { return h.env[name] }
		if err := runAgent(ctx, append(flags, file), getenv, io.Discard, &h.stderr); err != nil {
			h.t.Errorf("agent: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	h.t.Cleanup(stop)
	for range 500 {
		if res, err := client.Get("http://" + h.address + "/ping"); err == nil {
			res.Body.Close()
			return stop
		}
		<-time.After(10 * time.Millisecond)
	}
	h.t.Fatalf("the agent does not answer: %s", h.stderr.String())
	return nil
}

// get asks as an application does.
func (h *host) get(path string) (int, map[string]any) {
	h.t.Helper()
	token, err := os.ReadFile(h.tokenFile)
	if err != nil {
		h.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(h.t.Context(), http.MethodGet, "http://"+h.address+path, http.NoBody)
	if err != nil {
		h.t.Fatal(err)
	}
	req.Header.Set("X-KMS-Token", string(token))
	res, err := client.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer res.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		h.t.Fatal(err)
	}
	return res.StatusCode, body
}

func (h *host) wantKMSCalls(want int) {
	h.t.Helper()
	if got := h.cloud.Calls().Sum(emulator.Call{Action: "GetSecretValue"}); got != want {
		h.t.Errorf("%d calls of KMS, want %d", got, want)
	}
}

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

func TestSTSRefuses(t *testing.T) {
	h := newHost(t)
	h.env["ALIBABA_CLOUD_OIDC_TOKEN_FILE"] = h.cloud.Issuer.TokenFile(t, "system:serviceaccount:other:sa")
	h.agent("", "--token-file="+h.tokenFile)
	status, body := h.get("/v1/app/dev/secret-1")
	if recommend, _ := body["Recommend"].(string); status != 403 || body["Code"] != "AuthenticationFail.NoPermission" || !strings.Contains(recommend, "system:serviceaccount:other:sa") {
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
				!strings.Contains(err.Error(), "Forbidden.NoPermission") || !strings.Contains(err.Error(), "a policy of the role must allow kms:GetSecretValue") {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

func TestMisuseTeaches(t *testing.T) {
	h := newHost(t)
	h.env[addressVariable] = "1" // nobody listens there
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
