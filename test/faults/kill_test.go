package faults

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

const (
	killed     = "SIGKILL at a random moment × 200"
	killedPods = 4
	kills      = 200 / killedPods
)

// killAtRandom kills sidecars, processes of their own, while the secret changes: the files are of one generation at each
// end, never of an older one than before, and the next sidecar goes on from there.
func killAtRandom(t *testing.T) row {
	p := newPod(t)
	for i := range p.doc.Files { // of one secret, which changes at one moment
		p.doc.Files[i].Secret, p.doc.Files[i].Format = "app/db", config.Raw
	}
	p.doc.RefreshInterval, p.doc.LogLevel = config.Duration(time.Millisecond), "info"

	begun := time.Now()
	last, advanced := 0, 0
	for i := range kills {
		v := p.sidecar()
		// A quarter dies somewhere in its start, a quarter soon after it wrote files, the others in their refreshes.
		if i%4 > 0 {
			v.wait("took over", "files changed")
		}
		p.put(i + 1)
		if i%4 == 1 {
			v.wait("files changed")
		}
		<-time.After(rand.N(80 * time.Millisecond))
		v.kill()
		now := p.generation()
		switch {
		case now < last:
			t.Fatalf("kill %d: generation %d after %d", i, now, last)
		case now > last:
			advanced++
		}
		last = now
	}
	if advanced < kills/8 {
		t.Errorf("the files changed in %d lives only: the kills showed nothing", advanced)
	}

	p.put(kills + 1)
	v := p.sidecar()
	for p.generation() != kills+1 {
		v.wait("files changed")
	}
	v.kill()
	entries, err := os.ReadDir(p.doc.SecretsDir)
	if err != nil || len(entries) > 5 { // two names, ..data, its set and the one before
		t.Errorf("left behind: %v, %v", entries, err)
	}
	calls := p.cloud.Calls()
	sts, kms := calls.Sum(emulator.Call{Action: "AssumeRoleWithOIDC"}), calls.Sum(emulator.Call{Action: "*GetSecretValue"})
	if sts > kills+1 {
		t.Errorf("%d sessions for %d processes", sts, kills+1)
	}
	return row{
		fault: killed, sts: sts, kms: kms, took: time.Since(begun),
		before: "none", meanwhile: "3 × one", after: "3 × last",
	}
}

// generation is that of all files; 0 if there are none.
func (p *pod) generation() int {
	p.t.Helper()
	files := inventory(p.t, p.doc.SecretsDir)
	if len(files) == 0 {
		return 0
	}
	n := 0
	if _, err := fmt.Sscanf(files["key"].data, `{"password":"sentinel-%d"}`, &n); err != nil || len(files) != len(p.doc.Files) {
		p.t.Fatalf("lost or half-written: %v", files)
	}
	for _, f := range files {
		if f.data != database(n) {
			p.t.Fatalf("of two generations: %v", files)
		}
	}
	return n
}

// victim is a sidecar in a process of its own.
type victim struct {
	*pod
	command *exec.Cmd

	mu    sync.Mutex
	text  strings.Builder
	wrote chan struct{} // has something if log has grown
	seen  int           // what wait has looked at
}

func (p *pod) sidecar() *victim {
	p.t.Helper()
	document, err := json.Marshal(p.doc)
	if err != nil {
		p.t.Fatal(err)
	}
	v := &victim{pod: p, command: exec.CommandContext(p.t.Context(), program, agentconfig.CommandRun), wrote: make(chan struct{}, 1)}
	v.command.Env = []string{agentconfig.Env + "=" + string(document)}
	for _, name := range []string{"ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE"} {
		v.command.Env = append(v.command.Env, name+"="+p.env(name))
	}
	v.command.Stderr = v
	if err := v.command.Start(); err != nil {
		p.t.Fatal(err)
	}
	return v
}

func (v *victim) Write(b []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.text.Write(b)
	select {
	case v.wrote <- struct{}{}:
	default: // it is known
	}
	return len(b), nil
}

// wait returns when the victim has logged one of the messages, since the last time.
func (v *victim) wait(messages ...string) {
	v.t.Helper()
	deadline := time.After(v.patience)
	for {
		select {
		case <-v.wrote:
		case <-deadline:
			v.t.Fatalf("it does not say %q:\n%s", messages, &v.text)
		}
		v.mu.Lock()
		fresh := v.text.String()[v.seen:]
		for _, m := range messages {
			if strings.Contains(fresh, m) {
				v.seen = v.text.Len()
				v.mu.Unlock()
				return
			}
		}
		v.mu.Unlock()
	}
}

// kill ends it. What it took over must have been good.
func (v *victim) kill() {
	v.t.Helper()
	if err := v.command.Process.Kill(); err != nil {
		v.t.Errorf("it had ended by itself: %v", err)
	}
	v.command.Wait()
	if strings.Contains(v.text.String(), "cannot be") {
		v.t.Errorf("it could not use what the one before remembered:\n%s", &v.text)
	}
}
