package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errOutage  = errors.New("outage")
	errRefused = errors.New("refused")
)

// origin is where values come from. A fetch takes a second.
type origin struct {
	mu      sync.Mutex
	version int
	err     error
	fetches int
}

func (o *origin) set(version int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.version, o.err = version, err
}

func (o *origin) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.fetches
}

func (o *origin) fetch(ctx context.Context, key string) (string, error) {
	o.mu.Lock()
	o.fetches++
	value, err := fmt.Sprintf("%s@%d", key, o.version), o.err
	o.mu.Unlock()
	select {
	case <-time.After(time.Second):
		return value, err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func newCache(o *origin, change ...func(*Config[string, string])) *Cache[string, string] {
	cfg := Config[string, string]{
		Timeout: 30 * time.Second, Weigh: func(string) int { return 0 }, Stale: func(string, error) {},
		Lasting: func(error) bool { return false },
		Fetch:   o.fetch, TTL: 5 * time.Minute, Size: 3,
		Transient: func(err error) bool { return errors.Is(err, errOutage) },
		Version:   func(v string) string { return v },
	}
	for _, c := range change {
		c(&cfg)
	}
	return New(cfg)
}

func want(t *testing.T, c *Cache[string, string], key, value string) {
	t.Helper()
	if got, err := c.Get(t.Context(), key); err != nil || got != value {
		t.Errorf("Get(%s) = %q, %v; want %q", key, got, err, value)
	}
}

func TestValuesAreKeptForTheTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o)
		want(t, c, "a", "a@1")
		o.set(2, nil)
		time.Sleep(5*time.Minute - time.Second)
		want(t, c, "a", "a@1")
		time.Sleep(2 * time.Second)
		want(t, c, "a", "a@2")
		if got := c.Stats(); got != (Stats{Hits: 1, Misses: 2}) || o.count() != 2 {
			t.Errorf("%+v after %d fetches", got, o.count())
		}
	})
}

func TestWithoutTTLNothingIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o, func(cfg *Config[string, string]) { cfg.TTL = 0 })
		want(t, c, "a", "a@1")
		o.set(2, nil)
		want(t, c, "a", "a@2")
		o.set(3, errOutage)
		if _, err := c.Get(t.Context(), "a"); !errors.Is(err, errOutage) {
			t.Errorf("%v", err)
		}
	})
}

func TestTheOneNotUsedForLongestGoesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o)
		for _, key := range []string{"a", "b", "c", "a", "d"} { // b goes
			want(t, c, key, key+"@1")
		}
		before := o.count()
		for _, key := range []string{"a", "c", "d"} {
			want(t, c, key, key+"@1")
		}
		if o.count() != before {
			t.Error("one that is in use was dropped")
		}
		want(t, c, "b", "b@1")
		if o.count() != before+1 || len(c.entries) != 3 {
			t.Errorf("%d fetches, %d entries", o.count()-before, len(c.entries))
		}
	})
}

func TestCallersShareAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o)
		impatient, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := c.Get(impatient, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("impatient caller: %v", err)
		}
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { want(t, c, "a", "a@1") })
		}
		wg.Wait()
		if o.count() != 1 {
			t.Errorf("%d fetches for one value; the caller that left must not end the fetch either", o.count())
		}
	})
}

func TestAnOutageLeavesTheOldValue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		told := 0
		c := newCache(o, func(cfg *Config[string, string]) { cfg.Stale = func(string, error) { told++ } })
		want(t, c, "a", "a@1")
		o.set(2, errOutage)
		time.Sleep(time.Hour)
		want(t, c, "a", "a@1")
		before := o.count()
		want(t, c, "a", "a@1") // at once: an outage costs a time-out every half minute, not every read
		if o.count() != before || told != 1 {
			t.Errorf("%d fetches more, told %d times", o.count()-before, told)
		}
		if _, err := c.Get(t.Context(), "b"); !errors.Is(err, errOutage) {
			t.Errorf("nothing is kept, but: %v", err)
		}
		o.set(2, nil)
		time.Sleep(40 * time.Second)
		want(t, c, "a", "a@2")
	})
}

func TestARefusalIsPassedOnAndForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o)
		want(t, c, "a", "a@1")
		time.Sleep(time.Hour)
		for _, err := range []error{errRefused, errOutage} { // an outage must not bring back what was withdrawn
			o.set(1, err)
			if v, got := c.Get(t.Context(), "a"); !errors.Is(got, err) {
				t.Errorf("%q, %v; want %v", v, got, err)
			}
		}
	})
}

func TestRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o)
		want(t, c, "a", "a@1")
		for _, err := range []error{errRefused, errOutage} {
			o.set(2, err)
			if _, got := c.Refresh(t.Context(), "a"); !errors.Is(got, err) {
				t.Errorf("%v, want %v", got, err)
			}
			want(t, c, "a", "a@1")
			time.Sleep(refreshPause)
		}
		o.set(2, nil)
		if v, err := c.Refresh(t.Context(), "a"); v != "a@2" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
		want(t, c, "a", "a@2")
	})
}

// What Refresh is refused for good is not served any more, from then on and in an outage later.
func TestARefusalOfARefreshForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o, func(cfg *Config[string, string]) {
			cfg.Lasting = func(err error) bool { return errors.Is(err, errRefused) }
		})
		want(t, c, "a", "a@1")
		o.set(1, errRefused)
		if _, err := c.Refresh(t.Context(), "a"); !errors.Is(err, errRefused) {
			t.Error(err)
		}
		for _, err := range []error{errRefused, errOutage} {
			if v, got := c.Get(t.Context(), "a"); !errors.Is(got, err) {
				t.Errorf("%q, %v; want %v", v, got, err)
			}
			o.set(1, errOutage)
			time.Sleep(time.Hour)
		}
	})
}

// A caller that refreshes knows that the value of a moment ago is old.
func TestRefreshDoesNotJoinAFetchThatBeganBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o)
		var wg sync.WaitGroup
		wg.Go(func() { want(t, c, "a", "a@1") })
		synctest.Wait()
		o.set(2, nil)
		for range 20 {
			wg.Go(func() {
				if v, err := c.Refresh(t.Context(), "a"); v != "a@2" || err != nil {
					t.Errorf("%q, %v", v, err)
				}
			})
		}
		wg.Wait()
		if o.count() != 2 {
			t.Errorf("%d fetches: waiting callers share the next", o.count())
		}
	})
}

func TestFetchHasATimeLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(&origin{}, func(cfg *Config[string, string]) { cfg.Timeout = 100 * time.Millisecond })
		if _, err := c.Get(t.Context(), "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
	})
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o)
		ctx, cancel := context.WithCancel(t.Context())
		changes := c.Watch(ctx, "a")
		next := func(value string, within time.Duration) {
			t.Helper()
			begun := time.Now()
			if got := <-changes; got != value || time.Since(begun) > within {
				t.Errorf("%q after %s, want %q within %s", got, time.Since(begun), value, within)
			}
		}
		next("a@1", 2*time.Second)
		c.Put("a", "a@1", time.Now()) // no change
		c.Put("a", "a@2", time.Now())
		next("a@2", 0)
		o.set(3, nil) // without a Put
		next("a@3", 6*time.Minute)
		o.set(3, errOutage)
		time.Sleep(time.Hour)
		o.set(4, nil)
		next("a@4", 6*time.Minute)
		for v := 5; v < 10; v++ { // without a receiver
			c.Put("a", fmt.Sprintf("a@%d", v), time.Now())
			synctest.Wait()
		}
		next("a@5", 0)
		next("a@9", 0)
		cancel()
		if _, open := <-changes; open {
			t.Error("a watch that has ended sends")
		}
		synctest.Wait()
		if len(c.watchers) != 0 {
			t.Errorf("watchers left: %v", c.watchers)
		}
	})
}

func TestWatchWithoutTTLAsksNowAndThen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o, func(cfg *Config[string, string]) { cfg.TTL = 0 })
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		for range c.Watch(ctx, "a") {
			o.set(2, nil)
		}
		time.Sleep(time.Minute) // the last fetch ends after its watcher
		if n := o.count(); n < 60 || n > 150 {
			t.Errorf("%d fetches in an hour", n)
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	c := New(Config[int, string]{
		Timeout: 30 * time.Second, Weigh: func(string) int { return 0 }, Stale: func(int, error) {}, Lasting: func(error) bool { return false },
		Fetch:     func(_ context.Context, key int) (string, error) { return fmt.Sprint(key), nil },
		TTL:       time.Nanosecond, // nearly every Get fetches
		Size:      4,
		Version:   func(v string) string { return v },
		Transient: func(error) bool { return true },
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg, watchers sync.WaitGroup
	for key := range 8 {
		watchers.Go(func() {
			for v := range c.Watch(ctx, key) {
				if v != fmt.Sprint(key) {
					t.Errorf("%s for %d", v, key)
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				for _, read := range []func(context.Context, int) (string, error){c.Get, c.Refresh} {
					if v, err := read(ctx, key); err != nil || v != fmt.Sprint(key) {
						t.Errorf("%q, %v for %d", v, err, key)
					}
				}
				c.Put(key, fmt.Sprint(key), time.Now())
				c.Stats()
			}
		})
	}
	wg.Wait()
	cancel()
	watchers.Wait()
}

func TestRenew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fetched, fails := 0, false
		c := New(Config[string, int]{
			Fetch: func(context.Context, string) (int, error) {
				time.Sleep(time.Second)
				if fails {
					return 0, errors.New("away")
				}
				fetched++
				return fetched, nil
			},
			Timeout: time.Minute, TTL: time.Hour, Size: 2, Weigh: func(int) int { return 1 },
			Transient: func(error) bool { return true }, Lasting: func(error) bool { return false }, Stale: func(string, error) {},
		})
		if _, _, ok := c.Kept("a"); ok || c.UnderWay("a") {
			t.Error("an empty cache has a value")
		}
		var all sync.WaitGroup
		for range 10 {
			all.Go(func() {
				if got, err := c.Renew(t.Context(), "a"); err != nil || got != 1 {
					t.Errorf("got %d, %v", got, err)
				}
			})
		}
		time.Sleep(time.Millisecond)
		if !c.UnderWay("a") {
			t.Error("no fetch is under way")
		}
		all.Wait()
		came := time.Now()
		time.Sleep(time.Minute)
		if got, at, ok := c.Kept("a"); !ok || got != 1 || !at.Equal(came) {
			t.Errorf("kept %d of %s, %t", got, at, ok)
		}
		if got, err := c.Renew(t.Context(), "a"); err != nil || got != 2 {
			t.Errorf("renewed: %d, %v", got, err)
		}
		fails = true
		if _, err := c.Renew(t.Context(), "a"); err == nil {
			t.Error("a failure is no error")
		}
		if got, _, ok := c.Kept("a"); !ok || got != 2 {
			t.Errorf("after a failure %d is kept, %t", got, ok)
		}
	})
}
