package httpapi

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

const (
	// answerLimit is how long a request may take, reading and writing included: longer than STS and KMS together.
	answerLimit = 60 * time.Second
	// closingLimit is how long Serve waits for open requests when it ends. The kubelet gives a pod 30 seconds by default.
	closingLimit = 5 * time.Second
	// maxHeader in bytes: a token, an ARN, and what clients add of their own.
	maxHeader = 16 << 10
)

// connection is what a request knows of the connection that it came by. Without Serve it is zero.
type connection struct {
	number  int64           // of the open ones, counted from 1
	closing <-chan struct{} // closed when the server ends
}

type connectionKey struct{}

func connectionOf(r *http.Request) connection {
	c, _ := r.Context().Value(connectionKey{}).(connection)
	return c
}

// Serve answers on the listener, which it closes, until ctx ends, which is no error. Requests that are being answered then
// have five seconds; watches end at once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       answerLimit,
		WriteTimeout:      answerLimit,
		IdleTimeout:       answerLimit,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelError),
		ConnContext: func(inner context.Context, _ net.Conn) context.Context {
			return context.WithValue(inner, connectionKey{}, connection{s.connected.Add(1), ctx.Done()})
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				s.connected.Add(-1)
			}
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
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
