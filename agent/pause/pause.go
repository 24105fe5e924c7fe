// Package pause spreads waits at random, so that a fleet of agents does not act in step.
package pause

import (
	"context"
	"math/rand/v2"
	"time"
)

// Around returns d give or take a tenth.
func Around(d time.Duration) time.Duration { return d - d/10 + rand.N(d/5+1) }

// UpTo returns a wait of at most d.
func UpTo(d time.Duration) time.Duration { return rand.N(d + 1) }

// NearlyUpTo returns a wait of at least half of d and at most d.
func NearlyUpTo(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// Doubled returns first, doubled n times, and at most limit.
func Doubled(first time.Duration, n int, limit time.Duration) time.Duration {
	if first <= limit>>n { // first<<n may overflow
		return first << n
	}
	return limit
}

// Sleep waits for d or for the end of ctx.
func Sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
