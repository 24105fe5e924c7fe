package share

import (
	"context"
	"maps"
	"sync"

	"golang.org/x/time/rate"
)

// manyBuckets is how many are kept in any case.
const manyBuckets = 1024

// A Rate is a token bucket for each key.
type Rate struct {
	perSecond rate.Limit
	burst     int

	mu      sync.Mutex
	buckets map[string]*rate.Limiter
	many    int // when there are so many, those that are full again are thrown away
}

// NewRate lets each key go on so many times a second, and burst times at once after a pause.
func NewRate(perSecond float64, burst int) *Rate {
	return &Rate{perSecond: rate.Limit(perSecond), burst: burst, buckets: map[string]*rate.Limiter{}, many: manyBuckets}
}

// Allow reports whether key may go on now.
func (r *Rate) Allow(key string) bool { return r.bucket(key).Allow() }

// Wait waits until key may go on. If that is not before ctx ends, it returns ErrBusy at once.
func (r *Rate) Wait(ctx context.Context, key string) error {
	if r.bucket(key).Wait(ctx) != nil {
		return ErrBusy
	}
	return nil
}

func (r *Rate) bucket(key string) *rate.Limiter {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b, known := r.buckets[key]; known {
		return b
	}
	if len(r.buckets) >= r.many {
		maps.DeleteFunc(r.buckets, func(_ string, b *rate.Limiter) bool { return b.Tokens() >= float64(r.burst) })
		r.many = max(manyBuckets, 2*len(r.buckets))
	}
	b := rate.NewLimiter(r.perSecond, r.burst)
	r.buckets[key] = b
	return b
}
