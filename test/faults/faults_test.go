// Package faults breaks what an agent depends on, one thing at a time, and looks at what its pod has meanwhile.
package faults

import (
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// fault is one thing that breaks. The pod has files of generation 1; while the fault lasts, generation 2 becomes current.
type fault struct {
	name string
	// atStart: it is the pod's start that is struck, so that there are no files yet.
	atStart bool
	// before changes the pod before it has files, and struck what its next agent finds.
	before, struck func(*pod)
	// strike happens after a first refresh that went well; nil: the fault is there from the start (struck).
	strike func(*pod)
	change func(*pod) // what happens in KMS after the first failure; nil: generation 2
	heal   func(*pod) // nil: the fault stays

	failures int           // to see before healing; 0: the agent gets over it without one
	lasts    time.Duration // until it heals, at most a minute; 0: until the failures are seen
	says     string        // in the first failure, as the agent explains it
	cost     int           // requests to KMS of an attempt that fails; 0: one, whatever the number of secrets
	sts      int           // the most requests to STS, besides the first; -1: one an attempt that fails
	pause    time.Duration // between the first failure and the success, at least
	after    int           // the generation that is right in the end; 0: 2
}

// row is what is shown of a fault.
type row struct {
	fault             string
	failed, sts, kms  int           // attempts that failed, and requests of all attempts since the fault struck
	noticed           time.Duration // from the strike to the first failure; 0: none
	took              time.Duration // from the healing to the right files, or from the strike if the fault stays or does no harm
	before, meanwhile string        // files
	after             string
}

// table is filled in by cases that run at the same time. Rows of one fault are added up.
type table struct {
	mu   sync.Mutex
	rows map[string]row
}

func (t *table) add(r row) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if other, ok := t.rows[r.fault]; ok {
		r.failed, r.sts, r.kms, r.took = r.failed+other.failed, r.sts+other.sts, r.kms+other.kms, max(r.took, other.took)
	}
	t.rows[r.fault] = r
}

func (t *table) String() string {
	var b strings.Builder
	line := "\n%-40s %6v %4v %4v %9v %9v  %-8s %-9s %s"
	fmt.Fprintf(&b, line, "fault", "failed", "STS", "KMS", "noticed", "right", "before", "during", "after")
	for _, name := range order() {
		if r, ok := t.rows[name]; ok {
			fmt.Fprintf(&b, line, r.fault, r.failed, r.sts, r.kms,
				orNone(r.noticed), r.took.Round(time.Millisecond), r.before, r.meanwhile, r.after)
		}
	}
	return b.String()
}

func orNone(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return d.Round(time.Millisecond).String()
}

// order is that of the table.
func order() []string {
	var all []string
	for _, f := range faults() {
		all = append(all, f.name)
	}
	return append(all, hourDown, minuteDown, killed)
}

func TestFaults(t *testing.T) {
	warmUp(t)
	goroutines, descriptors := runtime.NumGoroutine(), open(t)
	results := &table{rows: map[string]row{}}
	// Faults in virtual time go first and take no time: New sets state of the whole process, which no test may use meanwhile.
	t.Run(hourDown, func(t *testing.T) { hourWithoutKMS(t, results) })
	t.Run(minuteDown, func(t *testing.T) { startWithoutKMS(t, results) })
	t.Run("all", func(t *testing.T) {
		for _, f := range faults() {
			t.Run(f.name, func(t *testing.T) {
				c := prepare(t, f)
				t.Parallel()
				results.add(c.run())
			})
		}
		for pod := range killedPods {
			t.Run(fmt.Sprint(killed, " in all, pod ", pod), func(t *testing.T) {
				t.Parallel()
				results.add(killAtRandom(t))
			})
		}
	})
	t.Log(results)
	if len(results.rows) != len(order()) {
		t.Errorf("%d rows, want %d", len(results.rows), len(order()))
	}
	// What is on its way out is given a moment to be gone.
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for runtime.NumGoroutine() > goroutines || open(t) > descriptors {
		select {
		case <-tick.C:
		case <-deadline:
			stacks := make([]byte, 1<<20)
			t.Fatalf("goroutines: %d, before %d; descriptors: %d, before %d\n%s", runtime.NumGoroutine(), goroutines,
				open(t), descriptors, stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// warmUp opens what a process keeps once it has used the network.
func warmUp(t *testing.T) {
	d := newDoor(t)
	d.open(t, d.addr)
}

// open counts the process's file descriptors.
func open(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// scene is a fault about to strike a pod.
type scene struct {
	fault
	*pod
	begin func() (stop func() error)
	found map[string]file
}

// prepare makes the pod, and the agent that will be struck: one after the other, because New sets what the whole process
// trusts.
func prepare(t *testing.T, f fault) *scene {
	s := &scene{fault: f, pod: newPod(t)}
	if f.before != nil {
		f.before(s.pod)
	}
	if !f.atStart {
		if a := s.agent(); a.Init(t.Context()) != nil {
			t.Fatalf("the pod does not start:\n%s", s.log.tail())
		}
		s.settle()
	}
	s.failed, s.good = 0, 0
	if f.struck != nil {
		f.struck(s.pod)
	}
	a := s.agent()
	s.begin = func() func() error { return s.start(a.Run) }
	if f.atStart {
		s.begin = func() func() error { return s.start(a.Init) }
	}
	return s
}

func (s *scene) run() row {
	t := s.t
	s.found = inventory(t, s.doc.SecretsDir)
	said := s.status()
	s.cloud.ResetCalls()
	struck := time.Now()
	stop := s.begin()
	if s.strike != nil {
		s.awaitSuccess()
		s.cloud.ResetCalls()
		s.failed, s.good = 0, 0
		struck = time.Now()
		s.strike(s.pod)
	}
	if s.cost == 0 {
		s.cost = 1
	}
	if s.after == 0 {
		s.after = 2
	}
	if s.change == nil {
		s.change = func(p *pod) { p.put(1, 2) }
	}

	var first attempt
	if s.failures > 0 {
		first = s.awaitFailure()
		if text := first.err.Error(); !strings.Contains(text, s.says) {
			t.Errorf("%q is not in:\n%s", s.says, text)
		}
	}
	s.change(s.pod)
	for i := 1; i < s.failures; i++ {
		s.awaitFailure()
	}
	s.outlast(struck)
	meanwhile := inventory(t, s.doc.SecretsDir)
	if says := s.status(); s.failures > 0 && (says.LastError == nil || !slices.Equal(versions(says), versions(said))) {
		t.Errorf("kms-agent status says %+v while the files are made of %+v", says, said.Secrets)
	}
	if s.failures > 0 && !reflect.DeepEqual(meanwhile, s.found) {
		t.Errorf("the files changed while nothing could be fetched:\n%v\nbefore\n%v", meanwhile, s.found)
	}
	began := struck
	if s.heal != nil {
		began = time.Now()
		s.heal(s.pod)
	}
	last := first
	if s.heal != nil || s.failures == 0 {
		failed := s.failed
		last = s.awaitGeneration(s.after)
		if s.failures == 0 && s.failed > failed {
			t.Errorf("%d attempts failed:\n%s", s.failed-failed, s.log.tail())
		}
		if since := last.at.Sub(first.at); s.failures > 0 && since < s.pause {
			t.Errorf("the agent was back after %s, want %s at least", since, s.pause)
		}
	} else {
		s.after = 1
	}
	if err := stop(); err != nil {
		t.Errorf("the agent ended: %s", err.Error())
	}
	s.settle()
	r := s.report(meanwhile)
	r.took = last.at.Sub(began)
	if s.failures > 0 {
		r.noticed = first.at.Sub(struck)
	}
	return r
}

// status is what kms-agent status says.
func (p *pod) status() status.Status {
	s, _ := agent.Status(p.doc) // of a pod without secrets it is an error, and empty
	return s
}

func versions(s status.Status) (all []string) {
	for _, secret := range s.Secrets {
		all = append(all, secret.Name+"@"+secret.Version)
	}
	return all
}

// outlast waits until a fault that has a duration has lasted for it, and checks what it cost until then.
func (s *scene) outlast(struck time.Time) {
	if s.lasts == 0 {
		return
	}
	<-time.After(time.Until(struck.Add(s.lasts)))
	calls, lasted := s.cloud.Calls(), time.Since(struck)
	if budget := outageBudget * (1 + int(lasted/time.Minute)); calls.Sum(emulator.Call{}) > budget {
		s.t.Errorf("want at most %d requests in %s of the outage: %v", budget, lasted, calls)
	}
}

// report checks what there is in the end, and what it cost.
func (s *scene) report(meanwhile map[string]file) row {
	t := s.t
	after := inventory(t, s.doc.SecretsDir)
	if !isGeneration(after, s.after) {
		t.Errorf("in the end: %v, want generation %d", after, s.after)
	}
	calls := s.cloud.Calls()
	sts, kms := calls.Sum(emulator.Call{Action: "AssumeRoleWithOIDC"}), calls.Sum(emulator.Call{Action: "*GetSecretValue"})
	// An attempt that the strike or the end interrupts may have asked for all secrets.
	if budget := s.failed*s.cost + (s.good+2)*secrets; kms > budget {
		t.Errorf("%d requests to KMS in %d attempts that failed and %d that did not, want at most %d: %v", kms, s.failed, s.good, budget, calls)
	}
	if s.sts < 0 {
		s.sts = s.failed + 1
	}
	if budget := 1 + s.sts; sts > budget {
		t.Errorf("%d requests to STS, want at most %d: %v", sts, budget, calls)
	}
	if strings.Contains(s.log.String(), "sentinel") {
		t.Error("a value is in the log")
	}
	return row{
		fault: s.name, failed: s.failed, sts: sts, kms: kms,
		before: describe(s.found, 1, 2), meanwhile: describe(meanwhile, 1, 2), after: describe(after, 1, 2),
	}
}
