package agent

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/notify"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// The quotas of an account in a region: GetSecretValue a second, and AssumeRoleWithOIDC a minute.
const (
	kmsQuota = 450
	stsQuota = 500
)

// What a fleet is, and for how long it is watched.
const (
	fleetPods    = 1000
	fleetSecrets = 10 // of each
	fleetLife    = 2 * time.Hour
)

// account is a cloud that counts the calls of a fleet, in virtual time, and refuses those over its quotas.
type account struct {
	mu       sync.Mutex
	begun    time.Time
	down     func(since time.Duration) bool
	minute   time.Duration // how much of a minute, as STS counts them, is over when the fleet starts
	rotation time.Time

	kms, stsSeconds []int // calls by second
	sts, granted    []int // calls, and sessions, by STS's minutes
}

func count(counts *[]int, i int) int {
	if missing := i + 1 - len(*counts); missing > 0 {
		*counts = append(*counts, make([]int, missing)...)
	}
	(*counts)[i]++
	return (*counts)[i]
}

// session is an exchange with STS.
func (c *account) session() (identity.Credentials, error) {
	time.Sleep(20 * time.Millisecond) // without the lock: virtual time stands still while a goroutine waits for one
	c.mu.Lock()
	defer c.mu.Unlock()
	since := time.Since(c.begun)
	minute := int((since + c.minute) / time.Minute)
	count(&c.stsSeconds, int(since/time.Second))
	count(&c.sts, minute)
	switch {
	case c.down(since):
		return identity.Credentials{}, &identity.Error{Code: "ServiceUnavailable"}
	case minute < len(c.granted) && c.granted[minute] >= stsQuota:
		return identity.Credentials{}, &identity.Error{Code: "Throttling.Api"}
	default:
		count(&c.granted, minute)
	}
	return identity.Credentials{AccessKeyID: "STS.id", Expires: time.Now().Add(time.Hour)}, nil
}

func (c *account) secret() (kms.Secret, error) {
	time.Sleep(20 * time.Millisecond)
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

// member reads as one pod's role.
type member struct {
	*account
	identity *identity.Source
}

func (m member) read(ctx context.Context, _ kms.Ref) (kms.Secret, error) {
	if _, err := m.identity.Credentials(ctx); err != nil {
		return kms.Secret{}, err
	}
	return m.secret()
}

// process is an agent's: it begins without a session, and has not heard of anybody's refusals.
func (c *account) process(doc config.Agent) *Agent {
	log := NewLogger(&strings.Builder{}, config.Agent{LogLevel: "error"})
	cloud := member{c, identity.NewSource(c.session)}
	return &Agent{doc: doc, reader: &hold{reader: cloud}, startLimit: startLimit, log: log, notifier: notify.New(log), measures: metrics.New()}
}

// live is a pod: its init container, which the kubelet starts again after a pause if it fails, and its sidecar. That does what
// Run does with the clock and the cloud, without a disk. It returns when the pod had its values.
func (c *account) live(ctx context.Context, doc config.Agent, dirs views) (fetched []time.Time) {
	held, err := c.process(doc).start(ctx, dirs)
	for restarts := 0; err != nil; restarts++ {
		sleep(ctx, min(10*time.Second<<restarts, 5*time.Minute))
		held, err = c.process(doc).start(ctx, dirs)
	}
	fetched = append(fetched, held.at)
	a := c.process(doc)
	s := schedule{interval: time.Duration(doc.RefreshInterval)}
	wait := s.first(held, time.Now())
	var got values
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

// runFleet lets the pods start within the given time. It returns when each had its values, since the start of the first.
func runFleet(t *testing.T, cloud *account, rollout, interval time.Duration) [][]time.Duration {
	directory := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), fleetLife)
	defer cancel()
	cloud.begun = time.Now()
	all := make([][]time.Duration, fleetPods)
	var group sync.WaitGroup
	for i := range fleetPods {
		group.Go(func() {
			doc := config.Agent{RefreshInterval: config.Duration(interval), StateDir: filepath.Join(directory, fmt.Sprint(i))}
			doc.SecretsDir = filepath.Join(doc.StateDir, "files")
			if err := os.MkdirAll(doc.SecretsDir, 0o700); err != nil {
				t.Error(err)
			}
			file := config.File{Path: "all", Mode: 0o400, Format: config.Template, Template: "x"}
			for n := range fleetSecrets {
				file.From = append(file.From, config.Source{Name: fmt.Sprint("s", n), Secret: fmt.Sprint("s", n)})
			}
			doc.Files = []config.File{file}
			dirs, err := openViews(doc)
			if err != nil {
				t.Error(err)
				return
			}
			defer dirs.close()
			sleep(ctx, rollout*time.Duration(i)/fleetPods)
			for _, at := range cloud.live(ctx, doc, dirs) {
				all[i] = append(all[i], at.Sub(cloud.begun))
			}
		})
	}
	group.Wait()
	return all
}

// longestOver is the longest time for which a count was over its quota, unit for unit as the cloud counts. What is less than a minute
// apart is one.
func longestOver(counts []int, unit time.Duration, quota int) (longest time.Duration) {
	var from, to time.Duration // of the last
	for i, n := range counts {
		if n <= quota {
			continue
		}
		begin := time.Duration(i) * unit
		if to == 0 || begin-to >= time.Minute {
			from = begin
		}
		to = begin + unit
		longest = max(longest, to-from)
	}
	return longest
}

// keepsTheQuotas fails the test if a quota was exceeded for longer than most.
func (c *account) keepsTheQuotas(t *testing.T, most time.Duration) {
	t.Helper()
	gateway, sts := longestOver(c.kms, time.Second, kmsQuota), longestOver(c.sts, time.Minute, stsQuota)
	t.Logf("over the quota of %d a second of KMS for %s, over that of %d a minute of STS for %s", kmsQuota, gateway, stsQuota, sts)
	if gateway > most || sts > most {
		t.Errorf("over the quota for longer than %s", most)
	}
}

// report shows a run, of which what says in words what happened: the first minutes, then by ten.
func (c *account) report(t *testing.T, what string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d agents with %d secrets each, for %s of virtual time: %s", fleetPods, fleetSecrets, fleetLife, what)
	line := "\n%9s %12s %8s %12s %8s"
	fmt.Fprintf(&b, line, "minutes", "KMS calls/s", "at most", "STS calls/s", "at most")
	for from := 0; from < int(fleetLife/time.Minute); {
		to := from + 1
		if from >= 3 {
			to = from - from%10 + 10
		}
		row := []any{fmt.Sprintf("%d-%d", from, to)}
		for _, counts := range [][]int{c.kms, c.stsSeconds} {
			seconds := counts[min(from*60, len(counts)):min(to*60, len(counts))]
			sum, most := 0, 0
			for _, n := range seconds {
				sum, most = sum+n, max(most, n)
			}
			row = append(row, fmt.Sprintf("%.1f", float64(sum)/float64((to-from)*60)), fmt.Sprint(most))
		}
		fmt.Fprintf(&b, line, row...)
		from = to
	}
	t.Log(b.String())
}

// slowest is how long after a moment the last pod had its values, for the first time at or after it; more than the run takes, if
// one never had.
func slowest(fetched [][]time.Duration, at func(pod int) time.Duration) (most time.Duration) {
	for pod, times := range fetched {
		i := slices.IndexFunc(times, func(x time.Duration) bool { return x >= at(pod) })
		if i < 0 {
			return 2 * fleetLife
		}
		most = max(most, times[i]-at(pod))
	}
	return most
}

func at(moment time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return moment }
}

// Everything starts in one second, and STS and KMS are down for ten minutes just when all sessions fall due.
//
// A thousand calls in a second are more than STS takes in a minute, whatever the agents do: they do not know of each other, and the
// start of a lone pod must not wait. So one minute has too many calls. Whoever is refused in it, and at once again, comes back in
// the next minutes, and so that none of these has too many. It is the same with KMS, whose quota is by the second.
func TestFleetThatStartsAtOnceAndLosesTheCloud(t *testing.T) {
	for _, minute := range []time.Duration{0, 58 * time.Second} {
		t.Run(fmt.Sprint(minute, " into a minute of STS"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const from, to = 45 * time.Minute, 55 * time.Minute
				cloud := &account{minute: minute, down: func(since time.Duration) bool { return since >= from && since < to }}
				fetched := runFleet(t, cloud, time.Second, 5*time.Minute)
				cloud.report(t, fmt.Sprintf("all start in one second, %s into a minute of STS; nobody answers from %s to %s", minute, from, to))
				cloud.keepsTheQuotas(t, time.Minute)
				first, back := slowest(fetched, at(0)), slowest(fetched, at(to))
				t.Logf("the last pod had its values after %s, and again %s after the outage", first, back)
				if first > 4*time.Minute {
					t.Errorf("the last pod had its values after %s", first)
				}
				if back > catchUp+time.Minute {
					t.Errorf("the last pod was back %s after the outage", back)
				}
			})
		})
	}
}

// A rollout that takes its time: no quota is met at all, neither by it nor after an outage that began when nobody's session
// was due.
func TestFleetThatRollsOutKeepsTheQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const from, to = 60 * time.Minute, 70 * time.Minute
		cloud := &account{down: func(since time.Duration) bool { return since >= from && since < to }}
		const rollout = 5 * time.Minute
		fetched := runFleet(t, cloud, rollout, 5*time.Minute)
		cloud.report(t, fmt.Sprintf("they start within %s; nobody answers from %s to %s", rollout, from, to))
		cloud.keepsTheQuotas(t, 0)
		if start := slowest(fetched, func(pod int) time.Duration { return rollout * time.Duration(pod) / fleetPods }); start > time.Second {
			t.Errorf("a pod had its values %s after its start", start)
		}
		if back := slowest(fetched, at(to)); back > catchUp+time.Minute {
			t.Errorf("the last pod was back %s after the outage", back)
		}
	})
}

// All pods use one managed secret, and KMS rotates it.
func TestFleetAfterARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rotation = time.Hour
		cloud := &account{down: func(time.Duration) bool { return false }, rotation: time.Now().Add(rotation)}
		fetched := runFleet(t, cloud, 5*time.Minute, 30*time.Minute)
		cloud.report(t, fmt.Sprintf("they share a managed secret, which KMS rotates after %s", rotation))
		cloud.keepsTheQuotas(t, 0)
		if seen := slowest(fetched, at(rotation)); seen > rotationGrace+10*time.Second {
			t.Errorf("the last pod saw the rotation %s after it", seen)
		}
	})
}
