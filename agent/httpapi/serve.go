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
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelError),
		ConnContext: func(inner context.Context, c net.Conn) context.Context {
			return context.WithValue(inner, connectionKey{}, c)
		},
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(&limited{Listener: listener, most: s.maxConn, closing: ctx.Done()}) }()
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
