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

func TestValuesAreKeptWithinBytes(t *testing.T) {
	o := &origin{}
	c := newCache(o, func(cfg *Config[string, string]) {
		cfg.Size, cfg.Bytes, cfg.Weigh = 100, 10, func(v string) int { return len(v) }
	})
	kept := func(keys ...string) {
		t.Helper()
		if len(c.entries) != len(keys) {
			t.Errorf("%d values", len(c.entries))
		}
		for _, key := range keys {
			if _, ok := c.entries[key]; !ok {
				t.Errorf("%s is gone", key)
			}
		}
	}
	c.Put("a", "1234", time.Now())
	c.Put("b", "1234", time.Now())
	want(t, c, "a", "1234")
	c.Put("c", "1234", time.Now())
	kept("a", "c")
	c.Put("c", "12345", time.Now()) // in place of what was
	kept("a", "c")
	c.Put("d", "1234567890", time.Now())
	kept("d")
	c.Put("e", "more than everything", time.Now())
	kept("d")
	c.Put("d", "more than everything", time.Now()) // what was there is old
	kept()
	if c.bytes != 0 {
		t.Errorf("%d bytes of nothing", c.bytes)
	}
}

func TestWhatCameBeforeReplacesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o)
		before := time.Now()
		time.Sleep(time.Second)
		want(t, c, "a", "a@1")
		c.Put("a", "older", before)
		want(t, c, "a", "a@1")
		c.Put("b", "older", before)
		time.Sleep(c.cfg.TTL - time.Second) // as old as a value may be
		want(t, c, "b", "b@1")
		go func() {
			time.Sleep(time.Second / 2)
			c.Put("c", "newer", time.Now())
		}()
		want(t, c, "c", "newer") // although what was asked for before comes after it
		time.Sleep(time.Second)
		want(t, c, "c", "newer")
	})
}

func TestAValueLargerThanTheCacheIsServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1}
		c := newCache(o, func(cfg *Config[string, string]) {
			cfg.Bytes, cfg.Weigh = 2, func(v string) int { return len(v) }
		})
		want(t, c, "a", "a@1")
		want(t, c, "a", "a@1")
		if v, err := c.Refresh(t.Context(), "a"); v != "a@1" || err != nil {
			t.Errorf("%q, %v", v, err)
		}
	})
}

func TestARefusalThatLastsIsRepeatedForSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &origin{version: 1, err: errRefused}
		c := newCache(o, func(cfg *Config[string, string]) {
			cfg.Lasting = func(err error) bool { return errors.Is(err, errRefused) }
		})
		refused := func(fetches int) {
			t.Helper()
			if _, err := c.Get(t.Context(), "a"); !errors.Is(err, errRefused) || o.count() != fetches {
				t.Errorf("%v after %d fetches; want %d", err, o.count(), fetches)
			}
		}
		for range 100 {
			refused(1)
		}
		time.Sleep(refusalPause)
		refused(2)
		c.Put("a", "made since", time.Now())
		want(t, c, "a", "made since")

		o.set(1, errOutage) // does not last
		for range 3 {
			if _, err := c.Get(t.Context(), "b"); !errors.Is(err, errOutage) {
				t.Error(err)
			}
		}
		if o.count() != 5 {
			t.Errorf("%d fetches", o.count())
		}
	})
}

func TestRefusalsAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCache(&origin{err: errRefused}, func(cfg *Config[string, string]) { cfg.Lasting = func(error) bool { return true } })
		for i := range 10 * mostRefusals {
			wg := sync.WaitGroup{}
			wg.Go(func() { _, _ = c.Get(t.Context(), fmt.Sprint(i)) })
			if i%mostRefusals == 0 {
				wg.Wait()
			}
		}
		time.Sleep(time.Minute)
		if len(c.refusals) > mostRefusals {
			t.Errorf("%d", len(c.refusals))
		}
	})
}

func TestRefreshAsksOnceASecond(t *testing.T) {
	for name, takes := range map[string]time.Duration{"fast": 0, "slow": 1500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun := time.Now()
				var mu sync.Mutex
				var fetches []time.Duration
				c := newCache(nil, func(cfg *Config[string, string]) {
					cfg.Fetch = func(context.Context, string) (string, error) {
						mu.Lock()
						fetches = append(fetches, time.Since(begun))
						mu.Unlock()
						time.Sleep(takes)
						return "value", nil
					}
				})
				var wg sync.WaitGroup
				for range 100 {
					for range 5 {
						wg.Go(func() {
							if v, err := c.Refresh(t.Context(), "a"); v != "value" || err != nil {
								t.Errorf("%q, %v", v, err)
							}
						})
					}
					time.Sleep(100 * time.Millisecond)
				}
				wg.Wait()
				for i := range fetches[1:] {
					if fetches[i+1]-fetches[i] < refreshPause {
						t.Errorf("fetches at %v", fetches)
						break
					}
				}
				if len(fetches) < 5 {
					t.Errorf("fetches at %v", fetches)
				}
			})
		})
	}
}

func TestRefreshThatFailsAsksOnceASecond(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			o := &origin{version: 1}
			c := newCache(o, func(cfg *Config[string, string]) { cfg.Lasting = func(error) bool { return lasting } })
			want(t, c, "a", "a@1")
			o.set(1, errRefused)
			for range 10 {
				if _, err := c.Refresh(t.Context(), "a"); !errors.Is(err, errRefused) {
					t.Error(err)
				}
			}
			if o.count() != 2 {
				t.Errorf("lasting %v: %d fetches", lasting, o.count())
			}
			time.Sleep(refreshPause)
			if _, err := c.Refresh(t.Context(), "a"); !errors.Is(err, errRefused) || o.count() != 3 {
				t.Errorf("lasting %v: %v after %d fetches", lasting, err, o.count())
			}
		})
	}
}
