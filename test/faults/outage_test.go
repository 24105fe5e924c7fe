package faults

import (
	"context"
	"errors"
	"net/http"
	"os"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

const (
	// Both in virtual time.
	hourDown   = "KMS down for an hour"
	minuteDown = "KMS down at start for a minute"

	// The documented budgets: the most requests that an agent sends in any minute of an outage, whatever the number of its
	// secrets and the chance in its pauses.
	outageBudget = 15 // with files
	startBudget  = 40 // without

	longestPause = 5 * time.Minute // between two attempts
)

// gateway is a KMS in virtual time, with the secrets of newPod.
type gateway struct {
	mu      sync.Mutex
	from    time.Time // of the outage
	to      time.Time
	current int // generation
	asked   []time.Time
	watch   func() // called for each attempt
}

// Read implements source.Reader.
func (g *gateway) Read(_ context.Context, ref kms.Ref) (kms.Secret, error) {
	if ref.Name == "app/db" { // the first, for which there is no goroutine yet
		g.watch()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	g.asked = append(g.asked, now)
	if !now.Before(g.from) && now.Before(g.to) {
		return kms.Secret{}, &kms.Error{Ref: ref, Status: http.StatusServiceUnavailable, Code: "ServiceUnavailableTemporary"}
	}
	value := apiKey(g.current)
	if ref.Name == "app/db" {
		value = database(g.current)
	}
	return kms.Secret{Name: ref.Name, VersionID: value, Data: []byte(value)}, nil
}

// ReadAll implements source.Reader.
func (g *gateway) ReadAll(context.Context, []kms.Ref) ([]kms.Secret, error) {
	return nil, errors.ErrUnsupported
}

func (g *gateway) CloseIdleConnections() {}

// agent is one that reads from g.
func (g *gateway) agent(p *pod) *agent.Agent {
	return p.agentOf(source.New(g, &identity.Sessions{}, nil), metrics.New())
}

// most is the largest number of requests in a minute that lies within the outage.
func (g *gateway) most() int {
	most := 0
	for i, begin := range g.asked {
		n := 0
		for _, at := range g.asked[i:] {
			if at.Before(g.to) && at.Sub(begin) < time.Minute {
				n++
			}
		}
		if !begin.Before(g.from) {
			most = max(most, n)
		}
	}
	return most
}

// virtualPod is a pod whose agent has the default interval and asks g.
func virtualPod(t *testing.T, g *gateway) *pod {
	p := &pod{t: t, patience: 2 * longestPause, attempts: make(chan attempt, 10000), token: os.DevNull}
	p.doc = agentconfig.Config{
		KMS: agentconfig.Endpoint{Host: "kms.invalid"}, SecretsDir: t.TempDir(), StateDir: t.TempDir(),
		RefreshInterval: config.Duration(5 * time.Minute), LogLevel: "debug", Files: podFiles(),
	}
	g.current = 1
	return p
}

// An hour without KMS, in which the secrets change: nothing happens to the files, few requests are sent, nothing piles up,
// and the agent is back within its longest pause.
func hourWithoutKMS(t *testing.T, results *table) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		g := &gateway{from: begun.Add(20 * time.Minute), to: begun.Add(80 * time.Minute)}
		p := virtualPod(t, g)
		var goroutines, descriptors []int
		g.watch = func() {
			goroutines, descriptors = append(goroutines, runtime.NumGoroutine()), append(descriptors, open(t))
		}
		stop := p.start(g.agent(p).Run)

		<-time.After(time.Until(g.from))
		first := p.awaitFailure()
		before := inventory(t, p.doc.SecretsDir)
		g.mu.Lock()
		g.current = 2
		g.mu.Unlock()
		<-time.After(time.Until(g.to) - time.Second)
		meanwhile := inventory(t, p.doc.SecretsDir)
		if !isGeneration(before, 1) || !reflect.DeepEqual(before, meanwhile) {
			t.Errorf("after 59 minutes there is %v, before %v", meanwhile, before)
		}
		<-time.After(time.Second)
		p.settle()
		failed := p.failed
		last := p.awaitSuccess()
		if took := last.at.Sub(g.to); took > longestPause {
			t.Errorf("back %s after the outage", took)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		after := inventory(t, p.doc.SecretsDir)
		if !isGeneration(after, 2) {
			t.Errorf("in the end: %v", after)
		}
		if n := g.most(); n > outageBudget {
			t.Errorf("%d requests in a minute of the outage, want at most %d", n, outageBudget)
		}
		for _, counts := range [][]int{goroutines[2:], descriptors[2:]} {
			for _, n := range counts {
				if n > counts[0] {
					t.Errorf("goroutines or descriptors pile up: %d", counts)
					break
				}
			}
		}
		results.add(row{
			fault: hourDown, failed: failed, kms: len(g.asked), noticed: first.at.Sub(g.from), took: last.at.Sub(g.to),
			before: describe(before, 1, 2), meanwhile: describe(meanwhile, 1, 2), after: describe(after, 1, 2),
		})
	})
}

// A start that finds no KMS gives up after a minute, leaves nothing and says why; the kubelet starts it again, with pauses
// of its own.
func startWithoutKMS(t *testing.T, results *table) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		g := &gateway{from: begun, to: begun.Add(time.Hour), watch: func() {}}
		p := virtualPod(t, g)
		a := g.agent(p)
		err := a.Init(t.Context())
		if err == nil || !strings.Contains(a.Explain(err), "no secrets within 1m0s") ||
			!strings.Contains(a.Explain(err), "ServiceUnavailableTemporary") {
			t.Errorf("the start: %v", err)
		}
		took := time.Since(begun)
		if took != time.Minute {
			t.Errorf("it gave up after %s", took)
		}
		if n := g.most(); n > startBudget {
			t.Errorf("%d requests in a minute, want at most %d", n, startBudget)
		}
		p.settle()
		entries, err := os.ReadDir(p.doc.SecretsDir)
		if err != nil || len(entries) != 0 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
		results.add(row{fault: minuteDown, failed: p.failed, kms: len(g.asked), took: took, before: "none", meanwhile: "none", after: "none"})
	})
}
