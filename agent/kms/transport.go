package kms

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"
)

// maxAnswer bounds an answer in bytes. A value has at most 30,720, and JSON makes at most six of one.
const maxAnswer = 1 << 20

// caller carries requests out, with the certificates of the moment.
type caller struct {
	cfg       Config
	http2     bool
	readError func(body []byte) errorDocument

	mu          sync.Mutex
	ca          []byte // what CAFile held
	roots       *x509.CertPool
	certificate *tls.Certificate // to show to the gateway, if any
	client      *http.Client     // made of the two
}

// start fills the time limits in and reads CAFile, which must be good at first.
func (c *caller) start() error {
	if c.cfg.ConnectTimeout == 0 {
		c.cfg.ConnectTimeout = 3 * time.Second
	}
	if c.cfg.Timeout == 0 {
		c.cfg.Timeout = 10 * time.Second
	}
	c.roots = c.cfg.Roots
	if c.cfg.CAFile != "" {
		if err := c.readCA(); err != nil {
			return err
		}
	}
	c.client = c.newClient()
	return nil
}

// newClient has connections of its own: those of another were made by what that one trusted.
func (c *caller) newClient() *http.Client {
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: c.roots}
	if c.certificate != nil {
		config.Certificates = []tls.Certificate{*c.certificate}
	}
	return &http.Client{
		Timeout: c.cfg.Timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: c.cfg.ConnectTimeout}).DialContext,
			TLSClientConfig:     config,
			TLSHandshakeTimeout: c.cfg.ConnectTimeout,
			ForceAttemptHTTP2:   c.http2,
			IdleConnTimeout:     10 * time.Second, // the calls of one refresh share a connection, two refreshes do not
		},
		// A redirect would carry the session token along.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// readCA takes CAFile's certificates, if it has changed, besides the roots that were given.
func (c *caller) readCA() error {
	text, err := os.ReadFile(c.cfg.CAFile)
	if err != nil {
		return fmt.Errorf("read the CA of KMS: %w", err)
	}
	if bytes.Equal(text, c.ca) {
		return nil
	}
	var pool *x509.CertPool
	if c.cfg.Roots != nil {
		pool = c.cfg.Roots.Clone()
	} else if pool, err = x509.SystemCertPool(); err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(text) {
		return fmt.Errorf("read the CA of KMS: there is no PEM certificate in %s", c.cfg.CAFile)
	}
	c.ca, c.roots = text, pool
	return nil
}

// current is the client for the next call. A CAFile that cannot be used any more leaves in force what it held before:
// it may be half written.
func (c *caller) current() *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if before := c.roots; c.cfg.CAFile != "" && c.readCA() == nil && c.roots != before {
		c.replace()
	}
	return c.client
}

// present shows the certificate to the gateway from now on.
func (c *caller) present(certificate *tls.Certificate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.certificate = certificate
	c.replace()
}

// replace is for holders of mu. Calls on the way end with the client that they began with.
func (c *caller) replace() {
	c.client.CloseIdleConnections()
	c.client = c.newClient()
}

// rest closes the connections that nobody uses.
func (c *caller) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.client.CloseIdleConnections()
}

// Call returns the answers with status 200, read to their end, and makes an *Error of the others. The OpenAPI's SDK takes
// it through its interface dara.HttpClient.
func (c *caller) Call(req *http.Request, _ *http.Transport) (*http.Response, error) {
	client := c.current()
	res, err := client.Do(req)
	if err != nil {
		// A connection that died silently would fail the next attempts too: over HTTP/2 a time-out leaves it open.
		client.CloseIdleConnections()
		var wrapped *url.Error // repeats the URL
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, &Error{Status: res.StatusCode, Err: fmt.Errorf("read the answer: %w", err)}
	case len(body) > maxAnswer:
		return nil, &Error{Status: res.StatusCode, Err: fmt.Errorf("the answer has more than %d bytes", maxAnswer)}
	case res.StatusCode != http.StatusOK:
		refused := refusal(res.StatusCode, c.readError(body), sessionToken(req))
		refused.RetryAfter = retryAfter(res.Header, time.Now())
		return nil, refused
	}
	res.Body = io.NopCloser(bytes.NewReader(body))
	return res, nil
}

// sessionToken is what the SDK put into the request, under a key that http.Header.Get does not find.
func sessionToken(req *http.Request) string {
	for _, value := range req.Header["x-acs-security-token"] {
		return value
	}
	return ""
}
