package cloud

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
)

// The quotas of an account: KMS's of a region, and the smaller that STS's pages give.
const (
	kmsQuota = 450 // a second
	stsQuota = 500 // a minute
)

// world is a cloud with quotas, in virtual time.
type world struct {
	mu       sync.Mutex
	down     bool
	kms, sts map[time.Time]int // calls by second, by minute
	refused  int
	calls    int
}

// ask is a call: 20 ms, or ten seconds without an answer.
func (w *world) ask(of func(*world) map[time.Time]int, window time.Duration, quota int) (down, throttled bool) {
	w.mu.Lock()
	count := of(w)
	at := time.Now().Truncate(window)
	count[at]++
	w.calls++
	down, throttled = w.down, count[at] > quota
	if throttled {
		w.refused++
	}
	w.mu.Unlock()
	if down {
		time.Sleep(10 * time.Second)
	} else {
		time.Sleep(20 * time.Millisecond)
	}
	return down, throttled
}

func (w *world) GetSecretValue(_ context.Context, _ kms.Credentials, ref kms.Ref) (kms.Secret, error) {
	switch down, throttled := w.ask(func(w *world) map[time.Time]int { return w.kms }, time.Second, kmsQuota); {
	case down:
		return kms.Secret{}, &kms.Error{Ref: ref, Err: errors.New("no answer")}
	case throttled:
		return kms.Secret{}, &kms.Error{Ref: ref, Status: 429, Code: "Rejected.Throttling"}
	}
	return kms.Secret{Name: ref.Name, Type: "Generic", VersionID: "1", Data: []byte("value of " + ref.Name)}, nil
}

func (w *world) CloseIdleConnections() {}

func (w *world) provider(id string) identity.Provider {
	return identity.Provider{ID: id, Get: func(context.Context) (identity.Credentials, error) {
		start := time.Now()
		switch down, throttled := w.ask(func(w *world) map[time.Time]int { return w.sts }, time.Minute, stsQuota); {
		case down:
			return identity.Credentials{}, &identity.Error{Action: identity.AssumeRoleWithOIDC, Err: errors.New("no answer")}
		case throttled:
			return identity.Credentials{}, &identity.Error{Action: identity.AssumeRoleWithOIDC, Code: "Throttling.User"}
		}
		return identity.Credentials{
			Credentials: openapi.Credentials{AccessKeyID: id, AccessKeySecret: "s", SecurityToken: "t"}, Expires: start.Add(life),
		}, nil
	}}
}

func (w *world) cloud() *Cloud {
	return New(Settings{Dial: func(kms.Config) (Gateway, error) { return w, nil }})
}

// asker is a ServiceAccount's.
func (w *world) asker(namespace, account string) store.Asker {
	who := store.Who{Kind: store.ServiceAccount, Namespace: namespace, Name: account, Role: "acs:ram::1:role/" + account}
	return store.Asker{
		Who: who, Endpoint: "kms-vpc.cn-hangzhou.aliyuncs.com", Namespace: namespace,
		Open: func(paced func(identity.Provider) identity.Provider) (*identity.Source, error) {
			return identity.NewSource(paced(w.provider(who.String())), nil, nil), nil
		},
	}
}

// peak returns the most calls of a window.
func peak(count map[time.Time]int) int {
	most := 0
	for _, n := range count {
		most = max(most, n)
	}
	return most
}

// object is synchronized as a reconciler does: what may not be read now is asked for again when the Wait says, and what failed after
// an exponential back-off with full jitter.
type object struct {
	asker    store.Asker
	refs     []kms.Ref
	due      time.Time
	fresh    time.Time // when all was read last
	longest  time.Duration
	next     time.Time // when it is tried
	failures int
}

const interval = 120 * time.Second

// life of sessions: so short that the outage begins before, and ends after, they are renewed or end.
const life = 15 * time.Minute

// A fleet is all objects; some workers synchronize them, as in a controller.
type fleet struct {
	mu      sync.Mutex
	objects []*object
	taken   map[*object]bool
}

// take returns the object that is tried next.
func (f *fleet) take() *object {
	f.mu.Lock()
	defer f.mu.Unlock()
	var first *object
	for _, o := range f.objects {
		if !f.taken[o] && (first == nil || o.next.Before(first.next)) {
			first = o
		}
	}
	f.taken[first] = true
	return first
}

// work synchronizes until ctx ends. Between two objects the workers hold those that are tried next, so that none is late.
func (f *fleet) work(ctx context.Context, c *Cloud) {
	for ctx.Err() == nil {
		o := f.take()
		if pause.Sleep(ctx, time.Until(o.next)); ctx.Err() == nil {
			o.try(ctx, c, &f.mu)
		}
		f.mu.Lock()
		delete(f.taken, o)
		f.mu.Unlock()
	}
}

func (o *object) try(ctx context.Context, c *Cloud, mu *sync.Mutex) {
	priority := Due
	if o.fresh.IsZero() {
		priority = First
	}
	retry, failed := time.Duration(0), false
	for _, ref := range o.refs {
		_, err := c.Read(ctx, o.asker, ref, priority, max(interval/2, time.Since(o.due)))
		var wait *Wait
		switch {
		case errors.As(err, &wait):
			if retry == 0 || wait.After < retry {
				retry = wait.After
			}
		case err != nil:
			failed = true
		}
	}
	mu.Lock()
	defer mu.Unlock()
	now := time.Now()
	switch {
	case retry > 0:
		o.next = now.Add(retry)
	case failed:
		o.next = now.Add(pause.UpTo(pause.Doubled(5*time.Second, o.failures, interval)))
		o.failures++
	default:
		o.failures = 0
		o.longest = max(o.longest, now.Sub(o.due))
		o.fresh, o.due = now, now.Add(pause.Around(interval))
		o.next = o.due
	}
}

// TestFleet: 2,000 objects of three secrets each, of 500 ServiceAccounts, through a start, a restart and an outage of KMS and STS of ten
// minutes. No quota is exceeded, and five minutes later all is right again.
func TestFleet(t *testing.T) {
	var table strings.Builder
	fmt.Fprintf(&table, "\n%-32s %9s %9s %9s %9s %9s %14s\n", "2,000 × 3, 500 ServiceAccounts", "KMS calls", "most/s", "STS calls", "most/min", "refused",
		"all right in")
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		f := &fleet{objects: make([]*object, 2000), taken: map[*object]bool{}}
		for i := range f.objects {
			account := i % 500
			o := &object{asker: w.asker(fmt.Sprintf("ns-%d", account/2), fmt.Sprintf("sa-%d", account)), due: time.Now(), next: time.Now()}
			for j := range 3 {
				o.refs = append(o.refs, kms.Ref{Name: fmt.Sprintf("app/%d/%d", i, j)})
			}
			f.objects[i] = o
		}
		var stop func()
		start := func() {
			ctx, cancel := context.WithCancel(t.Context())
			c := w.cloud()
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() { f.work(ctx, c) })
			}
			stop = func() { cancel(); all.Wait() }
		}
		// phase runs for a while, and says when all were fresh again after a moment in it.
		phase := func(name string, d, begins time.Duration, change func()) {
			w.mu.Lock()
			w.kms, w.sts, w.refused = map[time.Time]int{}, map[time.Time]int{}, 0
			w.mu.Unlock()
			from := time.Now().Add(begins)
			change()
			right := time.Duration(-1)
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(time.Second) {
				f.mu.Lock()
				late := slices.ContainsFunc(f.objects, func(o *object) bool { return o.fresh.Before(from) })
				f.mu.Unlock()
				if !late && right < 0 {
					right = time.Since(from)
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			sum := func(count map[time.Time]int) (n int) {
				for _, c := range count {
					n += c
				}
				return n
			}
			again := right.Round(time.Second).String()
			if begins >= d {
				again = "-"
			}
			fmt.Fprintf(&table, "%-32s %9d %9d %9d %9d %9d %14s\n", name, sum(w.kms), peak(w.kms), sum(w.sts), peak(w.sts), w.refused, again)
			if w.refused > 0 || right > 5*time.Minute || right < 0 && begins < d {
				t.Errorf("%s: %d calls over a quota, right again after %s", name, w.refused, right)
			}
		}
		phase("all of them new", 5*time.Minute, 0, start)
		phase("all of them synchronized", 3*time.Minute, 0, func() {})
		phase("a restart", 5*time.Minute, 0, func() { stop(); start() })
		phase("an outage of ten minutes", 10*time.Minute, 10*time.Minute, func() { w.mu.Lock(); w.down = true; w.mu.Unlock() })
		phase("after the outage", 5*time.Minute, 0, func() { w.mu.Lock(); w.down = false; w.mu.Unlock() })
		stop()
		time.Sleep(time.Minute) // calls under way end
	})
	t.Log(table.String())
}

// TestFairness: whatever one namespace asks for, another one's call waits for little more than a round.
func TestFairness(t *testing.T) {
	const flood = 1800 // calls, each of a goroutine: the race detector fails with many more
	for name, c := range map[string]struct{ flood, other Priority }{
		"many that are due":            {Due, Due},
		"many that are new":            {First, Due},
		"a new one, many that are due": {Due, First},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBudget(60, 60, func(time.Duration) {})
				var all sync.WaitGroup
				ask := func(key any, namespace string, p Priority) time.Duration {
					begun := time.Now()
					for wait := b.take(key, namespace, p); wait > 0; wait = b.take(key, namespace, p) {
						time.Sleep(wait + rand.N(20*time.Millisecond))
					}
					return time.Since(begun)
				}
				var slowest time.Duration
				var mu sync.Mutex
				for i := range flood {
					all.Go(func() {
						d := ask(i, "flood", c.flood)
						mu.Lock()
						defer mu.Unlock()
						slowest = max(slowest, d)
					})
				}
				time.Sleep(5 * time.Second)
				for i := range 5 {
					if d := ask(fmt.Sprint("other ", i), "other", c.other); d > 3*time.Second {
						t.Errorf("the call of another namespace waited for %s", d)
					}
				}
				all.Wait()
				if want := flood / 60 * time.Second; slowest > want*11/10 || slowest < want*9/10 {
					t.Errorf("%d calls took %s, want %s", flood, slowest, want)
				}
			})
		})
	}
}
