// Package cache keeps what is expensive to fetch, for a while, and longer while it cannot be fetched.
package cache

import (
	"container/list"
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// retryPause is the longest time after which a value that could not be renewed is tried again.
const retryPause = 30 * time.Second

// Config says what a Cache keeps and for how long.
type Config[K comparable, V any] struct {
	// Fetch gets a value. Its ctx ends after Timeout, not when a caller of the Cache loses interest: the next one wants the
	// value too.
	Fetch   func(ctx context.Context, key K) (V, error)
	Timeout time.Duration // 0: 30s
	TTL     time.Duration // how long a value is good for; 0: values are not kept
	Size    int           // how many values are kept, at least 1; the one not used for longest goes first
	// Transient tells errors that may pass by themselves. After one, an expired value is served on; after any other it is
	// forgotten. nil: no error is transient.
	Transient func(error) bool
	Stale     func(key K, err error) // told when an expired value stays because of err; nil: nobody is
	Version   func(V) string         // what Watch compares
}

// Cache is safe for concurrent use. One fetch at a time is under way for each key.
type Cache[K comparable, V any] struct {
	cfg Config[K, V]

	mu       sync.Mutex
	entries  map[K]*list.Element // of *entry
	used     list.List           // most recently used first
	flights  map[K]*flight[V]
	launched uint64
	watchers map[K]map[chan struct{}]struct{}
	stats    Stats
}

// Stats count what Get found: Hits needed no fetch.
type Stats struct{ Hits, Misses uint64 }

type entry[K comparable, V any] struct {
	key   K
	value V
	due   time.Time // from then on it is to be fetched again
}

// New returns an empty Cache.
func New[K comparable, V any](cfg Config[K, V]) *Cache[K, V] {
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Transient == nil {
		cfg.Transient = func(error) bool { return false }
	}
	if cfg.Stale == nil {
		cfg.Stale = func(K, error) {}
	}
	cfg.Size = max(cfg.Size, 1)
	return &Cache[K, V]{
		cfg: cfg, entries: map[K]*list.Element{}, flights: map[K]*flight[V]{},
		watchers: map[K]map[chan struct{}]struct{}{},
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

// Refresh fetches the value whatever is kept. A failure is an error, and what is kept stays as it is.
func (c *Cache[K, V]) Refresh(ctx context.Context, key K) (V, error) {
	c.mu.Lock()
	asked := c.launched
	f := c.flights[key]
	for f != nil && f.number <= asked {
		// That one may already have read what the caller knows to be old. Whoever waits here shares the next.
		c.mu.Unlock()
		select {
		case <-f.done:
		case <-ctx.Done():
			return f.wait(ctx)
		}
		c.mu.Lock()
		f = c.flights[key]
	}
	if f == nil {
		f = c.launch(key, true)
	}
	c.mu.Unlock()
	return f.wait(ctx)
}

// Put keeps a value that came by another way, as if it had been fetched now.
func (c *Cache[K, V]) Put(key K, value V) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.store(key, value)
}

// Stats returns the counts since New.
func (c *Cache[K, V]) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// lookup is called with mu held.
func (c *Cache[K, V]) lookup(key K) (*entry[K, V], bool) {
	element, ok := c.entries[key]
	if !ok {
		return nil, false
	}
	c.used.MoveToFront(element)
	e, ok := element.Value.(*entry[K, V])
	return e, ok
}

// store is called with mu held.
func (c *Cache[K, V]) store(key K, value V) {
	if c.cfg.TTL <= 0 {
		return
	}
	due := time.Now().Add(c.cfg.TTL)
	if e, ok := c.lookup(key); ok {
		e.value, e.due = value, due
	} else {
		c.entries[key] = c.used.PushFront(&entry[K, V]{key, value, due})
	}
	for c.used.Len() > c.cfg.Size {
		if oldest, ok := c.used.Back().Value.(*entry[K, V]); ok {
			c.forget(oldest.key)
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
	if element, ok := c.entries[key]; ok {
		c.used.Remove(element)
		delete(c.entries, key)
	}
}

// spread is d give or take a tenth, so that what began together does not stay together.
func spread(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }
