package agent

import (
	"context"
	"errors"
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

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// The quotas of an account in a region: GetSecretValue a second, and AssumeRoleWithOIDC a minute.
const (
	kmsQuota = 450
	stsQuota = 500
)

// fleet is a number of pods, and for how long they are watched.
type fleet struct {
	pods     int
	secrets  int // of each
	life     time.Duration
	rollout  time.Duration // in which they start
	interval time.Duration
}

// account is a cloud that counts the calls of a fleet, in virtual time, and refuses those over its quotas.
type account struct {
	kmsQuota, stsQuota int
	stsUnit            time.Duration // what STS counts by
	latency            time.Duration

	mu       sync.Mutex
	begun    time.Time
	down     func(since time.Duration) bool // nil: never
	minute   time.Duration                  // how much of a minute, as STS counts them, is over when the fleet starts
	rotation time.Time

	kms, stsSeconds []int // calls by second
	sts, granted    []int // calls, and sessions, by STS's minutes

	attempts, refreshes int // of refreshing: all, and those that succeeded
}

// newAccount has the quotas that Alibaba Cloud documents, of STS the lower one.
func newAccount() *account {
	return &account{kmsQuota: kmsQuota, stsQuota: stsQuota, stsUnit: time.Minute, latency: 20 * time.Millisecond}
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
	time.Sleep(c.latency) // without the lock: virtual time stands still while a goroutine waits for one
	c.mu.Lock()
	defer c.mu.Unlock()
	since := time.Since(c.begun)
	minute := int((since + c.minute) / c.stsUnit)
	count(&c.stsSeconds, int(since/time.Second))
	count(&c.sts, minute)
	switch {
	case c.down != nil && c.down(since):
		return identity.Credentials{}, &identity.Error{Code: "ServiceUnavailable"}
	case minute < len(c.granted) && c.granted[minute] >= c.stsQuota:
		return identity.Credentials{}, &identity.Error{Code: "Throttling.Api"}
	default:
		count(&c.granted, minute)
	}
	return identity.Credentials{Credentials: openapi.Credentials{AccessKeyID: "STS.id"}, Expires: time.Now().Add(time.Hour)}, nil
}

func (c *account) secret() (kms.Secret, error) {
	time.Sleep(c.latency)
	c.mu.Lock()
	defer c.mu.Unlock()
	since := time.Since(c.begun)
	n := count(&c.kms, int(since/time.Second))
	switch {
	case c.down != nil && c.down(since):
		return kms.Secret{}, outage
	case n > c.kmsQuota:
		return kms.Secret{}, &kms.Error{Status: http.StatusTooManyRequests, Code: "Rejected.Throttling"}
	}
	return kms.Secret{VersionID: "v1", NextRotation: c.rotation}, nil
}

// member reads as one pod's role.
type member struct {
	*account
	identity *identity.Source
}

func (m member) Read(ctx context.Context, _ kms.Ref) (kms.Secret, error) {
	if _, err := m.identity.Credentials(ctx); err != nil {
		return kms.Secret{}, err
	}
	return m.secret()
}

// ReadAll implements source.Reader.
func (member) ReadAll(context.Context, []kms.Ref) ([]kms.Secret, error) {
	return nil, errors.ErrUnsupported
}

func (member) CloseIdleConnections() {}

// provider is the exchange with STS of one pod.
func (c *account) provider() identity.Provider {
	return identity.Provider{ID: "pod", Get: func(context.Context) (identity.Credentials, error) { return c.session() }}
}

// refreshed counts an attempt to refresh.
func (c *account) refreshed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	if err == nil {
		c.refreshes++
	}
}

// process is an agent's: it begins with what the one before it left in the pod.
func (c *account) process(doc agentconfig.Config) *Agent {
	log := NewLogger(&strings.Builder{}, agentconfig.Config{LogLevel: "error"})
	sessions := &identity.Sessions{}
	cloud := member{c, identity.NewSource(c.provider(), sessions, nil)}
	a, err := New(doc, source.New(cloud, sessions, nil), metrics.New(), log)
	if err != nil {
		panic(err)
	}
	a.source.Resume(doc.StateDir, log)
	return a
}

// live is a pod: its init container, which the kubelet starts again after a pause if it fails, and its sidecar. That does what
// Run does with the clock and the cloud, without a disk. It returns when the pod had its values.
func (c *account) live(ctx context.Context, doc agentconfig.Config, dirs views) (fetched []time.Time) {
	a := c.process(doc)
	held, _, err := a.start(ctx, dirs, a.loadRound())
	for restarts := 0; err != nil; restarts++ {
		if pause.Sleep(ctx, min(10*time.Second<<restarts, 5*time.Minute)); ctx.Err() != nil {
			return nil
		}
		a = c.process(doc)
		held, _, err = a.start(ctx, dirs, a.loadRound())
	}
	fetched = append(fetched, time.Now())
	a = c.process(doc)
	r := snapshot{Values: values{}}
	s := newSchedule(doc, 0)
	wait := s.first(held, time.Time{}, time.Now())
	for {
		if pause.Sleep(ctx, wait); ctx.Err() != nil {
			return fetched
		}
		r.begin(s.interval)
		err := a.fetch(ctx, r.Values)
		c.refreshed(err)
		if err != nil {
			wait = s.failed(a.source.Remaining(), failure.Throttled(err))
			continue
		}
		held = r
		r.Values = held.Values.lasting()
		fetched = append(fetched, time.Now())
		wait = s.succeeded(held, time.Now())
	}
}

// run lets the fleet's pods start and live. It returns when each had its values, since the start of the first.
func (f fleet) run(t *testing.T, cloud *account) [][]time.Duration {
	directory := memory(t)
	ctx, cancel := context.WithTimeout(t.Context(), f.life)
	defer cancel()
	cloud.begun = time.Now()
	all := make([][]time.Duration, f.pods)
	var group sync.WaitGroup
	for i := range f.pods {
		group.Go(func() {
			doc := agentconfig.Config{RefreshInterval: config.Duration(f.interval), StateDir: filepath.Join(directory, fmt.Sprint(i))}
			doc.SecretsDir = filepath.Join(doc.StateDir, "files")
			if err := os.MkdirAll(doc.SecretsDir, 0o700); err != nil {
				t.Error(err)
			}
			file := agentconfig.File{Path: "all", Mode: 0o400, Format: config.Template, Template: "x"}
			for n := range f.secrets {
				file.From = append(file.From, config.Source{Name: fmt.Sprint("s", n), Secret: fmt.Sprint("s", n)})
			}
			doc.Files = []agentconfig.File{file}
			pause.Sleep(ctx, f.starts(i))
			dirs, err := openViews(doc)
			if err != nil {
				t.Error(err)
				return
			}
			defer dirs.close()
			for _, at := range cloud.live(ctx, doc, dirs) {
				all[i] = append(all[i], at.Sub(cloud.begun))
			}
		})
	}
	group.Wait()
	return all
}

// memory is a directory in memory, as the volumes of pods are, where there is one.
func memory(t *testing.T) string {
	directory, err := os.MkdirTemp("/dev/shm", "fleet")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(directory) })
	return directory
}

// starts is when a pod does, since the first.
func (f fleet) starts(pod int) time.Duration {
	return f.rollout * time.Duration(pod) / time.Duration(f.pods)
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
	gateway, sts := longestOver(c.kms, time.Second, c.kmsQuota), longestOver(c.sts, c.stsUnit, c.stsQuota)
	t.Logf("over the quota of %d a second of KMS for %s, over that of %d a minute of STS for %s", kmsQuota, gateway, stsQuota, sts)
	if gateway > most || sts > most {
		t.Errorf("over the quota for longer than %s", most)
	}
}

// report shows a run, of which what says in words what happened: the first minutes, then by ten.
func (f fleet) report(t *testing.T, c *account, what string) {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "\n%d agents with %d secrets each, for %s of virtual time: %s", f.pods, f.secrets, f.life, what)
	line := "\n%9s %12s %8s %12s %8s"
	fmt.Fprintf(&b, line, "minutes", "KMS calls/s", "at most", "STS calls/s", "at most")
	for from := 0; from < int(f.life/time.Minute); {
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
func (f fleet) slowest(fetched [][]time.Duration, at func(pod int) time.Duration) (most time.Duration) {
	for pod, times := range fetched {
		i := slices.IndexFunc(times, func(x time.Duration) bool { return x >= at(pod) })
		if i < 0 {
			return 2 * f.life
		}
		most = max(most, times[i]-at(pod))
	}
	return most
}

func at(moment time.Duration) func(int) time.Duration {
	return func(int) time.Duration { return moment }
}

// thousand are 1,000 pods with ten secrets each.
func thousand(rollout, interval time.Duration) fleet {
	return fleet{pods: 1000, secrets: 10, life: 2 * time.Hour, rollout: rollout, interval: interval}
}

// Everything starts in one second, and STS and KMS are down for ten minutes just when all sessions fall due.
//
// A thousand calls in a second exceed the quota that STS has for a minute, whatever the agents do: they do not know of each other,
// and a lone pod must start without a delay. So one minute has too many calls. An agent that is throttled twice in it waits for one
// of the next minutes, so that none of these has too many. KMS is the same, with a quota per second.
func TestFleetThatStartsAtOnceAndLosesTheCloud(t *testing.T) {
	for _, minute := range []time.Duration{0, 58 * time.Second} {
		t.Run(fmt.Sprint(minute, " into a minute of STS"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const from, to = 45 * time.Minute, 55 * time.Minute
				f, cloud := thousand(time.Second, 5*time.Minute), newAccount()
				cloud.minute, cloud.down = minute, func(since time.Duration) bool { return since >= from && since < to }
				fetched := f.run(t, cloud)
				f.report(t, cloud, fmt.Sprintf("all start in one second, %s into a minute of STS; no answers from %s to %s", minute, from, to))
				cloud.keepsTheQuotas(t, time.Minute)
				first, back := f.slowest(fetched, at(0)), f.slowest(fetched, at(to))
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

// A slow rollout exceeds no quota, nor does an outage that begins while no session is due.
func TestFleetThatRollsOutKeepsTheQuotas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const from, to = 60 * time.Minute, 70 * time.Minute
		f, cloud := thousand(5*time.Minute, 5*time.Minute), newAccount()
		cloud.down = func(since time.Duration) bool { return since >= from && since < to }
		fetched := f.run(t, cloud)
		f.report(t, cloud, fmt.Sprintf("they start within %s; no answers from %s to %s", f.rollout, from, to))
		cloud.keepsTheQuotas(t, 0)
		if start := f.slowest(fetched, f.starts); start > time.Second {
			t.Errorf("a pod had its values %s after its start", start)
		}
		if back := f.slowest(fetched, at(to)); back > catchUp+time.Minute {
			t.Errorf("the last pod was back %s after the outage", back)
		}
	})
}

// All pods use one managed secret, and KMS rotates it.
func TestFleetAfterARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rotation = time.Hour
		f, cloud := thousand(5*time.Minute, 30*time.Minute), newAccount()
		cloud.rotation = time.Now().Add(rotation)
		fetched := f.run(t, cloud)
		f.report(t, cloud, fmt.Sprintf("they share a managed secret, which KMS rotates after %s", rotation))
		cloud.keepsTheQuotas(t, 0)
		if seen := f.slowest(fetched, at(rotation)); seen > rotationGrace+10*time.Second {
			t.Errorf("the last pod saw the rotation %s after it", seen)
		}
	})
}

// More pods than STS gives sessions for while they start: each makes one exchange that succeeds, and as soon as there is quota that
// no other caller uses, the pods that wait have it. Others use some of the quota, so that there is a minute at the end which is not full.
func TestFleetThatIsLargerThanTheQuotaOfSTS(t *testing.T) {
	for name, c := range map[string]struct {
		fleet
		minute     time.Duration // how much of STS's minute is over when the clock's begins
		last, late time.Duration // at most
	}{
		"5,000 pods": {fleet{pods: 5000, rollout: 5 * time.Minute}, 0, 11 * time.Minute, 30 * time.Second},
		// The agents cannot know that STS counts by other minutes than the clock's.
		"1,200 pods and other minutes": {fleet{pods: 1200, rollout: time.Minute}, 40 * time.Second, 4 * time.Minute, stsWindow + stsSpread},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, cloud := c.fleet, newAccount()
				f.secrets, f.life, f.interval = 3, 13*time.Minute, 5*time.Minute
				cloud.stsQuota -= 20
				cloud.minute = c.minute
				fetched := f.run(t, cloud)
				f.report(t, cloud, fmt.Sprintf("they start within %s", f.rollout))
				sessions, calls := sum(cloud.granted[:min(10, len(cloud.granted))]), sum(cloud.sts[:min(10, len(cloud.sts))])
				last, late := f.slowest(fetched, at(0)), time.Duration(0)
				for pod, times := range fetched {
					if len(times) > 0 {
						late = max(late, times[0]-cloud.free(f.starts(pod)))
					}
				}
				t.Logf("the last pod had its values after %s; the longest wait with quota that is free: %s", last, late)
				t.Logf("for each pod in ten minutes: %.2f sessions, %.2f calls", float64(sessions)/float64(f.pods), float64(calls)/float64(f.pods))
				if last > c.last {
					t.Errorf("the last pod had its values after %s", last)
				}
				if late > c.late {
					t.Errorf("a pod waited %s although there was quota", late)
				}
				if float64(sessions) > 1.1*float64(f.pods) {
					t.Errorf("%d sessions for %d pods", sessions, f.pods)
				}
			})
		})
	}
}

// free is the first moment from a pod's start on at which STS had a session for it that no other caller took.
func (c *account) free(start time.Duration) time.Duration {
	for minute := int((start + c.minute) / c.stsUnit); ; minute++ {
		if minute >= len(c.granted) || c.granted[minute] < c.stsQuota {
			return max(start, time.Duration(minute)*c.stsUnit-c.minute)
		}
	}
}
