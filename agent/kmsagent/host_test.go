package kmsagent

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

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
	mu      sync.Mutex
	text    bytes.Buffer
	serving chan string
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var line struct{ Msg, Address string }
	if json.Unmarshal(p, &line) == nil && line.Msg == "serving" && o.serving != nil {
		o.serving <- line.Address
		o.serving = nil
	}
	return o.text.Write(p)
}

// listens is sent where the agent that starts next says that it serves.
func (o *output) listens() <-chan string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.serving = make(chan string, 1)
	return o.serving
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
	file := writeConfig(h.t, fmt.Sprintf("[Server]\nHttpPort = 0\n%s\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = %q\n[Log]\nLogLevel = "+
		"\"Debug\"\nLogPath = \"./logs/\"\n",
		settings, h.cloud.Addr))
	serving := h.stderr.listens()
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	ended := make(chan struct{})
	wg.Go(func() {
		defer close(ended)
		getenv := func(name string) string { return h.env[name] }
		if err := runAgent(ctx, append(flags, file), getenv, io.Discard, &h.stderr); err != nil {
			h.t.Errorf("agent: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	h.t.Cleanup(stop)
	select {
	case h.address = <-serving:
	case <-ended:
		h.t.FailNow()
	}
	h.env[addressVariable] = h.address
	return stop
}

// ask sends an application's request.
func (h *host) ask(path string) *http.Response {
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
	h.t.Cleanup(func() { res.Body.Close() })
	return res
}

// get reads an answer.
func (h *host) get(path string) (int, map[string]any) {
	h.t.Helper()
	res := h.ask(path)
	defer res.Body.Close()
	var body map[string]any
	if err := json.NewDecoder(res.Body).Decode(&body); err != nil {
		h.t.Fatal(err)
	}
	return res.StatusCode, body
}

func (h *host) wantKMSCalls(want int) {
	h.t.Helper()
	if got := h.cloud.Calls().Sum(emulator.Call{Action: "*GetSecretValue"}); got != want {
		h.t.Errorf("%d calls of KMS, want %d", got, want)
	}
}
