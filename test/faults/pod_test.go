package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

const (
	interval = 50 * time.Millisecond // between refreshes, so that the pauses after failures are at most six times that
	secrets  = 2                     // of a pod
)

// pod has three files of two secrets, and a cloud of its own.
type pod struct {
	t     *testing.T
	cloud *emulatortest.Server
	doc   agentconfig.Config
	token string // the file
	log   journal

	explain func(error) string // of the agent

	patience time.Duration // with the attempt that must come
	attempts chan attempt
	failed   int // attempts that were taken from the channel, or were left in it
	good     int
}

// attempt is one try to get the files up to date.
type attempt struct {
	at  time.Time
	err error
}

func newPod(t *testing.T) *pod {
	cloud := emulatortest.Start(t)
	p := &pod{t: t, cloud: cloud, token: cloud.Issuer.TokenFile(t, emulatortest.Subject), patience: 3 * time.Minute,
		attempts: make(chan attempt, 10000)}
	endpoint := agentconfig.Endpoint{Host: cloud.Addr, CABundle: string(emulatortest.CAPEM())}
	p.doc = agentconfig.Config{
		Namespace: "rrsa-dev", ServiceAccount: "dev-sa", KMS: endpoint, STS: endpoint,
		SecretsDir: t.TempDir(), StateDir: t.TempDir(), RefreshInterval: config.Duration(interval), LogLevel: "debug",
		Files: podFiles(),
	}
	p.put(1)
	return p
}

func podFiles() []agentconfig.File {
	return []agentconfig.File{
		{Path: "conf/db.env", Mode: 0o440, Secret: "app/db", Format: config.Env},
		{Path: "conf/db.json", Mode: 0o400, Secret: "app/db", Format: config.Raw},
		{Path: "key", Mode: 0o400, Secret: "app/key", Format: config.Raw},
	}
}

// The values of a generation of the secrets, and the files that are made of them.
func database(n int) string { return fmt.Sprintf(`{"password":"sentinel-%d"}`, n) }
func apiKey(n int) string   { return fmt.Sprintf("sentinel-key-%d", n) }

func contents(n int) map[string]string {
	return map[string]string{"conf/db.env": fmt.Sprintf("password=sentinel-%d\n", n), "conf/db.json": database(n), "key": apiKey(n)}
}

// put replaces the secrets by ones whose versions are the generations given; the last is current.
func (p *pod) put(generations ...int) {
	p.t.Helper()
	db := emulator.Secret{Name: "app/db", Tags: map[string]string{"env": "dev"}}
	key := emulator.Secret{Name: "app/key", Tags: db.Tags}
	for _, n := range generations {
		id := fmt.Sprint("v", n)
		db.Versions = append(db.Versions, emulator.Version{ID: id, Value: emulator.Value{Text: database(n)}})
		key.Versions = append(key.Versions, emulator.Version{ID: id, Value: emulator.Value{Text: apiKey(n)}})
	}
	p.cloud.Put(p.t, db, key)
}

func (p *pod) env(name string) string {
	return map[string]string{
		"ALIBABA_CLOUD_ROLE_ARN":          emulatortest.RoleARN,
		"ALIBABA_CLOUD_OIDC_PROVIDER_ARN": emulatortest.ProviderARN,
		"ALIBABA_CLOUD_OIDC_TOKEN_FILE":   p.token,
		agentconfig.PodNameEnv:            "web-0",
	}[name]
}

// agent is a new process in the pod.
func (p *pod) agent() *agent.Agent {
	p.t.Helper()
	m := metrics.New()
	src, err := source.Open(p.doc, p.env, m)
	if err != nil {
		p.t.Fatal(err)
	}
	return p.agentOf(src, m)
}

func (p *pod) agentOf(src *source.Source, m *metrics.Agent) *agent.Agent {
	p.t.Helper()
	p.log.attempts = p.attempts
	a, err := agent.New(p.doc, src, m, agent.NewLogger(&p.log, p.doc))
	if err != nil {
		p.t.Fatal(err)
	}
	p.explain = a.Explain
	return a
}

// await takes attempts until one is what the test waits for, which what says in words. All of them together may take no longer
// than patience, so that an agent that retries in vain fails the test instead of blocking it.
func (p *pod) await(what string, wanted func(attempt) bool) attempt {
	p.t.Helper()
	deadline := time.After(p.patience)
	seen, last := 0, error(nil)
	for {
		select {
		case a := <-p.attempts:
			p.count(a)
			if wanted(a) {
				return a
			}
			seen, last = seen+1, a.err
		case <-deadline:
			p.t.Fatalf("no %s within %s, but %d other attempts (the last one's error: %v)\nfiles: %v\nlog: %s",
				what, p.patience, seen, last, inventory(p.t, p.doc.SecretsDir), p.log.tail())
		}
	}
}

// count leaves out the attempt that the agent's end interrupted, of which there is nothing in the log.
func (p *pod) count(a attempt) {
	switch {
	case a.err == nil:
		p.good++
	default:
		p.failed++
	}
}

// awaitFailure waits for an attempt that fails.
func (p *pod) awaitFailure() attempt {
	p.t.Helper()
	return p.await("attempt that fails", func(a attempt) bool { return a.err != nil })
}

// awaitSuccess waits for an attempt that does not fail.
func (p *pod) awaitSuccess() attempt {
	p.t.Helper()
	return p.await("attempt that succeeds", func(a attempt) bool { return a.err == nil })
}

// awaitGeneration waits until the files are those of a generation. Two secrets do not change at one moment, so an attempt
// before may bring the first of them.
func (p *pod) awaitGeneration(n int) attempt {
	p.t.Helper()
	return p.await(fmt.Sprintf("attempt that brings generation %d", n), func(a attempt) bool {
		files := inventory(p.t, p.doc.SecretsDir)
		if strings.Contains(describe(files, 1, 2), "?") {
			p.t.Errorf("half-written: %v", files)
		}
		return a.err == nil && isGeneration(files, n)
	})
}

// settle counts what happened until the agent ended.
func (p *pod) settle() {
	for {
		select {
		case a := <-p.attempts:
			p.count(a)
		default:
			return
		}
	}
}

// start runs work; stop ends it and waits for its end.
func (p *pod) start(work func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	var group sync.WaitGroup
	group.Go(func() {
		if err = work(ctx); err != nil && !agent.Passing(err) { // it did not try again
			p.attempts <- attempt{time.Now(), errors.New(p.explain(err))}
		}
	})
	stop = func() error { cancel(); group.Wait(); return err }
	p.t.Cleanup(func() { stop() })
	return stop
}

// file is one file as a container sees it; two that are equal are the same file.
type file struct {
	data  string
	inode uint64
	mode  fs.FileMode
	time  time.Time
}

// inventory are the files in the directory of the pod's secrets.
func inventory(t *testing.T, directory string) map[string]file {
	t.Helper()
	found := map[string]file{}
	for path := range contents(0) {
		data, err := os.ReadFile(filepath.Join(directory, path))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(directory, path))
		if err != nil {
			t.Fatal(err)
		}
		found[path] = file{string(data), info.Sys().(*syscall.Stat_t).Ino, info.Mode(), info.ModTime()}
	}
	return found
}

// isGeneration reports whether the files are all those of a generation.
func isGeneration(files map[string]file, n int) bool {
	got := map[string]string{}
	for path, f := range files {
		got[path] = f.data
	}
	return reflect.DeepEqual(got, contents(n))
}

// describe says of which generations the files are; "?" is a generation that was never written.
func describe(files map[string]file, generations ...int) string {
	counts := map[string]int{}
	for path, f := range files {
		name := "?"
		for _, n := range generations {
			if contents(n)[path] == f.data {
				name = fmt.Sprint("v", n)
			}
		}
		counts[name]++
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d × %s", counts[name], name))
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// journal is what the agent logged.
type journal struct {
	mu       sync.Mutex
	text     bytes.Buffer
	attempts chan<- attempt // nil: no test waits for them
}

func (j *journal) Write(b []byte) (int, error) {
	var line struct{ Msg, Error string }
	if j.attempts != nil && json.Unmarshal(b, &line) == nil { // not of a process of its own
		switch line.Msg {
		case "refreshed", "refreshed again", "secrets ready":
			j.attempts <- attempt{time.Now(), nil}
		case "refresh failed, the files stay as they are", "no secrets yet, trying again":
			j.attempts <- attempt{time.Now(), errors.New(line.Error)}
		}
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// address is where a server of the agent's listens, once it has said so with the message.
func (j *journal) address(message string) string {
	for text := range strings.Lines(j.String()) {
		var line struct{ Msg, Address string }
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == message {
			return line.Address
		}
	}
	return ""
}

// tail is the end of the log.
func (j *journal) tail() string {
	const most = 4000
	text := j.String()
	return text[max(0, len(text)-most):]
}
