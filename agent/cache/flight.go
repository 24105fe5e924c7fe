package cache

import (
	"context"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
)

// flight is one fetch, and all who wait for it.
type flight[V any] struct {
	number uint64
	asked  time.Time     // when Refresh caused it; zero: it did not
	done   chan struct{} // closed at the end; what is below is set before
	value  V
	err    error
	stale  *V // to be served although err is not nil
}

func (f *flight[V]) wait(ctx context.Context) (V, error) {
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

// launch is called with mu held. A forced flight that fails leaves what is kept as it is.
func (c *Cache[K, V]) launch(key K, forced bool) *flight[V] {
	c.launched++
	f := &flight[V]{number: c.launched, done: make(chan struct{})}
	if forced {
		f.asked = time.Now()
	}
	c.flights[key] = f
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeout)
		defer cancel()
		f.value, f.err = c.cfg.Fetch(ctx, key)
		c.land(key, f, forced)
	}()
	return f
}

func (c *Cache[K, V]) land(key K, f *flight[V], forced bool) {
	transient := f.err != nil && c.cfg.Transient(f.err)
	c.mu.Lock()
	delete(c.flights, key)
	if f.err != nil && c.cfg.Lasting(f.err) {
		c.refuse(key, f.err)
	}
	kept, ok := c.lookup(key)
	switch {
	case f.err == nil:
		c.store(key, f.value)
		if e, kept := c.lookup(key); kept && forced {
			e.asked = f.asked
		}
	case ok && transient:
		stale := kept.value
		f.stale = &stale
		if !forced {
			kept.due = time.Now().Add(pause.Around(min(c.cfg.TTL, retryPause)))
		}
	case ok && !forced:
		c.forget(key) // it was refused: an outage later must not bring it back
	}
	c.mu.Unlock()
	if f.stale != nil && !forced {
		c.cfg.Stale(key, f.err)
	}
	close(f.done)
}
