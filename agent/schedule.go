package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// rotationGrace spreads the refreshes that a managed secret's rotation causes over this time after it.
const rotationGrace = 30 * time.Second

// next is when the values are due to be fetched again: after the interval, give or take a tenth so that pods that started
// together do not stay together, or soon after KMS rotates one of them, if that is earlier.
func (s snapshot) next(interval time.Duration) time.Time {
	due := s.at.Add(interval - interval/10 + rand.N(interval/5+1))
	for _, v := range s.values {
		rotation := v.secret.NextRotation
		if !rotation.After(s.at) {
			continue // has none, or KMS is late with it
		}
		if rotation = rotation.Add(rand.N(rotationGrace)); rotation.Before(due) {
			due = rotation
		}
	}
	return due
}

// backoff is the pause before the attempt after the n-th failure, counted from 0: anything up to first, doubled n times,
// at most limit. Full jitter is what spreads a fleet that an outage has brought into step.
func backoff(n int, first, limit time.Duration) time.Duration {
	longest := limit
	if n < 30 && first<<n < limit {
		longest = first << n
	}
	return rand.N(longest + 1)
}

// sleep waits for d or for the end of ctx.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
