// Package share serves callers that it does not know, and divides connections, memory and look-ups among them. Each source (an
// IP address) has a share of its own, so that a greedy caller locks out no caller at another address. At a limit, callers wait before
// they are refused.
package share

import (
	"context"
	"errors"
	"slices"
	"sync"
)

// ErrBusy is the end of a wait for bytes or look-ups that others have.
var ErrBusy = errors.New("too many requests at the same time; try again")

// Bytes is a limit on the bytes of requests that are in memory at the same time. One source has at most half of it. One request at
// a time may go over the limit: else requests of which each has a part, and each waits for more, would wait for one another. It is
// the one whose source has the fewest bytes, and has little time.
type Bytes struct {
	limit int

	mu      sync.Mutex
	used    int
	sources map[string]int
	waiting []*waiter // the first came first
	over    *Lease
}

// NewBytes returns a limit of so many bytes.
func NewBytes(limit int) *Bytes {
	return &Bytes{limit: limit, sources: map[string]int{}}
}

// A Lease is what one request has. It is for one goroutine.
type Lease struct {
	bytes  *Bytes
	source string
	held   int
}

type waiter struct {
	lease   *Lease
	n       int
	granted chan struct{}
}

// Lease begins with no bytes.
func (b *Bytes) Lease(source string) *Lease { return &Lease{bytes: b, source: source} }

// Take waits for n more bytes until ctx ends; then the error is ErrBusy. With hurry the request is the one that may go over the
// limit.
func (l *Lease) Take(ctx context.Context, n int) (hurry bool, err error) {
	b := l.bytes
	b.mu.Lock()
	if b.fits(l, n) {
		b.grant(l, n)
		hurry = b.over == l
		b.mu.Unlock()
		return hurry, nil
	}
	w := &waiter{lease: l, n: n, granted: make(chan struct{})}
	b.waiting = append(b.waiting, w)
	b.next()
	b.mu.Unlock()
	select {
	case <-w.granted:
	case <-ctx.Done():
		b.mu.Lock()
		defer b.mu.Unlock()
		if i := slices.Index(b.waiting, w); i >= 0 {
			b.waiting = slices.Delete(b.waiting, i, i+1)
			return false, ErrBusy
		}
		return b.over == l, nil // it was granted at the same moment
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.over == l, nil
}

// Release gives everything back.
func (l *Lease) Release() {
	if l.held == 0 {
		return
	}
	b := l.bytes
	b.mu.Lock()
	defer b.mu.Unlock()
	b.used -= l.held
	if b.sources[l.source] -= l.held; b.sources[l.source] == 0 {
		delete(b.sources, l.source)
	}
	l.held = 0
	if b.over == l {
		b.over = nil
	}
	b.next()
}

func (b *Bytes) fits(l *Lease, n int) bool {
	return b.over == l || b.used+n <= b.limit && b.sources[l.source]+n <= b.limit/2
}

func (b *Bytes) grant(l *Lease, n int) {
	b.used += n
	b.sources[l.source] += n
	l.held += n
}

// next grants the waiting requests that fit now.
func (b *Bytes) next() {
	b.waiting = slices.DeleteFunc(b.waiting, func(w *waiter) bool {
		if !b.fits(w.lease, w.n) {
			return false
		}
		b.grant(w.lease, w.n)
		close(w.granted)
		return true
	})
	if b.over != nil || len(b.waiting) == 0 {
		return
	}
	w := slices.MinFunc(b.waiting, func(x, y *waiter) int { return b.sources[x.lease.source] - b.sources[y.lease.source] })
	b.over = w.lease
	b.next()
}
