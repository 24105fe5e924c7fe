package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

const (
	// answerLimit is how long a request may take, reading and writing included: longer than STS and KMS together.
	answerLimit = 60 * time.Second
	// closingLimit is how long Serve waits for open requests when it ends. The kubelet gives a pod 30 seconds by default.
	closingLimit = 5 * time.Second
	// headerLimit is how long a request's header may take, and a connection's first byte.
	headerLimit = 2 * time.Second
	// maxHeader in bytes: a token, an ARN, and what clients add of their own. net/http allows 4 kB more.
	maxHeader = 4 << 10
)

// Serve answers on the listener, which it closes, until ctx ends, which is no error. Requests that are being answered then
// have five seconds; watches end at once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerLimit,
		ReadTimeout:       answerLimit,
		WriteTimeout:      answerLimit,
		IdleTimeout:       answerLimit,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelError),
		ConnContext: func(inner context.Context, c net.Conn) context.Context {
			return context.WithValue(inner, connectionKey{}, c)
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(&limited{Listener: listener, most: s.cfg.MaxConn, closing: ctx.Done()}) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closingLimit)
	defer cancel()
	if err := server.Shutdown(closing); err != nil {
		server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// mostStanding is how many connections over MaxConn there are at a time. They get 429, and an answer to /ping: an agent that is
// busy is not unhealthy.
const mostStanding = 16

// limited is a listener that bounds the connections of a server. Every container of the pod can connect, also one without the
// token. So when MaxConn connections are open, a new one takes the place of the oldest that has not sent the token yet. Only where
// all have sent it is the new one over MaxConn.
type limited struct {
	net.Listener
	most    int
	closing <-chan struct{} // closed when the server ends

	mu        sync.Mutex
	open      int           // connections within most
	strangers []*connection // those within most that have not sent the token, oldest first
	standing  []*connection // those over most, oldest first
}

// connection is one that a limited listener has accepted.
type connection struct {
	net.Conn
	server *limited
	over   bool // over MaxConn
	left   bool // guarded by mu
}

type connectionKey struct{}

// connectionOf returns the connection of a request. Without Serve it is one that nothing limits.
func connectionOf(r *http.Request) *connection {
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		return c
	}
	return &connection{server: &limited{}}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: accepted, server: l}
	if oldest := l.enter(c); oldest != nil {
		oldest.Conn.Close()
	}
	return c, nil
}

// enter counts a connection, and returns the one that it takes the place of, if any.
func (l *limited) enter(c *connection) (oldest *connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.open < l.most:
	case len(l.strangers) > 0:
		oldest = l.strangers[0]
	case len(l.standing) == mostStanding:
		oldest = l.standing[0]
	}
	if oldest != nil {
		oldest.leave()
	}
	if c.over = l.open >= l.most; c.over {
		l.standing = append(l.standing, c)
	} else {
		l.strangers = append(l.strangers, c)
		l.open++
	}
	return oldest
}

// trust keeps the connection, which has sent the token, from making room for others.
func (c *connection) trust() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.unlist()
}

// leave is called with mu held.
func (c *connection) leave() {
	if c.left {
		return
	}
	c.left = true
	c.unlist()
	if !c.over {
		c.server.open--
	}
}

// unlist is called with mu held.
func (c *connection) unlist() {
	itself := func(other *connection) bool { return other == c }
	c.server.strangers = slices.DeleteFunc(c.server.strangers, itself)
	c.server.standing = slices.DeleteFunc(c.server.standing, itself)
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.server.mu.Lock()
	c.leave()
	c.server.mu.Unlock()
	return c.Conn.Close()
}

// net/http calls CloseWrite before Close, so that a client that still sends can read the answer.
func (c *connection) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
