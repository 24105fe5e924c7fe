package cache

import (
	"context"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
)

// Watch sends the value as it is, and again each time that it has another version, until ctx ends; then it closes the
// channel. To find out it fetches when the value expires, or learns of what others fetched or Put. A receiver that is
// slow misses versions, but never the last one.
func (c *Cache[K, V]) Watch(ctx context.Context, key K) <-chan V {
	changes := make(chan V)
	wake := make(chan struct{}, 1)
	c.mu.Lock()
	if c.watchers[key] == nil {
		c.watchers[key] = map[chan struct{}]struct{}{}
	}
	c.watchers[key][wake] = struct{}{}
	c.mu.Unlock()
	go func() {
		defer close(changes)
		defer c.unwatch(key, wake)
		c.watch(ctx, key, wake, changes)
	}()
	return changes
}

func (c *Cache[K, V]) unwatch(key K, wake chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.watchers[key], wake); len(c.watchers[key]) == 0 {
		delete(c.watchers, key)
	}
}

func (c *Cache[K, V]) watch(ctx context.Context, key K, wake <-chan struct{}, changes chan<- V) {
	var uncounted Stats
	last, sent := "", false
	for {
		value, err := c.get(ctx, key, &uncounted)
		if err == nil && (!sent || c.cfg.Version(value) != last) {
			select {
			case changes <- value:
				last, sent = c.cfg.Version(value), true
			case <-ctx.Done():
				return
			}
		}
		timer := time.NewTimer(c.expiry(key))
		select {
		case <-timer.C:
		case <-wake:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// expiry is when to look again: soon after the value expires, or after a pause if there is none.
func (c *Cache[K, V]) expiry(key K) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries[key]; ok {
		left := min(max(time.Until(e.due), 0), 24*time.Hour)
		return left + time.Millisecond + pause.Around(left/10)
	}
	return pause.Around(retryPause)
}
