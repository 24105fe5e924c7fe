package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"math"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	crwebhook "sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// Limits on what unauthenticated callers, that is every pod on the network, may use of the process: shares of its memory, GOMEMLIMIT. A
// connection with a short review takes a tenth of a megabyte, and a long review about five times its length during the decision.
const (
	memoryUnset         = 256 << 20 // for want of GOMEMLIMIT: the chart's default
	memoryPerConnection = 512 << 10
	memoryPerByte       = 16 // of long reviews
	plainConnections    = 64 // of /metrics, and of /healthz and /readyz
	maxHeader           = 16 << 10
)

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

// admissionServer answers at the paths of this package.
func admissionServer(o Options, a *admission, m *webhookMetrics, draining *atomic.Bool) (*http.Server, error) {
	secure := &tls.Config{
		GetCertificate:              o.Certificate.GetCertificate,
		MinVersion:                  tls.VersionTLS12,
		DynamicRecordSizingDisabled: true, // the API server reads an answer whole: small records at first are only more system calls
	}
	if o.ClientCA != "" {
		authorities := &clientCA{file: o.ClientCA, base: secure, log: o.Log}
		if err := authorities.load(); err != nil {
			return nil, err
		}
		secure = &tls.Config{GetConfigForClient: authorities.config, MinVersion: tls.VersionTLS12}
	}
	uncounted := func(review.Verdict, time.Duration) {}
	long := share.NewBytes(int(memory() / memoryPerByte))
	mux := http.NewServeMux()
	mux.Handle(MutatePath, &review.Handler[injector.Pod]{
		Decide: a.mutatePod, Observe: m.pod, MaxBody: review.OneObject, Bytes: long, Log: o.Log, Draining: draining,
	})
	counted := crwebhook.NewServer(crwebhook.Options{WebhookMux: mux}) // for its metrics of each path; it has no limits to set
	counted.Register(ValidatePath, &review.Handler[workload]{
		Decide: a.validateWorkload, Observe: uncounted, MaxBody: review.TwoObjects, Bytes: long, Advisory: true, Log: o.Log, Draining: draining,
	})
	counted.Register(BarePodsPath, &review.Handler[injector.Pod]{
		Decide: a.validateBarePod, Observe: uncounted, MaxBody: review.OneObject, Bytes: long, Advisory: true, Log: o.Log, Draining: draining,
	})
	counted.Register(ConfigPath, &review.Handler[configMap]{
		Decide: a.validateConfiguration, Observe: uncounted, MaxBody: review.TwoObjects, Bytes: long, Advisory: true, Log: o.Log,
		Draining: draining,
	})
	server := limited(mux, o.Log)
	server.TLSConfig = secure
	return server, nil
}

// limited returns a server that waits for no client for long. It speaks HTTP/1.1, by which the API server calls webhooks: a connection of
// HTTP/2 would be hundreds of requests at a time.
func limited(handler http.Handler, log logr.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &http.Server{
		Handler: handler, Protocols: protocols, ReadTimeout: review.Patience, WriteTimeout: answerTime, IdleTimeout: idleTime,
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

// serveAdmission serves until ctx ends, and then finishes what it is answering.
func serveAdmission(ctx context.Context, server *http.Server, listener net.Listener) error {
	finished := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(finished)
		atMost, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		_ = server.Shutdown(atMost)
	})
	connections := share.Limit(listener, max(plainConnections, int(memory()/memoryPerConnection)))
	server.ConnState = connections.Track
	if err := server.ServeTLS(connections, "", ""); !errors.Is(err, http.ErrServerClosed) {
		stop()
		return fmt.Errorf("serve admission on %s: %w", listener.Addr(), err)
	}
	<-finished
	return nil
}

// serve serves plain HTTP until ctx ends.
func serve(ctx context.Context, listener net.Listener, handler http.Handler, log logr.Logger) error {
	server := limited(handler, log)
	server.BaseContext = func(net.Listener) context.Context { return ctx }
	connections := share.Limit(listener, plainConnections)
	server.ConnState = connections.Track
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.Serve(connections); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	}
	return nil
}

// clientCA asks clients for a certificate that an authority of a file has signed.
type clientCA struct {
	file string
	base *tls.Config // without it
	log  logr.Logger

	mu       sync.Mutex
	read     []byte
	current  *tls.Config // for what was read
	reported string
}

// load makes current of what the file says now.
func (c *clientCA) load() error {
	read, err := os.ReadFile(c.file)
	if err != nil {
		return fmt.Errorf("read the authorities of clients: %w", err)
	}
	if c.current != nil && bytes.Equal(read, c.read) {
		return nil
	}
	authorities := x509.NewCertPool()
	if !authorities.AppendCertsFromPEM(read) {
		return fmt.Errorf("read the authorities of clients: %s has no certificate in PEM", c.file)
	}
	current := c.base.Clone()
	current.NextProtos = []string{"http/1.1"}
	current.ClientAuth = tls.RequireAndVerifyClientCert
	current.ClientCAs = authorities
	current.SessionTicketsDisabled = true // a session would outlive its authority
	c.read, c.current = read, current
	return nil
}

// config is for tls.Config.GetConfigForClient. The file is small beside a handshake's work, so that it is read for each. While it
// cannot be read, or has no certificate, what it said last stays.
func (c *clientCA) config(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	reason := ""
	if err := c.load(); err != nil {
		reason = err.Error()
	}
	if reason != "" && reason != c.reported {
		c.log.Info("The authorities of clients stay as they were", "reason", reason)
	}
	c.reported = reason
	return c.current, nil
}
