package kms

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"
)

// maxAnswer bounds an answer in bytes. A value has at most 30,720, and JSON makes at most six of one.
const maxAnswer = 1 << 20

// caller carries the SDK's requests out. The SDK takes it through its interface dara.HttpClient.
type caller struct {
	client http.Client
}

func newCaller(cfg Config) *caller {
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 3 * time.Second
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 10 * time.Second
	}
	return &caller{client: http.Client{
		Timeout: cfg.Timeout,
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: cfg.ConnectTimeout}).DialContext,
			TLSClientConfig:     &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: cfg.Roots},
			TLSHandshakeTimeout: cfg.ConnectTimeout,
			ForceAttemptHTTP2:   true,
			IdleConnTimeout:     10 * time.Second, // the calls of one refresh share a connection, two refreshes do not
		},
		// A redirect would carry the session token along.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Call returns the answers with status 200, read to their end, and makes an *Error of the others.
func (c *caller) Call(req *http.Request, _ *http.Transport) (*http.Response, error) {
	res, err := c.client.Do(req)
	if err != nil {
		// A connection that died silently would fail the next attempts too: over HTTP/2 a time-out leaves it open.
		c.client.CloseIdleConnections()
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
		return nil, refusal(res.StatusCode, body, sessionToken(req))
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
