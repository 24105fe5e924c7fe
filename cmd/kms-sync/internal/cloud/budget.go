package cloud

import (
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
)

const (
	// mostWaiting are remembered in a budget; whoever comes then is not, and comes back later.
	mostWaiting = 20000
	// late is how long after its time a waiter keeps its turn.
	late = 5 * time.Second
	// soon is when a waiter that is not there yet still precedes one that is.
	soon = time.Second
)

// A Priority says how urgent a call is. Up to ten calls of a namespace that are more urgent go before those of all namespaces that
// are less; beyond that, its turn comes as others' do, so that a flood of new objects of one namespace delays no other for long.
type Priority int

// The priorities.
const (
	Due     Priority = iota // the interval is over
	Changed                 // the object or its store has changed
	First                   // the object was never synchronized
)

// ahead is by how many rounds a call is earlier.
func (p Priority) ahead() int { return 5 * int(p) }

// A budget bounds the calls to one service. One that cannot be made now is told when to come back, and waits in a queue meanwhile,
// in which the namespaces take turns. It has no goroutine, and is safe for concurrent use.
type budget struct {
	limiter *rate.Limiter
	waited  func(time.Duration) // called with the time that a call waited

	mu      sync.Mutex
	waiting map[any]*waiter
	last    map[share]int // the round of the last one of each share
	round   int           // of the one that went last
	arrived uint64
}

// share is what takes turns.
type share struct {
	namespace string
	priority  Priority
}

type waiter struct {
	share
	round, rank int // the rank is the round, or earlier for an urgent one
	order       uint64
	since, back time.Time // when it comes back
}

func newBudget(limit rate.Limit, burst int, waited func(time.Duration)) *budget {
	return &budget{limiter: rate.NewLimiter(limit, burst), waited: waited, waiting: map[any]*waiter{}, last: map[share]int{}}
}

// take returns 0 if the call may be made now, else after which time to ask again. Equal keys wait as one.
func (b *budget) take(key any, namespace string, p Priority) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	w := b.waiting[key]
	if w == nil || p > w.priority {
		since := now
		if w != nil {
			since = w.since
		}
		w = b.place(share{namespace, p}, since)
	}
	before, present := b.precede(w, now)
	tokens := b.limiter.TokensAt(now)
	if float64(present)+1 <= tokens && b.limiter.AllowN(now, 1) {
		b.round = max(b.round, w.round)
		b.waited(now.Sub(w.since))
		delete(b.waiting, key)
		if len(b.waiting) == 0 {
			clear(b.last)
			b.round = 0
		}
		return 0
	}
	wait := max(time.Duration((float64(before)+1-tokens)/float64(b.limiter.Limit())*float64(time.Second)), time.Millisecond)
	wait += pause.UpTo(wait / 20)
	if w.back = now.Add(wait); b.waiting[key] != nil || len(b.waiting) < mostWaiting {
		b.waiting[key] = w
	}
	return wait
}

// place is called with mu held. A share's next round is after its last, and not before the present one.
func (b *budget) place(s share, since time.Time) *waiter {
	w := &waiter{share: s, round: b.round, since: since, order: b.arrived}
	if last, ok := b.last[s]; ok {
		w.round = max(b.round, last+1)
	}
	w.rank = w.round - s.priority.ahead()
	b.arrived++
	b.last[s] = w.round
	return w
}

// precede is called with mu held. It counts the waiters before w, and those of them that are there now, and forgets those that have not
// come back.
func (b *budget) precede(w *waiter, now time.Time) (all, present int) {
	for key, other := range b.waiting {
		switch {
		case other == w:
		case now.Sub(other.back) > late:
			delete(b.waiting, key)
		case other.rank < w.rank || other.rank == w.rank && other.order < w.order:
			all++
			if other.back.Sub(now) <= soon {
				present++
			}
		}
	}
	return all, present
}

// debit counts a call that is made without a turn.
func (b *budget) debit() { b.limiter.Reserve() }
