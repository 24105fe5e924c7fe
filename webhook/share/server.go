package share

import (
	"context"
	"errors"
	"fmt"
	"log"
	"math"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/go-logr/logr"
)

// Limits on what unauthenticated callers, that is every pod on the network, may use of the process: shares of its memory, GOMEMLIMIT. A
// connection with a short review takes a tenth of a megabyte, and a long review about five times its length during the decision.
const (
	memoryUnset         = 256 << 20 // for want of GOMEMLIMIT: the webhook's default in the chart
	memoryPerConnection = 512 << 10
	memoryPerByte       = 16 // of long requests
	plainConnections    = 64 // of /metrics, and of /healthz and /readyz
	maxHeader           = 16 << 10
)

// Patience is the time for a request, as long as the API server waits for its answer at the most.
const Patience = 5 * time.Second

// answerTime is how long writing an answer may take, with the decision; idleTime is longer than the API server keeps a connection.
const (
	answerTime = 10 * time.Second
	idleTime   = 2 * time.Minute
)

func memory() int64 {
	if limit := debug.SetMemoryLimit(-1); limit != math.MaxInt64 {
		return limit
	}
	return memoryUnset
}

// LongRequests returns the limit on the bytes of long requests that suits the process's memory.
func LongRequests() *Bytes { return NewBytes(int(memory() / memoryPerByte)) }

// NewServer returns a server that waits for no client for long. It speaks HTTP/1.1, by which the API server calls webhooks: a connection
// of HTTP/2 would be hundreds of requests at a time.
func NewServer(handler http.Handler, log logr.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: handler, Protocols: protocols, ReadTimeout: Patience, WriteTimeout: answerTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: errorLog(log),
	}
}

// errorLog is for what net/http says of connections, such as clients that do not trust the certificate. The logger drops most of
// many equal messages.
func errorLog(to logr.Logger) *log.Logger { return log.New(lines{to}, "", 0) }

type lines struct{ logr.Logger }

func (l lines) Write(line []byte) (int, error) {
	l.Info("A connection failed", "reason", strings.TrimSpace(string(line)))
	return len(line), nil
}

// ServeTLS serves by the server's TLSConfig until ctx ends, and then finishes what it is answering.
func ServeTLS(ctx context.Context, server *http.Server, listener net.Listener) error {
	finished := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(finished)
		atMost, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_ = server.Shutdown(atMost)
	})
	connections := Limit(listener, max(plainConnections, int(memory()/memoryPerConnection)))
	server.ConnState = connections.Track
	if err := server.ServeTLS(connections, "", ""); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve admission on %s: %w", listener.Addr(), err)
	}
	<-finished
	return nil
}

// Serve serves plain HTTP until ctx ends.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler, log logr.Logger) error {
	server := NewServer(handler, log)
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	connections := Limit(listener, plainConnections)
	server.ConnState = connections.Track
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(connections); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}
