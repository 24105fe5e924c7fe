package cloud

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
)

// The quotas of an account: KMS's of a region, and the smaller that STS's pages give.
const (
	kmsQuota = 450 // a second
	stsQuota = 500 // a minute
)

// set starts or ends an outage, and returns how many calls there were since the last time.
func (w *world) set(down bool) (calls int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls, w.calls, w.down = w.calls, 0, down
	return calls
}

// life of sessions.
const life = 15 * time.Minute

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

func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		made, dropped := 0, []string{}
		r := recent[string, string]{most: 3, idle: time.Hour, drop: func(s string) { dropped = append(dropped, s) }}
		get := func(key string) {
			if got, err := r.get(key, func() (string, error) { made++; return key, nil }); err != nil || got != key {
				t.Errorf("got %s, %v", got, err)
			}
			time.Sleep(time.Second)
		}
		for _, key := range []string{"a", "b", "c", "a", "d"} {
			get(key)
		}
		if made != 4 || fmt.Sprint(dropped) != "[b]" {
			t.Errorf("%d made, dropped %v: want the least recently used", made, dropped)
		}
		time.Sleep(2 * time.Hour)
		get("e")
		if len(r.entries) != 1 || len(dropped) != 4 {
			t.Errorf("%d kept, dropped %v: want what is not used for an hour", len(r.entries), dropped)
		}
		if _, err := r.get("f", func() (string, error) { return "", errors.New("no") }); err == nil || len(r.entries) != 1 {
			t.Errorf("%v, %d kept", err, len(r.entries))
		}
	})
}

// TestSlowOpening: one identity that takes long to open holds up no other.
func TestSlowOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := recent[int, int]{most: 10}
		go r.get(1, func() (int, error) { time.Sleep(time.Hour); return 1, nil })
		time.Sleep(time.Second)
		begun := time.Now()
		if got, err := r.get(2, func() (int, error) { return 2, nil }); got != 2 || err != nil || time.Since(begun) > 0 {
			t.Errorf("got %d, %v after %s", got, err, time.Since(begun))
		}
		time.Sleep(2 * time.Hour)
	})
}

// TestBudgetForgets: those that do not come back hold up no other for long, and too many of them are not remembered.
func TestBudgetForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(10, 10, func(time.Duration) {})
		for i := range mostWaiting + 1000 {
			b.take(i, fmt.Sprint("ns-", i%7), Due)
		}
		if len(b.queue) != mostWaiting || len(b.waiting) != mostWaiting {
			t.Errorf("%d wait, %d are remembered", len(b.queue), len(b.waiting))
		}
		time.Sleep(time.Hour) // none of them comes
		if wait := b.take("late", "ns-1", Due); wait > 0 || len(b.queue) != 0 || len(b.waiting) != 0 || len(b.last) != 0 {
			t.Errorf("wait %s behind %d", wait, len(b.queue))
		}
	})
}

// TestUrgency: what waits and becomes urgent goes first, and equal calls wait as one.
func TestUrgency(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBudget(1, 1, func(time.Duration) {})
		for i := range 30 {
			b.take(i, fmt.Sprint("ns-", i), Due)
		}
		before := b.take(29, "ns-29", Due)
		if after := b.take(29, "ns-29", First); after > before/4 || len(b.queue) != 29 {
			t.Errorf("wait %s, then %s, among %d", before, after, len(b.queue))
		}
	})
}

// TestMemory: values take no more than their bound.
func TestMemory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{kms: map[time.Time]int{}, sts: map[time.Time]int{}}
		c, a := New(Settings{Dial: func(kms.Config) (Gateway, error) { return large{w}, nil }, SharedPerSecond: 400}), w.asker("shop", "web")
		const secrets = 3000 // of 30 kB
		for round := range 2 {
			for i := range secrets {
				for {
					_, err := c.Read(t.Context(), a, kms.Ref{Name: fmt.Sprint(i)}, Due, time.Hour, time.Now())
					var wait *Wait
					if err == nil {
						break
					}
					if !errors.As(err, &wait) {
						t.Fatal(err)
					}
					time.Sleep(wait.After)
				}
			}
			if round == 0 {
				w.calls = 0
			}
		}
		if w.calls < secrets {
			t.Errorf("%d calls for %d secrets that do not all fit", w.calls, secrets)
		}
	})
}

// large has values of 30 kB.
type large struct{ *world }

func (l large) GetSecretValue(ctx context.Context, creds kms.Credentials, ref kms.Ref) (kms.Secret, error) {
	s, err := l.world.GetSecretValue(ctx, creds, ref)
	s.Data = []byte(strings.Repeat("x", 30<<10))
	return s, err
}

// TestRemoteRoles: a second role waits for its own turn, and both get one in the end when STS's budget is used up.
func TestRemoteRoles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{kms: map[time.Time]int{}, sts: map[time.Time]int{}}
		c := w.cloud()
		var all sync.WaitGroup
		for i := range 300 {
			a := w.asker(fmt.Sprint("ns-", i), "web")
			a.Who.Remote = "acs:ram::2:role/remote"
			open := a.Open
			a.Open = func(paced func(identity.Provider) identity.Provider) (*identity.Source, error) {
				first, err := open(paced)
				if err != nil {
					return nil, err
				}
				return identity.NewSource(store.After(first, paced(w.provider("remote"))), nil, nil), nil
			}
			all.Go(func() {
				begun := time.Now()
				for {
					_, err := c.Read(t.Context(), a, kms.Ref{Name: "app/db"}, Due, time.Hour, time.Now())
					var wait *Wait
					switch {
					case err == nil:
						if took := time.Since(begun); took > 6*time.Minute {
							t.Errorf("600 exchanges at 100 a minute took %s", took)
						}
						return
					case !errors.As(err, &wait):
						t.Error(err)
						return
					}
					time.Sleep(wait.After)
				}
			})
		}
		all.Wait()
		if n := peak(w.sts); n > 200 || w.refused > 0 {
			t.Errorf("%d exchanges a minute", n)
		}
	})
}

// TestSlowGateway: no caller waits for a gateway that does not answer, and one that comes back gets what its call was answered. When a rest
// is over, one call is made, and its outcome counts for all.
func TestSlowGateway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{kms: map[time.Time]int{}, sts: map[time.Time]int{}}
		c, a := w.cloud(), w.asker("shop", "web")
		if err := c.Authenticate(t.Context(), a, Due); err != nil {
			t.Fatal(err)
		}
		w.set(true)
		since := map[int]time.Time{}
		read := func(i int) (wait *Wait, err error) {
			begun := time.Now()
			if since[i].IsZero() {
				since[i] = begun
			}
			_, err = c.Read(t.Context(), a, kms.Ref{Name: fmt.Sprint(i)}, Due, 0, since[i])
			if took := time.Since(begun); took > patience {
				t.Errorf("a caller waited for %s", took)
			}
			if errors.As(err, &wait); wait == nil || wait.Err != nil {
				delete(since, i)
			}
			return wait, err
		}
		var refusal *kms.Error
		for i := range enough {
			wait, err := read(i)
			for ; wait != nil && wait.Err == nil; wait, err = read(i) {
				time.Sleep(wait.After)
			}
			if calls := w.set(true); !errors.As(err, &refusal) || calls != 1 {
				t.Fatalf("reading %d: %d calls, %v", i, calls, err)
			}
		}
		for rests := range 10 {
			time.Sleep(longestOutage)
			w.set(true)
			for i := range 20 {
				if wait, err := read(i); wait == nil || (wait.Err == nil) != (i == 0) {
					t.Errorf("rest %d: caller %d is told %v", rests, i, err)
				}
			}
			time.Sleep(10 * time.Second)
			if calls := w.set(true); calls != 1 {
				t.Errorf("rest %d: %d calls when it is over", rests, calls)
			}
			clear(since)
		}
		time.Sleep(longestOutage)
		w.set(false)
		for i := range 20 {
			if _, err := read(i); err != nil {
				t.Errorf("after the outage: %v", err)
			}
		}
	})
}
