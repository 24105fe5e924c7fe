package atrest

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// The intervals of the line that a terminal shows in place, and of plain lines.
const (
	everyRewritten = 100 * time.Millisecond
	everyPlain     = 10 * time.Second
)

// A progress shows a bar on a terminal, and a line every ten seconds elsewhere.
type progress struct {
	Cluster
	what   string
	before int // done by an earlier run
	total  int

	mu          sync.Mutex
	began, last time.Time
}

func (c Cluster) progress(what string, before, total int) *progress {
	now := time.Now()
	return &progress{Cluster: c, what: what, before: before, total: total, began: now, last: now}
}

// show shows how many are done, at most once per interval.
func (p *progress) show(done int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	every := everyPlain
	if p.Aside.Rewrites() {
		every = everyRewritten
	}
	if time.Since(p.last) < every {
		return
	}
	p.last = time.Now()
	const width = 30
	filled := 0
	if p.total > 0 {
		filled = width * (p.before + done) / p.total
	}
	line := fmt.Sprintf("%s of %s %s, %.0f a second", thousands(p.before+done), thousands(p.total), p.what,
		float64(done)/time.Since(p.began).Seconds())
	if !p.Aside.Rewrites() {
		p.Aside.Printf("%s\n", line)
		return
	}
	p.Aside.Rewrite("[" + strings.Repeat("#", filled) + strings.Repeat(".", width-filled) + "] " + line)
}

// end removes the bar.
func (p *progress) end() {
	if p.Aside.Rewrites() {
		p.Aside.Rewrite("")
	}
}

// thousands writes a number as people read it.
func thousands(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
