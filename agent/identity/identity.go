// Package identity obtains Alibaba Cloud credentials for the pod's ServiceAccount (RRSA) and keeps them valid.
//
// The token exchange itself is the SDK's OIDC provider. Everything around it is here, because that provider has no
// lock, no context, no early refresh, and fails while the credentials it holds are still valid. There is one way to
// get credentials and no fall-back: a pod must never end up as the node it runs on.
package identity

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// retryPause is how long still valid credentials are served before STS is asked again after a failed early refresh.
const retryPause = 30 * time.Second

// Credentials are one STS session. The three strings belong together: they are only ever handed out as a set.
type Credentials struct {
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string
	// Expires is when the session ends, by this machine's clock at the time of the request.
	Expires time.Time
}

// String hides the secret parts from every %v.
func (c Credentials) String() string {
	return "credentials(expire " + c.Expires.Format(time.RFC3339) + ")"
}

// GoString hides the secret parts from %#v.
func (c Credentials) GoString() string { return c.String() }

// LogValue hides the secret parts from slog.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Source hands out the credentials of one role. It is safe for concurrent use.
type Source struct {
	assume  func() (Credentials, error)
	flights singleflight.Group

	mu        sync.Mutex
	current   Credentials
	refreshAt time.Time // when current is due for replacement; before that nobody calls STS
}

// New returns a Source for cfg. It does not call STS yet.
//
// A process has one Source: the SDK takes its TLS trust from http.DefaultTransport only, so New replaces that.
func New(cfg Config) (*Source, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := trust(cfg.Roots); err != nil {
		return nil, err
	}
	return &Source{assume: cfg.assumeRole}, nil
}

// Credentials returns valid credentials, calling STS if there are none or if three quarters of their life are over.
// While the ones in hand are valid, no outage of STS is an error. The wait ends with ctx.
func (s *Source) Credentials(ctx context.Context) (Credentials, error) {
	if c, ok := s.fresh(); ok {
		return c, nil
	}
	flight := s.flights.DoChan("", func() (any, error) { return s.refresh() })
	select {
	case r := <-flight:
		if r.Err != nil {
			return Credentials{}, r.Err
		}
		return r.Val.(Credentials), nil
	case <-ctx.Done():
		if c, ok := s.valid(); ok {
			return c, nil
		}
		return Credentials{}, ctx.Err()
	}
}

// Invalidate gives up the credentials c, which a service has rejected. Newer ones that another caller got in the
// meantime stay.
func (s *Source) Invalidate(c Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.SecurityToken == c.SecurityToken {
		s.current = Credentials{}
	}
}

// fresh returns the credentials in hand if nobody needs to call STS yet.
func (s *Source) fresh() (Credentials, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	return s.current, now.Before(s.current.Expires) && now.Before(s.refreshAt)
}

// valid returns the credentials in hand if they have not expired.
func (s *Source) valid() (Credentials, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, time.Now().Before(s.current.Expires)
}

func (s *Source) refresh() (Credentials, error) {
	// A caller may arrive between the end of one flight and the start of the next.
	if c, ok := s.fresh(); ok {
		return c, nil
	}
	start := time.Now()
	c, err := s.assume()

	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if err != nil {
		if now.Before(s.current.Expires) {
			s.refreshAt = now.Add(jitter(retryPause))
			return s.current, nil
		}
		return Credentials{}, err
	}
	s.current = c
	s.refreshAt = start.Add(jitter(c.Expires.Sub(start) * 3 / 4))
	return c, nil
}

// jitter spreads d over 90 % to 110 %, so that pods started together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1)
}
