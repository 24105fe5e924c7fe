package share

import (
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Listener has at most so many open connections at a time. One more closes another: of the source that has the most, the one that
// was opened first among those that have not had an answer yet; if all have, the one whose last answer is the longest ago. So
// idle and slow connections make room, and a new one always has its chance.
type Listener struct {
	net.Listener
	most int

	mu      sync.Mutex
	open    map[*conn]struct{}
	sources map[string]int // how many of open
}

// Limit limits the open connections of a listener. The HTTP server that uses it has Listener.Track as its ConnState.
func Limit(l net.Listener, most int) *Listener {
	return &Listener{Listener: l, most: most, open: map[*conn]struct{}{}, sources: map[string]int{}}
}

type conn struct {
	net.Conn
	listener *Listener
	source   string
	since    time.Time // when it was opened or had its last answer
	answered bool
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, listener: l, source: Source(accepted.RemoteAddr().String()), since: time.Now()}
	l.mu.Lock()
	var closed *conn
	if len(l.open) >= l.most {
		closed = l.leastUseful()
		l.forget(closed)
	}
	l.open[c] = struct{}{}
	l.sources[c.source]++
	l.mu.Unlock()
	if closed != nil {
		closed.Conn.Close()
	}
	return c, nil
}

func (l *Listener) leastUseful() *conn {
	most, source := 0, ""
	for s, n := range l.sources {
		if n > most || n == most && s < source {
			most, source = n, s
		}
	}
	var least *conn
	for c := range l.open {
		if c.source == source && (least == nil || c.before(least)) {
			least = c
		}
	}
	return least
}

func (c *conn) before(other *conn) bool {
	if c.answered != other.answered {
		return other.answered
	}
	return c.since.Before(other.since)
}

func (l *Listener) forget(c *conn) {
	if _, open := l.open[c]; !open {
		return
	}
	delete(l.open, c)
	if l.sources[c.source]--; l.sources[c.source] == 0 {
		delete(l.sources, c.source)
	}
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.listener.mu.Lock()
	c.listener.forget(c)
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// Track is for http.Server.ConnState: a connection that becomes idle has had an answer.
func (l *Listener) Track(of net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	if t, secure := of.(*tls.Conn); secure {
		of = t.NetConn()
	}
	if c, ours := of.(*conn); ours {
		l.mu.Lock()
		c.answered, c.since = true, time.Now()
		l.mu.Unlock()
	}
}

// Source returns the IP address of a caller: the part of 10.1.2.3:4567 before the port.
func Source(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	return host
}
