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
		DisableGeneralOptionsHandler: true, // OPTIONS * needs the token, too
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
// token. So at most MaxConn connections are served that have sent the token, and where there are mostStanding more, a new one takes
// the place of the oldest that has not sent it.
type limited struct {
	net.Listener
	most    int
	closing <-chan struct{} // closed when the server ends

	mu        sync.Mutex
	trusted   int           // connections that have sent the token, at most most
	strangers []*connection // the others, oldest first
}

// connection is one that a limited listener has accepted.
type connection struct {
	net.Conn
	server  *limited
	trusted bool // guarded by mu
}

type connectionKey struct{}

// connectionOf returns the connection of a request. Without Serve it is one that nothing limits.
func connectionOf(r *http.Request) *connection {
	if c, ok := r.Context().Value(connectionKey{}).(*connection); ok {
		return c
	}
	return &connection{server: &limited{most: 1}}
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	accepted, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &connection{Conn: accepted, server: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.trusted+len(l.strangers) == l.most+mostStanding {
		l.strangers[0].Conn.Close()
		l.strangers = l.strangers[1:]
	}
	l.strangers = append(l.strangers, c)
	return c, nil
}

// over reports whether as many others have sent the token as are served.
func (c *connection) over() bool {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return !c.trusted && c.server.trusted == c.server.most
}

// trust keeps the connection, which has sent the token, from making room for others.
func (c *connection) trust() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.server.trusted < c.server.most && c.forget() {
		c.trusted = true
		c.server.trusted++
	}
}

// forget is called with mu held. It reports whether the connection was a stranger's.
func (c *connection) forget() bool {
	i := slices.Index(c.server.strangers, c)
	if i >= 0 {
		c.server.strangers = slices.Delete(c.server.strangers, i, i+1)
	}
	return i >= 0
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.server.mu.Lock()
	if c.forget(); c.trusted {
		c.trusted = false
		c.server.trusted--
	}
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
