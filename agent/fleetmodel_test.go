package agent

import (
	"container/heap"
	"context"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// modelPod is a pod of a fleet that is too large for a goroutine, a disk and values for each: what decides about calls and pauses is
// the agent's own code, and what an attempt asks for is a model of Agent.fetch and round.
type modelPod struct {
	next time.Time
	*source.Source
	schedule
	got     int // secrets of the round
	begun   time.Time
	started bool
	starts  int // attempts
}

// model are the pods by when they act next.
type model []*modelPod

func (m model) Len() int           { return len(m) }
func (m model) Less(i, j int) bool { return m[i].next.Before(m[j].next) }
func (m model) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *model) Push(any)          {}
func (m *model) Pop() any          { return nil }

// attempt asks for what the round lacks: the first secret alone, then the others.
func (p *modelPod) attempt(ctx context.Context, secrets int) (err error) {
	if time.Since(p.begun) > max(keepFor, p.interval) {
		p.got = 0
	}
	if p.got == 0 {
		p.begun = time.Now()
	}
	missing := secrets - p.got
	for i := range missing {
		if _, failed := p.Read(ctx, kms.Ref{Name: "s"}); failed == nil {
			p.got++
		} else if err = failed; i == 0 {
			return err
		}
	}
	return err
}

// model is run without goroutines, disk and values.
func (f fleet) model(t *testing.T, cloud *account) {
	ctx := t.Context()
	cloud.begun, cloud.latency = time.Now(), 0
	pods := make(model, f.pods)
	for i := range pods {
		p := &modelPod{next: cloud.begun.Add(f.starts(i)),
			Source: source.New(member{cloud, identity.NewSource(cloud.provider(), nil, nil)}, nil, nil)}
		p.schedule = newSchedule(agentconfig.Config{RefreshInterval: config.Duration(f.interval)}, 0)
		pods[i] = p
	}
	for end := cloud.begun.Add(f.life); ; heap.Fix(&pods, 0) {
		p := pods[0]
		if p.next.After(end) {
			return
		}
		time.Sleep(time.Until(p.next))
		err := p.attempt(ctx, f.secrets)
		if p.started {
			cloud.refreshed(err)
		}
		var wait time.Duration
		switch {
		case err == nil:
			p.started, p.got = true, 0
			wait = p.succeeded(snapshot{At: p.begun}, time.Now())
		case p.started:
			wait = p.failed(p.Remaining(), failure.Throttled(err))
		default:
			if wait = p.Remaining(); wait == 0 {
				wait = pause.UpTo(pause.Doubled(250*time.Millisecond, p.starts, 10*time.Second))
			}
			p.starts++
		}
		// The time that its calls take, which without them would be the same for all.
		p.next = time.Now().Add(wait + rand.N(40*time.Millisecond))
	}
}

func (c *account) succeeding() float64 { return float64(c.refreshes) / float64(c.attempts) }

// More pods than the quota of KMS is for refresh less often, and most of their attempts succeed. The model is held to the
// real code where that is small enough: a fiftieth of the pods, with a fiftieth of the quotas.
func TestFleetThatIsLargerThanTheQuotaOfKMS(t *testing.T) {
	large := fleet{pods: 50_000, secrets: 3, life: time.Hour, rollout: 10 * time.Minute, interval: 5 * time.Minute}
	small := large
	small.pods /= 50
	quotas := func(part int) *account {
		cloud := newAccount()
		cloud.kmsQuota, cloud.stsQuota, cloud.stsUnit = kmsQuota/part, 100/part, time.Second
		return cloud
	}
	run := func(what string, cloud *account, run func(*testing.T, *account)) (succeeding float64) {
		begun := time.Now()
		synctest.Test(t, func(t *testing.T) { run(t, cloud) })
		t.Logf("%s: %.1f %% of %d refreshes succeed; %.1f calls/s of KMS (%s)", what, 100*cloud.succeeding(), cloud.attempts,
			float64(sum(cloud.kms))/large.life.Seconds(), time.Since(begun).Round(time.Second/10))
		return cloud.succeeding()
	}
	real := run("1,000 real ones", quotas(50), func(t *testing.T, c *account) { small.run(t, c) })
	same := run("1,000 of the model", quotas(50), func(t *testing.T, c *account) { small.model(t, c) })
	if difference := real - same; difference < -0.03 || difference > 0.03 {
		t.Errorf("the model is not the code: %.3f and %.3f", same, real)
	}
	if all := run("50,000 of the model", quotas(1), func(t *testing.T, c *account) { large.model(t, c) }); all < 0.9 {
		t.Errorf("%.1f %% of the refreshes succeed", 100*all)
	}
}

func sum(counts []int) (total int) {
	for _, n := range counts {
		total += n
	}
	return total
}
