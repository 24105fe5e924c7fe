package agent

import (
	"bufio"
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

var dev = map[string]string{"env": "dev"}

// pod is what the agents of one pod share: its document, its environment, its two volumes, and the cloud they talk to.
type pod struct {
	t     *testing.T
	cloud *emulatortest.Server
	doc   agentconfig.Config
	env   map[string]string
	log   *journal
}

// newPod makes a pod of the ServiceAccount that the emulated role trusts, with two secrets that it may read.
func newPod(t *testing.T, files ...agentconfig.File) *pod {
	cloud := emulatortest.Start(t)
	cloud.Put(t,
		emulator.Secret{Name: "app/db", Type: "Rds", Tags: dev,
			Value: emulator.Value{Text: `{"AccountName":"app","AccountPassword":"sentinel-1"}`}},
		emulator.Secret{Name: "app/key", Tags: dev, Value: emulator.Value{Text: "sentinel-key-1"}},
	)
	if len(files) == 0 {
		files = []agentconfig.File{
			{Path: "conf/db.env", Mode: 0o440, Secret: "app/db", Format: config.Env},
			{Path: "conf/db.json", Mode: 0o400, Secret: "app/db", Format: config.JSON, Keys: []config.Key{{Name: "user", Path: "AccountName"}}},
			{Path: "api-key", Mode: 0o400, Secret: "app/key", Format: config.Raw},
		}
	}
	return &pod{
		t: t, cloud: cloud, log: &journal{lines: make(chan string, 10000)},
		doc: agentconfig.Config{
			Namespace: "rrsa-dev", ServiceAccount: "dev-sa",
			KMS:        agentconfig.Endpoint{Host: cloud.Addr, CABundle: string(emulatortest.CAPEM())},
			STS:        agentconfig.Endpoint{Host: cloud.Addr, CABundle: string(emulatortest.CAPEM())},
			SecretsDir: t.TempDir(), StateDir: t.TempDir(),
			RefreshInterval: config.Duration(20 * time.Millisecond),
			LogLevel:        "debug", Files: files,
		},
		env: map[string]string{
			"ALIBABA_CLOUD_ROLE_ARN":          emulatortest.RoleARN,
			"ALIBABA_CLOUD_OIDC_PROVIDER_ARN": emulatortest.ProviderARN,
			"ALIBABA_CLOUD_OIDC_TOKEN_FILE":   cloud.Issuer.TokenFile(t, emulatortest.Subject),
			agentconfig.PodNameEnv:            "web-7d9c-x2x",
		},
	}
}

// agent is a new process in the pod.
func (p *pod) agent() *Agent {
	p.t.Helper()
	a, err := p.open()
	if err != nil {
		p.t.Fatal(err)
	}
	return a
}

func (p *pod) open() (*Agent, error) {
	m := metrics.New()
	src, err := source.Open(p.doc, func(name string) string { return p.env[name] }, m)
	if err != nil {
		return nil, err
	}
	return New(p.doc, src, m, NewLogger(p.log, p.doc))
}

func (p *pod) init() {
	p.t.Helper()
	a := p.agent()
	if err := a.Init(p.t.Context()); err != nil {
		p.t.Fatal(a.Explain(err))
	}
}

// run starts a sidecar; stop ends it as the kubelet does.
func (p *pod) run() (stop func()) {
	p.t.Helper()
	a := p.agent()
	ctx, cancel := context.WithCancel(p.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := a.Run(ctx); err != nil {
			p.t.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	p.t.Cleanup(stop)
	return stop
}

// files are the pod's secrets as its containers see them.
func (p *pod) files() map[string]string {
	p.t.Helper()
	found := map[string]string{}
	top, err := os.ReadDir(p.doc.SecretsDir)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, e := range top {
		if strings.HasPrefix(e.Name(), "..") {
			continue
		}
		name, err := filepath.EvalSymlinks(filepath.Join(p.doc.SecretsDir, e.Name()))
		if err != nil {
			p.t.Fatal(err)
		}
		err = filepath.WalkDir(name, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			data, err := os.ReadFile(path)
			rest, _ := filepath.Rel(name, path)
			found[filepath.Join(e.Name(), rest)] = string(data)
			return err
		})
		if err != nil {
			p.t.Fatal(err)
		}
	}
	return found
}

func (p *pod) wantFiles(want map[string]string) {
	p.t.Helper()
	if got := p.files(); !reflect.DeepEqual(got, want) {
		p.t.Errorf("files %q\nwant  %q", got, want)
	}
}

// wantCalls compares with what the cloud counted since the start or the last look.
func (p *pod) wantCalls(sts, kms int) {
	p.t.Helper()
	calls := p.cloud.Calls()
	p.cloud.ResetCalls()
	if got := calls.Sum(emulator.Call{Action: "AssumeRoleWithOIDC"}); got != sts {
		p.t.Errorf("%d calls of STS, want %d", got, sts)
	}
	if got := calls.Sum(emulator.Call{Action: "*GetSecretValue"}); got != kms { // for one secret, or for several
		p.t.Errorf("%d calls of KMS, want %d: %v", got, kms, calls)
	}
}

// journal is a log that a test can wait for.
type journal struct {
	mu    sync.Mutex
	text  strings.Builder
	lines chan string
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.text.Write(b)
	scanner := bufio.NewScanner(strings.NewReader(string(b)))
	for scanner.Scan() {
		j.lines <- scanner.Text()
	}
	return len(b), nil
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// skip leaves out what is in the log already.
func (j *journal) skip() {
	for len(j.lines) > 0 {
		<-j.lines
	}
}

// waitFor returns the next line of the log with the message.
func (p *pod) waitFor(message string) string {
	p.t.Helper()
	deadline := time.After(2 * time.Minute)
	for {
		select {
		case line := <-p.log.lines:
			if strings.Contains(line, `"msg":"`+message) {
				return line
			}
		case <-deadline:
			p.t.Fatalf("no log line %q:\n%s", message, p.log)
		}
	}
}

func list(t *testing.T, directory string) []string {
	t.Helper()
	entries, err := os.ReadDir(directory)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
