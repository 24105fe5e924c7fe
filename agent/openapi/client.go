// Package openapi sends requests to Alibaba Cloud and reads the answers.
//
// A Client is an HTTP client with the certificates of the moment, time limits and bounded answers. Call has the official SDK
// build and sign a request of any action of any service; Send carries out a request of another protocol.
package openapi

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxAnswer bounds an answer in bytes. A value has at most 30,720, and JSON makes at most six of one.
const maxAnswer = 1 << 20

// Settings say how a Client connects.
type Settings struct {
	Roots  *x509.CertPool // what the host may be certified by; nil: the system's
	CAFile string         // a PEM file with more of them, read again when it changes; optional
	CALate bool           // says that CAFile may come, or become right, later

	ConnectTimeout time.Duration // 0: 3s
	Timeout        time.Duration // of a whole request; 0: 10s
	HTTP1          bool          // do not offer HTTP/2
}

// An Answer is an HTTP response, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// A Refusal is the error document of an answer other than 200; empty if the body is none.
type Refusal struct{ Code, Message, RequestID string }

// Safe returns the refusal with a message that repeats no secret of the request, and is short: it ends up in a termination message of
// limited size.
func (r Refusal) Safe(secrets ...string) Refusal {
	const most = 400                           // bytes
	if strings.Contains(r.Code, "Signature") { // the gateway quotes what it hashed, session token and all, in more than one encoding
		r.Message = "(a message that quotes the request is not shown)"
	}
	for _, secret := range secrets {
		if secret != "" {
			r.Message = strings.ReplaceAll(r.Message, secret, "[hidden]")
		}
	}
	if len(r.Message) > most {
		r.Message = fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(r.Message[:most], ""), len(r.Message))
	}
	return r
}

// Refusal reads the answer's error document.
func (a Answer) Refusal() (r Refusal) {
	if json.Unmarshal(a.Body, &r) != nil {
		return Refusal{}
	}
	return r
}

// BodyError reports an answer that ended early or is too long.
type BodyError struct {
	Status int // of the answer
	Err    error
}

func (e *BodyError) Error() string { return e.Err.Error() }

func (e *BodyError) Unwrap() error { return e.Err }

// CAError reports a host that is not trusted while CAFile cannot be used.
type CAError struct {
	CA  error // why CAFile cannot be used
	Err error
}

func (e *CAError) Error() string { return fmt.Sprintf("%v (%v)", e.Err, e.CA) }

func (e *CAError) Unwrap() error { return e.Err }

// SilenceError reports a host that took a request, and did not answer in time.
type SilenceError struct {
	Host  string
	Limit time.Duration
}

func (e *SilenceError) Error() string {
	return fmt.Sprintf("%s took the request and did not answer for %s", e.Host, e.Limit)
}

// Unwrap makes it a time-out.
func (e *SilenceError) Unwrap() error { return context.DeadlineExceeded }

// Client sends requests. It is safe for concurrent use.
type Client struct {
	settings Settings

	mu          sync.Mutex
	ca          []byte // what CAFile held
	caWrong     error  // why it could not be used last
	roots       *x509.CertPool
	certificate *tls.Certificate
	http        *http.Client // of roots and certificate
}

// New returns a Client, once CAFile has been read.
func New(s Settings) (*Client, error) {
	s.ConnectTimeout, s.Timeout = cmp.Or(s.ConnectTimeout, 3*time.Second), cmp.Or(s.Timeout, 10*time.Second)
	c := &Client{settings: s, roots: s.Roots}
	if s.CAFile != "" {
		if c.caWrong = c.readCA(); c.caWrong != nil && !s.CALate {
			return nil, c.caWrong
		}
	}
	c.http = c.newHTTP()
	return c, nil
}

// newHTTP returns a client with connections of its own: those of the client before were made by what that one trusted.
func (c *Client) newHTTP() *http.Client {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.roots}
	if c.certificate != nil {
		config.Certificates = []tls.Certificate{*c.certificate}
	}
	return &http.Client{
		Timeout: c.settings.Timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: c.settings.ConnectTimeout}).DialContext,
			TLSClientConfig:     config,
			TLSHandshakeTimeout: c.settings.ConnectTimeout,
			ForceAttemptHTTP2:   !c.settings.HTTP1,
			IdleConnTimeout:     10 * time.Second, // the calls of one refresh share a connection, two refreshes do not
		},
		// A redirect would carry the session token along.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// readCA adds CAFile's certificates to the roots, if the file has changed.
func (c *Client) readCA() error {
	text, err := os.ReadFile(c.settings.CAFile)
	if err != nil {
		return fmt.Errorf("read the CA: %w", err)
	}
	if c.ca != nil && bytes.Equal(text, c.ca) {
		return nil
	}
	pool, err := WithRoots(c.settings.Roots, text)
	if err != nil {
		return fmt.Errorf("read the CA: %w in %s", err, c.settings.CAFile)
	}
	c.ca, c.roots = text, pool
	return nil
}

// WithRoots returns a pool of authorities, nil for the system's, and those of a PEM bundle.
func WithRoots(pool *x509.CertPool, bundle []byte) (*x509.CertPool, error) {
	if pool != nil {
		pool = pool.Clone()
	} else if system, err := x509.SystemCertPool(); err == nil {
		pool = system
	} else {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(bundle) {
		return nil, errors.New("there is no PEM certificate")
	}
	return pool, nil
}

// current returns the client for the next request. While CAFile cannot be used, for example because it is half written, its
// previous content stays in force, and the error says why.
func (c *Client) current() (*http.Client, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.roots; c.settings.CAFile != "" {
		if c.caWrong = c.readCA(); c.roots != before {
			c.replace()
		}
	}
	return c.http, c.caWrong
}

// Present sets the certificate that is shown to the host from now on.
func (c *Client) Present(certificate *tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certificate = certificate
	c.replace()
}

// replace is called with mu held. Requests under way end with the client that they began with.
func (c *Client) replace() {
	c.http.CloseIdleConnections()
	c.http = c.newHTTP()
}

// CloseIdleConnections closes the connections that no request uses.
func (c *Client) CloseIdleConnections() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.http.CloseIdleConnections()
}

// Send carries out a request. Its error is a *BodyError if there was an answer; no error repeats the URL.
func (c *Client) Send(req *http.Request) (Answer, error) {
	client, wrongCA := c.current()
	var sent atomic.Bool // on the connection that the request ended on: a time-out before is one of the connection, or of its TLS handshake
	trace := &httptrace.ClientTrace{
		GetConn:      func(string) { sent.Store(false) },
		WroteRequest: func(info httptrace.WroteRequestInfo) { sent.Store(info.Err == nil) },
	}
	res, err := client.Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	if err != nil {
		// A connection that died silently would fail the next attempts too: over HTTP/2 a time-out leaves it open.
		client.CloseIdleConnections()
		if wrapped, ok := errors.AsType[*url.Error](err); ok {
			err = wrapped.Err
		}
		network, _ := errors.AsType[net.Error](err)
		_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
		switch {
		case wrongCA != nil && untrusted:
			err = &CAError{wrongCA, err}
		case network != nil && network.Timeout() && sent.Load() && req.Context().Err() == nil:
			err = &SilenceError{req.URL.Host, c.settings.Timeout}
		}
		return Answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return Answer{}, &BodyError{res.StatusCode, fmt.Errorf("read the answer: %w", err)}
	case len(body) > maxAnswer:
		return Answer{}, &BodyError{res.StatusCode, fmt.Errorf("the answer has more than %d bytes", maxAnswer)}
	}
	return Answer{res.StatusCode, res.Header, body}, nil
}
