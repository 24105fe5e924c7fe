package cloud

import (
	"sync"
	"time"
)

// recent keeps the most recently used of what is made when it is needed. It is safe for concurrent use.
type recent[K comparable, V any] struct {
	most int
	idle time.Duration // after which one is dropped; 0: never
	drop func(V)       // nil: nothing

	mu      sync.Mutex
	entries map[K]*used[V]
	swept   time.Time
}

type used[V any] struct {
	value V
	last  time.Time
}

// get returns what is kept, or what open makes. Of several that are made at the same time for one key, the first is kept for all.
func (r *recent[K, V]) get(key K, open func() (V, error)) (V, error) {
	if value, ok := r.find(key); ok {
		return value, nil
	}
	made, err := open()
	if err != nil {
		return made, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if e, ok := r.entries[key]; ok {
		r.dropped(made)
		e.last = now
		return e.value, nil
	}
	if r.entries == nil {
		r.entries = map[K]*used[V]{}
	}
	r.sweep(now)
	r.entries[key] = &used[V]{made, now}
	return made, nil
}

func (r *recent[K, V]) find(key K) (value V, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	e, ok := r.entries[key]
	if ok {
		e.last = time.Now()
		value = e.value
	}
	return value, ok
}

// sweep is called with mu held, before one is added.
func (r *recent[K, V]) sweep(now time.Time) {
	if r.idle > 0 && now.Sub(r.swept) >= r.idle/4 {
		r.swept = now
		for key, e := range r.entries {
			if now.Sub(e.last) >= r.idle {
				r.forget(key)
			}
		}
	}
	if len(r.entries) < r.most {
		return
	}
	var oldest K
	first := true
	for key, e := range r.entries {
		if first || e.last.Before(r.entries[oldest].last) {
			oldest, first = key, false
		}
	}
	r.forget(oldest)
}

func (r *recent[K, V]) forget(key K) {
	r.dropped(r.entries[key].value)
	delete(r.entries, key)
}

func (r *recent[K, V]) dropped(value V) {
	if r.drop != nil {
		r.drop(value)
	}
}
