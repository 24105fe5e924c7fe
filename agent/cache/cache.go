// Package cache keeps what is expensive to fetch, for a while, and longer while it cannot be fetched.
package cache

import (
	"container/list"
	"context"
	"maps"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
)

const (
	// retryPause is the longest time after which a value that could not be renewed is tried again.
	retryPause = 30 * time.Second
	// refreshPause is the shortest time between two fetches of a key that Refresh causes.
	refreshPause = time.Second
	// refusalPause is how long an error that lasts is repeated without a fetch.
	refusalPause = 5 * time.Second
	// mostRefusals are remembered at a time.
	mostRefusals = 100
)

// Config says what a Cache keeps and for how long. Every function is needed.
type Config[K comparable, V any] struct {
	// Fetch gets a value. Its ctx ends after Timeout, not when a caller of the Cache loses interest: the next one wants the
	// value too.
	Fetch   func(ctx context.Context, key K) (V, error)
	Timeout time.Duration
	TTL     time.Duration // how long a value is good for; 0: values are not kept
	Size    int           // how many values are kept, at least 1; the one not used for longest goes first
	// Bytes is what all values that are kept may have together, as Weigh counts them; 0: no limit. A value with more is not kept.
	Bytes int
	Weigh func(V) int
	// Transient tells errors that may pass by themselves. After one, an expired value is served on; after any other it is
	// forgotten. After one that lasts, any value is.
	Transient func(error) bool
	Lasting   func(error) bool       // tells errors that are the same for some seconds, such as for a key that does not exist
	Stale     func(key K, err error) // called when an expired value stays because of err
	Version   func(V) string         // what Watch compares
}

// Cache is safe for concurrent use. One fetch at a time is under way for each key.
type Cache[K comparable, V any] struct {
	cfg Config[K, V]

	mu       sync.Mutex
	entries  map[K]*entry[V]
	used     list.List // of their keys, most recently used first
	bytes    int       // of all entries
	refusals map[K]refusal
	flights  map[K]*flight[V]
	watchers map[K]map[chan struct{}]struct{}
	stats    Stats
}

// Stats count what Get found: Hits needed no fetch.
type Stats struct{ Hits, Misses uint64 }

type entry[V any] struct {
	place *list.Element
	value V
	bytes int
	at    time.Time // when it came
	due   time.Time // from then on it is to be fetched again
	asked time.Time // when the last fetch that Refresh caused began
}

// refusal is an error that lasts, or that of the last forced fetch.
type refusal struct {
	err   error
	at    time.Time
	lasts bool
}

// New returns an empty Cache.
func New[K comparable, V any](cfg Config[K, V]) *Cache[K, V] {
	cfg.Size = max(cfg.Size, 1)
	return &Cache[K, V]{
		cfg: cfg, entries: map[K]*entry[V]{}, flights: map[K]*flight[V]{},
		refusals: map[K]refusal{}, watchers: map[K]map[chan struct{}]struct{}{},
	}
}

// Get returns the value that is kept, or fetches it. Its error is Fetch's, or ctx's.
func (c *Cache[K, V]) Get(ctx context.Context, key K) (V, error) {
	return c.get(ctx, key, &c.stats)
}

func (c *Cache[K, V]) get(ctx context.Context, key K, count *Stats) (V, error) {
	c.mu.Lock()
	if e, ok := c.lookup(key); ok && time.Now().Before(e.due) {
		value := e.value
		count.Hits++
		c.mu.Unlock()
		return value, nil
	}
	if r, ok := c.refusals[key]; ok && r.lasts && time.Since(r.at) < refusalPause {
		count.Hits++
		c.mu.Unlock()
		var none V
		return none, r.err
	}
	count.Misses++
	f := c.flights[key]
	if f == nil {
		f = c.launch(key, false)
	}
	c.mu.Unlock()
	value, err := f.wait(ctx)
	if err != nil && f.stale != nil && ctx.Err() == nil {
		return *f.stale, nil
	}
	return value, err
}

// Refresh fetches the value whatever is kept, at most once a second: a call within that time gets what the one before
// it got. A failure is an error, and what is kept stays as it is, unless the error lasts.
func (c *Cache[K, V]) Refresh(ctx context.Context, key K) (V, error) {
	c.mu.Lock()
	if r, ok := c.refusals[key]; ok && time.Since(r.at) < refreshPause {
		c.mu.Unlock()
		var none V
		return none, r.err
	}
	if e, ok := c.lookup(key); ok && time.Since(e.asked) < refreshPause {
		value := e.value
		c.mu.Unlock()
		return value, nil
	}
	if f := c.flights[key]; f != nil && (!f.forced || time.Since(f.begun) >= refreshPause) {
		// That fetch may already have read what the caller knows to be old. All callers that wait here share the next one.
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return f.wait(ctx)
		}
		c.mu.Lock()
	}
	return c.join(ctx, key)
}

// Kept returns the value that is kept, however old it is, and when it came.
func (c *Cache[K, V]) Kept(key K) (value V, at time.Time, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.lookup(key); ok {
		return e.value, e.at, true
	}
	return value, at, false
}

// UnderWay reports whether the value is being fetched.
func (c *Cache[K, V]) UnderWay(key K) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.flights[key] != nil
}

// Renew fetches the value whatever is kept, or waits for the fetch that is under way. A failure is an error, and what is kept stays as
// it is, unless the error lasts.
func (c *Cache[K, V]) Renew(ctx context.Context, key K) (V, error) {
	c.mu.Lock()
	return c.join(ctx, key)
}

// join waits for the fetch that is under way, or for a forced one. It is called with mu held, and gives it back.
func (c *Cache[K, V]) join(ctx context.Context, key K) (V, error) {
	f := c.flights[key]
	if f == nil {
		f = c.launch(key, true)
	}
	c.mu.Unlock()
	return f.wait(ctx)
}

// Put keeps a value that came by another way at a time, unless a newer one is there.
func (c *Cache[K, V]) Put(key K, value V, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; !ok || !e.at.After(at) {
		c.store(key, value, at)
	}
}

// Stats returns the counts since New.
func (c *Cache[K, V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// lookup is called with mu held.
func (c *Cache[K, V]) lookup(key K) (*entry[V], bool) {
	e, ok := c.entries[key]
	if ok {
		c.used.MoveToFront(e.place)
	}
	return e, ok
}

// store is called with mu held.
func (c *Cache[K, V]) store(key K, value V, at time.Time) {
	delete(c.refusals, key)
	if c.cfg.TTL <= 0 {
		return
	}
	c.forget(key)
	if bytes := c.cfg.Weigh(value); c.cfg.Bytes == 0 || bytes <= c.cfg.Bytes {
		c.entries[key] = &entry[V]{place: c.used.PushFront(key), value: value, bytes: bytes, at: at, due: at.Add(c.cfg.TTL)}
		c.bytes += bytes
	}
	for c.used.Len() > c.cfg.Size || c.cfg.Bytes > 0 && c.bytes > c.cfg.Bytes {
		if oldest, ok := c.used.Back().Value.(K); ok {
			c.forget(oldest)
		}
	}
	for wake := range c.watchers[key] {
		select {
		case wake <- struct{}{}:
		default: // it is awake
		}
	}
}

// forget is called with mu held.
func (c *Cache[K, V]) forget(key K) {
	if e, ok := c.entries[key]; ok {
		c.used.Remove(e.place)
		c.bytes -= e.bytes
		delete(c.entries, key)
	}
}

// refuse is called with mu held.
func (c *Cache[K, V]) refuse(key K, err error, lasts bool) {
	now := time.Now()
	maps.DeleteFunc(c.refusals, func(_ K, r refusal) bool { return now.Sub(r.at) >= refusalPause })
	if len(c.refusals) < mostRefusals {
		c.refusals[key] = refusal{err, now, lasts}
	}
}

// flight is one fetch, which any number of callers wait for.
type flight[V any] struct {
	begun  time.Time
	forced bool          // a failure leaves what is kept as it is, unless it lasts
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

// launch is called with mu held.
func (c *Cache[K, V]) launch(key K, forced bool) *flight[V] {
	f := &flight[V]{begun: time.Now(), forced: forced, done: make(chan struct{})}
	c.flights[key] = f
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), c.cfg.Timeout)
		defer cancel()
		f.value, f.err = c.cfg.Fetch(ctx, key)
		c.land(key, f)
	}()
	return f
}

func (c *Cache[K, V]) land(key K, f *flight[V]) {
	lasts := f.err != nil && c.cfg.Lasting(f.err)
	transient := f.err != nil && c.cfg.Transient(f.err)
	c.mu.Lock()
	delete(c.flights, key)
	if lasts || f.err != nil && f.forced {
		c.refuse(key, f.err, lasts)
	}
	kept, ok := c.lookup(key)
	switch {
	case f.err == nil:
		if ok && kept.at.After(f.begun) { // it has been Put since
			f.value = kept.value
		} else {
			c.store(key, f.value, time.Now())
		}
		if e, kept := c.lookup(key); kept && f.forced {
			e.asked = f.begun
		}
	case ok && transient:
		stale := kept.value
		f.stale = &stale
		if !f.forced {
			kept.due = time.Now().Add(pause.Around(min(c.cfg.TTL, retryPause)))
		}
	case ok && (lasts || !f.forced):
		c.forget(key) // it was refused: an outage later must not bring it back
	}
	c.mu.Unlock()
	if f.stale != nil && !f.forced {
		c.cfg.Stale(key, f.err)
	}
	close(f.done)
}
