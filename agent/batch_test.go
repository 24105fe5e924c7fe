package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// podOf is a pod with so many secrets, s0, s1 and so on, and the files that they make.
func podOf(t *testing.T, secrets int) (*pod, map[string]string) {
	t.Helper()
	var files []agentconfig.File
	want := map[string]string{}
	for i := range secrets {
		name := fmt.Sprint("s", i)
		files = append(files, agentconfig.File{Path: name, Mode: 0o400, Secret: name, Format: config.Raw})
		want[name] = "sentinel-" + name
	}
	p := newPod(t, files...)
	for name, text := range want {
		p.cloud.Put(t, emulator.Secret{Name: name, Tags: dev, Value: emulator.Value{Text: text}})
	}
	return p, want
}

// wantAsked compares with the calls for several secrets and for one, since the start or the last look.
func (p *pod) wantAsked(together, singly int) {
	p.t.Helper()
	calls := p.cloud.Calls()
	p.cloud.ResetCalls()
	if n, m := calls.Sum(emulator.Call{Action: "BatchGetSecretValue"}), calls.Sum(emulator.Call{Action: "GetSecretValue"}); n != together ||
		m != singly {
		p.t.Errorf("%d calls for several secrets and %d for one, want %d and %d: %v", n, m, together, singly, calls)
	}
}

func TestCallsForSecrets(t *testing.T) {
	for secrets, want := range map[int]struct{ together, singly int }{1: {0, 1}, 2: {1, 0}, 20: {1, 0}, 21: {1, 1}, 22: {2, 0}, 45: {3, 0}} {
		p, files := podOf(t, secrets)
		p.init()
		p.wantFiles(files)
		p.wantAsked(want.together, want.singly)
	}
}

// One name in two versions cannot be in one call, nor can two secrets that only the account tells apart.
func TestDivide(t *testing.T) {
	ref := func(name string) kms.Ref { return kms.Ref{Name: name} }
	before, pinned := kms.Ref{Name: "a", VersionStage: "ACSPrevious"}, kms.Ref{Name: "b", VersionID: "v1"}
	second := kms.Ref{Name: "a", RoleARN: "acs:ram::1:role/second"}
	theirs := ref("acs:kms:cn-hangzhou:999:secret/a")
	got := divide([]kms.Ref{ref("a"), before, ref("b"), second, ref("c"), pinned, theirs})
	want := [][]kms.Ref{{ref("a"), ref("b"), ref("c")}, {before, pinned}, {second}, {theirs}}
	if !slices.EqualFunc(got, want, slices.Equal) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestVersionsAndTypesTogether(t *testing.T) {
	p := newPod(t,
		agentconfig.File{Path: "now", Mode: 0o400, Secret: "app/key", Format: config.Raw},
		agentconfig.File{Path: "before", Mode: 0o400, Secret: "app/key", VersionStage: "ACSPrevious", Format: config.Raw},
		agentconfig.File{Path: "first", Mode: 0o400, Secret: "app/pinned", VersionID: "v1", Format: config.Raw},
		agentconfig.File{Path: "db", Mode: 0o400, Secret: "app/db", Format: config.JSON, Keys: []config.Key{{Name: "user", Path: "AccountName"}}},
		agentconfig.File{Path: "bin", Mode: 0o400, Secret: "acs:kms:cn-hangzhou:1234567890123456:secret/app/bin", Format: config.Raw})
	p.cloud.Put(t, emulator.Secret{Name: "app/bin", Tags: dev, Value: emulator.Value{Binary: "AP8KAA=="}},
		emulator.Secret{Name: "app/pinned", Tags: dev, Value: emulator.Value{Text: "one"}})
	for _, name := range []string{"app/key", "app/pinned"} {
		if err := p.cloud.Rotate(name, emulator.Version{Value: emulator.Value{Text: "two"}}); err != nil {
			t.Fatal(err)
		}
	}
	p.init()
	p.wantFiles(map[string]string{"now": "two", "before": "sentinel-key-1", "first": "one", "db": `{"user":"app"}` + "\n",
		"bin": "\x00\xff\n\x00"})
	p.wantAsked(1, 1)
}

// It hides no other, and what is said of it is what a call for it alone says.
func TestSecretThatIsRefusedAmongOthers(t *testing.T) {
	p, want := podOf(t, 20)
	if err := p.cloud.TagSecret("s7", map[string]string{"env": "prod"}); err != nil {
		t.Fatal(err)
	}
	a, got := p.agent(), values{}
	err := a.fetch(t.Context(), got)
	if len(got) != 19 || err == nil || len(failure.Each(err)) != 1 {
		t.Fatalf("%d values, %v", len(got), err)
	}
	for _, text := range []string{"file s7: get secret s7: Forbidden.NoPermission (HTTP 403)", "(request ", "kms:GetSecretValue"} {
		if !strings.Contains(a.Explain(err), text) {
			t.Errorf("%q is not in %s", text, a.Explain(err))
		}
	}
	p.wantAsked(1, 1)
	if err := p.cloud.TagSecret("s7", dev); err != nil {
		t.Fatal(err)
	}
	if err := a.fetch(t.Context(), got); err != nil { // asks for the rest
		t.Error(err)
	}
	p.wantAsked(0, 1)
	p.init()
	p.wantFiles(want)

	p.doc.Files[3].Optional = true
	if err := p.cloud.DeleteSecret("s3"); err != nil {
		t.Fatal(err)
	}
	p.cloud.ResetCalls()
	delete(want, "s3")
	handover.Remove(p.doc.StateDir, stateFile) // else what it has is good for ten minutes
	p.init()
	p.wantFiles(want)
	p.wantAsked(1, 1)
}

// Whatever a gateway makes of the call, the secrets come, by calls of one. The agent remembers that and says it once.
func TestGatewayThatDoesNotGiveSeveral(t *testing.T) {
	for name, fault := range map[string]emulator.Fault{
		"it does not know the action":    {Code: "InvalidAction.NotFound"},
		"a policy denies the action":     {Code: "Forbidden.NoPermission"},
		"it refuses all for one":         {Code: "Forbidden.ResourceNotFound"},
		"it does not know the parameter": {Status: 400, Code: "InvalidParameter"},
		"a proxy refuses":                {Status: 414, Body: "<html>"},
		"it answers something else":      {Body: `{"SecretValues":{"sentinel":1}}`},
		"it gives none": {Body: `{"RequestId":"R1","SecretValues":[],` +
			`"Errors":[{"SecretName":"s0","Code":"Forbidden.NoPermission","HttpStatus":403}]}`},
		"it gives others": {Body: `{"SecretValues":[{"SecretName":"x","SecretData":"x","VersionId":"v1",` +
			`"VersionStages":{"VersionStage":["ACSCurrent"]}}]}`},
		"it cuts the answer": {Cut: emulator.AtBody},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := podOf(t, 3)
			fault.Action = "BatchGetSecretValue"
			p.cloud.Fault(t, fault)
			a := p.agent()
			for i := range 3 {
				got := values{}
				if err := a.fetch(t.Context(), got); err != nil || len(got) != 3 {
					t.Fatalf("%d values, %v", len(got), err)
				}
				p.wantAsked(max(0, 1-i), 3)
			}
			if text := p.log.String(); strings.Count(text, "one by one") != 1 || strings.Contains(text, "sentinel") {
				t.Errorf("the log: %s", text)
			}
		})
	}
}

// A policy that narrows the session does not name it.
func TestNarrowedSessionReadsSeveral(t *testing.T) {
	p, want := podOf(t, 3)
	p.doc.SessionPolicy = true
	p.init()
	p.wantFiles(want)
	p.wantAsked(1, 0)
}

func TestThrottledBatchIsAPause(t *testing.T) {
	p, _ := podOf(t, 3)
	p.cloud.Fault(t, emulator.Fault{Action: "BatchGetSecretValue", Status: 429, Code: "Rejected.Throttling",
		RetryAfter: emulator.Duration(time.Minute)})
	a := p.agent()
	for range 3 {
		err := a.fetch(t.Context(), values{})
		if !failure.Throttled(err) || !failure.Transient(err) || !strings.Contains(err.Error(), "file s0: get secret s0: Rejected.Throttling") {
			t.Error(err)
		}
	}
	if left := a.source.Remaining(); left < 50*time.Second {
		t.Errorf("a pause of %s", left)
	}
	p.wantAsked(1, 0)
}

func TestSessionThatEndedIsReplacedOnceForSeveral(t *testing.T) {
	p, _ := podOf(t, 3)
	a := p.agent()
	for range 2 {
		if err := a.fetch(t.Context(), values{}); err != nil {
			t.Fatal(err)
		}
		p.cloud.ExpireSessions()
	}
	p.wantAsked(3, 0)
}

// giver is a reader that has calls for several secrets.
type giver struct {
	clockwork
	all   int
	gives func(n int, refs []kms.Ref) ([]kms.Secret, error) // n counts from 1
}

func (g *giver) ReadAll(_ context.Context, refs []kms.Ref) ([]kms.Secret, error) {
	g.all++
	return g.gives(g.all, refs)
}

// An outage is found out by one call, and the next attempt does without the call for several: it may be that alone which fails.
func TestOutageOfBatches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &giver{gives: func(int, []kms.Ref) ([]kms.Secret, error) { return nil, outage }}
		a := clockworkAgent(t, &g.clockwork, time.Hour, "a", "b", "c")
		a.source = sourceOf(g)
		for i, want := range []struct{ all, single int }{{1, 0}, {1, 3}, {1, 6}} {
			err := a.fetch(t.Context(), values{})
			if (err != nil) != (i == 0) || err != nil && !errors.Is(err, outage) || g.all != want.all || len(g.asked) != want.single {
				t.Errorf("attempt %d: %d and %d calls, %v", i, g.all, len(g.asked), err)
			}
		}
		time.Sleep(singlyAfterOutage)
		if err := a.fetch(t.Context(), values{}); err == nil || g.all != 2 {
			t.Errorf("after a minute: %d calls, %v", g.all, err)
		}
	})
}

// What was refused is tried again after a while, for each role by itself.
func TestRefusedBatchesAreTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const second = "acs:ram::1:role/second"
		asked := map[string]int{}
		g := &giver{gives: func(n int, refs []kms.Ref) ([]kms.Secret, error) {
			asked[refs[0].RoleARN]++
			if refs[0].RoleARN == "" && n < 5 {
				return nil, forbidden
			}
			return slices.Repeat([]kms.Secret{{VersionID: "v1"}}, len(refs)), nil
		}}
		a := clockworkAgent(t, &g.clockwork, time.Hour, "a", "b", "c", "d")
		a.doc.Files[2].RoleARN, a.doc.Files[3].RoleARN = second, second
		a.source = sourceOf(g)
		for range 5 {
			if err := a.fetch(t.Context(), values{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(singlyFor / 4)
		}
		if want := map[string]int{"": 2, second: 5}; !maps.Equal(asked, want) || len(g.asked) != 8 {
			t.Errorf("%v calls for several, %d for one", asked, len(g.asked))
		}
	})
}

// Roles that cannot be assumed are all reported, and hide no secret of another.
func TestRolesThatAreRefusedAreReportedTogether(t *testing.T) {
	g := &giver{gives: func(_ int, refs []kms.Ref) ([]kms.Secret, error) {
		if role := refs[0].RoleARN; role != "" {
			return nil, &identity.Error{Action: identity.AssumeRole, RoleARN: role, Code: "NoPermission"}
		}
		return []kms.Secret{{VersionID: "v1"}, {}}, nil
	}}
	a := clockworkAgent(t, &g.clockwork, time.Hour, "a", "b", "c", "d", "e", "f")
	a.source = sourceOf(g)
	for i, role := range []string{"", "", "one", "one", "two", "two"} {
		a.doc.Files[i].RoleARN = role
	}
	got := values{}
	err := a.fetch(t.Context(), got)
	if len(failure.Each(err)) != 2 || !strings.Contains(err.Error(), "one") || !strings.Contains(err.Error(), "two") || len(got) != 2 ||
		g.all != 3 || len(g.asked) != 1 {
		t.Errorf("%d values, %d and %d calls, %v", len(got), g.all, len(g.asked), err)
	}
}
