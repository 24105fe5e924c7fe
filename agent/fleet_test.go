package agent

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// The quotas of an account in a region: GetSecretValue a second, and AssumeRoleWithOIDC a minute.
const (
	kmsQuota = 450
	stsQuota = 500
)

// account is a cloud that counts the calls of a fleet, in virtual time, and refuses those over its quotas.
type account struct {
	mu       sync.Mutex
	begun    time.Time
	down     func(since time.Duration) bool
	kms      []int // by second
	sts      []int // by minute
	rotation time.Time
}

func count(counts *[]int, i int) int {
	if missing := i + 1 - len(*counts); missing > 0 {
		*counts = append(*counts, make([]int, missing)...)
	}
	(*counts)[i]++
	return (*counts)[i]
}

func (c *account) session() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := time.Since(c.begun)
	n := count(&c.sts, int(since/time.Minute))
	switch {
	case c.down(since):
		return &identity.Error{Code: "ServiceUnavailable"}
	case n > stsQuota:
		return &identity.Error{Code: "Throttling.Api"}
	}
	return nil
}

func (c *account) secret() (kms.Secret, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	since := time.Since(c.begun)
	n := count(&c.kms, int(since/time.Second))
	switch {
	case c.down(since):
		return kms.Secret{}, outage
	case n > kmsQuota:
		return kms.Secret{}, &kms.Error{Status: http.StatusTooManyRequests, Code: "Rejected.Throttling"}
	}
	return kms.Secret{VersionID: "v1", NextRotation: c.rotation}, nil
}

// member reads as one pod's role: with a session of an hour that it renews early, and uses on if that fails; and with calls
// that take a moment.
type member struct {
	*account
	mu           sync.Mutex
	renew, until time.Time
}

func (m *member) read(context.Context, kms.Ref) (kms.Secret, error) {
	time.Sleep(20 * time.Millisecond) // without the lock: virtual time stands still while a goroutine waits for one
	m.mu.Lock()
	defer m.mu.Unlock()
	if now := time.Now(); now.After(m.renew) {
		err := m.session()
		switch {
		case err == nil:
			m.renew, m.until = now.Add(45*time.Minute+rand.N(10*time.Minute)), now.Add(time.Hour)
		case now.After(m.until):
			return kms.Secret{}, err
		default:
			m.renew = now.Add(time.Minute)
		}
	}
	return m.secret()
}

// live is what Run does with the clock and the cloud, without a disk. It returns when the agent had its values.
func live(ctx context.Context, a *Agent) (fetched []time.Time) {
	got := values{}
	for attempt := 0; a.fetch(ctx, got) != nil; attempt++ {
		sleep(ctx, a.reader.remaining()+backoff(attempt, 250*time.Millisecond, 10*time.Second))
	}
	s := schedule{interval: time.Duration(a.doc.RefreshInterval)}
	held := snapshot{at: time.Now(), values: got}
	fetched = append(fetched, held.at)
	wait := s.first(held, time.Now())
	var begun time.Time
	for {
		sleep(ctx, wait)
		if ctx.Err() != nil {
			return fetched
		}
		if s.failures == 0 || time.Since(begun) > freshFor {
			begun, got = time.Now(), held.lasting()
		}
		if err := a.fetch(ctx, got); err != nil {
			wait = s.failed(a.reader.remaining())
			continue
		}
		held = snapshot{at: time.Now(), values: got}
		fetched = append(fetched, held.at)
		wait = s.succeeded(held, time.Now())
	}
}

// runFleet lets a thousand pods with ten secrets each start within the given time, and run for two hours. It returns when
// each had its values.
func runFleet(t *testing.T, cloud *account, rollout, interval time.Duration) [][]time.Time {
	const pods, secrets = 1000, 10
	doc := config.Agent{RefreshInterval: config.Duration(interval)}
	for i := range secrets {
		doc.Files = append(doc.Files, config.File{Secret: fmt.Sprint("s", i), Format: config.Raw})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Hour)
	defer cancel()
	cloud.begun = time.Now()
	all := make([][]time.Time, pods)
	var group sync.WaitGroup
	for i := range pods {
		group.Go(func() {
			sleep(ctx, rollout*time.Duration(i)/pods)
			a := &Agent{doc: doc, reader: &hold{reader: &member{account: cloud}}, log: NewLogger(&strings.Builder{}, doc)}
			all[i] = live(ctx, a)
		})
	}
	group.Wait()
	return all
}

// over lists when a count was over the quota.
func over(counts []int, unit time.Duration, quota int) (all []time.Duration) {
	for i, n := range counts {
		if n > quota {
			all = append(all, time.Duration(i)*unit)
		}
	}
	return all
}

// report shows a run by ten minutes.
func report(t *testing.T, c *account) {
	t.Helper()
	for i := 0; i < 120; i += 10 {
		seconds := c.kms[min(i*60, len(c.kms)):min((i+10)*60, len(c.kms))]
		minutes := c.sts[min(i, len(c.sts)):min(i+10, len(c.sts))]
		if len(seconds) == 0 {
			continue
		}
		sum := 0
		for _, n := range seconds {
			sum += n
		}
		most := 0
		if len(minutes) > 0 {
			most = slices.Max(minutes)
		}
		t.Logf("minutes %3d-%3d: KMS %5.1f calls/s, at most %3d; STS at most %3d/min", i, i+10, float64(sum)/float64(len(seconds)), slices.Max(seconds), most)
	}
}

func TestFleetKeepsTheQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const from, to = 60 * time.Minute, 70 * time.Minute
		cloud := &account{down: func(since time.Duration) bool { return since >= from && since < to }}
		fetched := runFleet(t, cloud, 5*time.Minute, 5*time.Minute)
		report(t, cloud)
		for _, at := range append(over(cloud.kms, time.Second, kmsQuota), over(cloud.sts, time.Minute, stsQuota)...) {
			if at < to || at > to+time.Minute {
				t.Errorf("over a quota after %s", at)
			}
		}
		for i, times := range fetched {
			back := slices.IndexFunc(times, func(at time.Time) bool { return at.Sub(cloud.begun) >= to })
			if back < 0 || times[back].Sub(cloud.begun) > to+catchUp+time.Minute {
				t.Errorf("pod %d was not back in time", i)
			}
		}
	})
}

// Everything starts at once, and STS lets a few hundred in a minute: all get in, and nobody hammers.
func TestFleetThatStartsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &account{down: func(time.Duration) bool { return false }}
		fetched := runFleet(t, cloud, 0, 5*time.Minute)
		report(t, cloud)
		var last time.Duration
		for _, times := range fetched {
			last = max(last, times[0].Sub(cloud.begun))
		}
		t.Logf("the last pod had its values after %s", last)
		if last > 10*time.Minute {
			t.Errorf("the last pod had its values after %s", last)
		}
		for _, at := range over(cloud.sts, time.Minute, stsQuota) {
			if at >= 2*time.Minute {
				t.Errorf("STS over its quota after %s", at)
			}
		}
		for _, at := range over(cloud.kms, time.Second, kmsQuota) {
			if at > 90*time.Second {
				t.Errorf("KMS over its quota after %s", at)
			}
		}
	})
}

// All pods use one managed secret, and KMS rotates it.
func TestFleetAfterARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &account{down: func(time.Duration) bool { return false }, rotation: time.Now().Add(time.Hour)}
		fetched := runFleet(t, cloud, 5*time.Minute, 30*time.Minute)
		report(t, cloud)
		if at := over(cloud.kms, time.Second, kmsQuota); len(at) > 0 {
			t.Errorf("over the quota after %s", at)
		}
		for i, times := range fetched {
			if !slices.ContainsFunc(times, func(at time.Time) bool {
				late := at.Sub(cloud.rotation)
				return late >= 0 && late <= rotationGrace+10*time.Second
			}) {
				t.Errorf("pod %d did not see the rotation", i)
			}
		}
	})
}
