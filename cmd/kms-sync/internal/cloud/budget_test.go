package cloud

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestFairness: whatever one namespace asks for, another one's call waits for little more than a round.
func TestFairness(t *testing.T) {
	const flood = 1800 // calls, each of a goroutine: the race detector fails with many more
	for name, c := range map[string]struct{ flood, other Priority }{
		"many that are due":            {Due, Due},
		"many that are new":            {First, Due},
		"a new one, many that are due": {Due, First},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBudget(60, 60, func(time.Duration) {})
				var all sync.WaitGroup
				ask := func(key any, namespace string, p Priority) time.Duration {
					begun := time.Now()
					for wait := b.take(key, namespace, p); wait > 0; wait = b.take(key, namespace, p) {
						time.Sleep(wait + rand.N(20*time.Millisecond))
					}
					return time.Since(begun)
				}
				var slowest time.Duration
				var mu sync.Mutex
				for i := range flood {
					all.Go(func() {
						d := ask(i, "flood", c.flood)
						mu.Lock()
						defer mu.Unlock()
						slowest = max(slowest, d)
					})
				}
				time.Sleep(5 * time.Second)
				for i := range 5 {
					if d := ask(fmt.Sprint("other ", i), "other", c.other); d > 3*time.Second {
						t.Errorf("the call of another namespace waited for %s", d)
					}
				}
				all.Wait()
				if want := flood / 60 * time.Second; slowest > want*11/10 || slowest < want*9/10 {
					t.Errorf("%d calls took %s, want %s", flood, slowest, want)
				}
			})
		})
	}
}
