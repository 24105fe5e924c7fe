package share

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"net"
	"net/http"
	"sync"
	"time"
)

// answerBuffer is more than most answers have, in bytes.
const answerBuffer = 8 << 10

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

	writing sync.Mutex
	out     *bufio.Writer
}

// Write implements net.Conn. What is written leaves when the server reads on or ends the connection: net/http writes an answer in pieces
// of 4 kB, each of which would be a system call and wake the client.
func (c *conn) Write(p []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.out.Write(p)
}

func (c *conn) flush() error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.out.Flush()
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if err := c.flush(); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

// SetWriteDeadline implements net.Conn. What was written before is not subject to it: crypto/tls ends a connection with one that has
// passed.
func (c *conn) SetWriteDeadline(t time.Time) error {
	return cmp.Or(c.flush(), c.Conn.SetWriteDeadline(t))
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: accepted, listener: l, source: Source(accepted.RemoteAddr().String()), since: time.Now(),
		out: bufio.NewWriterSize(accepted, answerBuffer)}
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

// CloseWrite is for net/http, which ends the connection of a refusal so, and closes it half a second later.
func (c *conn) CloseWrite() error {
	err := c.flush()
	if tcp, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		err = cmp.Or(err, tcp.CloseWrite())
	}
	return err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	c.listener.mu.Lock()
	c.listener.forget(c)
	c.listener.mu.Unlock()
	if c.writing.TryLock() { // else a write is under way, which this ends
		c.out.Flush() //nolint:errcheck // it is said when something is written, if ever
		c.writing.Unlock()
	}
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
