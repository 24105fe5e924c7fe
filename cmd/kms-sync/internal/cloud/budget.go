package cloud

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
)

const (
	// mostWaiting are remembered in a budget; a call that comes then is not, and is tried again later.
	mostWaiting = 20000
	// soon and late are how long before and after its time a waiter precedes one that is there.
	soon = time.Second
	late = 5 * time.Second
	// gone is how long after its time a waiter still finds its place.
	gone = time.Minute
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
	queue   []*waiter     // in order
	last    map[share]int // the round of the last one of each share
	round   int           // of the one that went last
	arrived uint64
	swept   time.Time
}

// share is what takes turns.
type share struct {
	namespace string
	priority  Priority
}

type waiter struct {
	share
	key         any
	round, rank int // the rank is the round, or earlier for an urgent one
	order       uint64
	since, back time.Time // when it comes back
}

func compare(a, b *waiter) int {
	return cmp.Or(cmp.Compare(a.rank, b.rank), cmp.Compare(a.order, b.order))
}

func newBudget(limit rate.Limit, burst int, waited func(time.Duration)) *budget {
	return &budget{limiter: rate.NewLimiter(limit, burst), waited: waited, waiting: map[any]*waiter{}, last: map[share]int{}}
}

// take returns 0 if the call may be made now, else after which time to ask again. Equal keys wait as one.
func (b *budget) take(key any, namespace string, p Priority) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	b.sweep(now)
	w, since := b.waiting[key], now
	if w != nil && p > w.priority {
		since = w.since
		b.leave(w)
		w = nil
	}
	if w == nil {
		w = b.turn(key, share{namespace, p}, since)
	}
	before, _ := slices.BinarySearchFunc(b.queue, w, compare)
	tokens := b.limiter.TokensAt(now)
	present := 1.0
	for i := 0; i < before && present <= tokens; i++ {
		if away := b.queue[i].back.Sub(now); -late <= away && away <= soon {
			present++
		}
	}
	if present <= tokens && b.limiter.AllowN(now, 1) {
		b.round = max(b.round, w.round)
		b.waited(now.Sub(w.since))
		b.leave(w)
		return 0
	}
	wait := max(time.Duration((float64(before)+1-tokens)/float64(b.limiter.Limit())*float64(time.Second)), time.Millisecond)
	wait += pause.UpTo(min(wait/20, soon))
	w.back = now.Add(wait)
	if b.waiting[key] == nil && len(b.queue) < mostWaiting {
		b.waiting[key] = w
		b.queue = slices.Insert(b.queue, before, w)
	}
	return wait
}

// turn is called with mu held. A share's next round is after its last, and not before the present one.
func (b *budget) turn(key any, s share, since time.Time) *waiter {
	w := &waiter{share: s, key: key, round: b.round, since: since, order: b.arrived}
	if last, ok := b.last[s]; ok {
		w.round = max(b.round, last+1)
	}
	w.rank = w.round - s.priority.ahead()
	b.arrived++
	b.last[s] = w.round
	return w
}

// leave is called with mu held.
func (b *budget) leave(w *waiter) {
	delete(b.waiting, w.key)
	if i, ok := slices.BinarySearchFunc(b.queue, w, compare); ok {
		b.queue = slices.Delete(b.queue, i, i+1)
	}
	if len(b.queue) == 0 {
		clear(b.last)
		b.round = 0
	}
}

// sweep is called with mu held. It forgets those that have not come back.
func (b *budget) sweep(now time.Time) {
	if now.Sub(b.swept) < late {
		return
	}
	b.swept = now
	b.queue = slices.DeleteFunc(b.queue, func(w *waiter) bool {
		forget := now.Sub(w.back) > gone
		if forget {
			delete(b.waiting, w.key)
		}
		return forget
	})
}

// debit counts a call that is made without a turn.
func (b *budget) debit() { b.limiter.Reserve() }
