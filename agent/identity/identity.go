// Package identity obtains Alibaba Cloud credentials for a pod and keeps them valid.
//
// A pod's identity is its ServiceAccount (RRSA), an access key, or its node's role; from each, further roles can be
// assumed. The exchanges are the SDK's providers. Everything around them is here, because those have no lock, no context,
// no early refresh, and fail while the credentials that they hold are still valid. A pod has one identity and no
// fall-back: it must never end up as the node it runs on unless it asked for that.
package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

const (
	// shortestPause and longestPause bound how long still valid credentials are served before STS is asked again after a failed
	// early refresh.
	shortestPause = 15 * time.Second
	longestPause  = 5 * time.Minute
	// firstRefusal and longestRefusal bound how long a refusal is repeated to all who ask, without asking STS: the local API's
	// readers ask whenever they like, and STS gives an account 500 exchanges a minute, refused ones included.
	firstRefusal   = time.Second
	longestRefusal = 30 * time.Second
)

// Credentials are an STS session or an access key. The three strings belong together: they are only ever handed out as a
// set.
type Credentials struct {
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string // empty for an access key
	// Expires is when the session ends, by this machine's clock at the time of the request. An access key does not end:
	// zero.
	Expires time.Time
}

// valid reports whether these are credentials and have not expired.
func (c Credentials) valid(now time.Time) bool {
	if c.Expires.IsZero() {
		return c.AccessKeyID != ""
	}
	return now.Before(c.Expires)
}

// String hides the secret parts from every %v.
func (c Credentials) String() string {
	if c.Expires.IsZero() {
		return "credentials(do not expire)"
	}
	return "credentials(expire " + c.Expires.Format(time.RFC3339) + ")"
}

// GoString hides the secret parts from %#v.
func (c Credentials) GoString() string { return c.String() }

// LogValue hides the secret parts from slog.
func (c Credentials) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Source hands out the credentials of one role or access key. It is safe for concurrent use.
type Source struct {
	assume     func() (Credentials, error)
	identity   string        // fingerprint of whose sessions these are
	renewAfter time.Duration // when credentials are due for replacement; 0: at three quarters of their life
	observe    func(error)   // told of each exchange; nil: nobody is
	sessions   *Sessions     // where they are kept for the process after this one; nil: nowhere
	flights    singleflight.Group

	mu        sync.Mutex
	current   Credentials
	refreshAt time.Time // when current is due for replacement; before that nobody calls STS
	refused   error     // what STS said last, if it will say it again; nobody asks before refreshAt
	refusals  int       // in a row
}

// Open returns the Source of an identity of a kind, which is as in the pod's annotation: "rrsa" or "" for that of the
// pod's ServiceAccount, "access-key" or "node-role". What else the kind needs is in the environment. It calls nobody yet.
func Open(kind string, getenv func(string) string, sts STS) (*Source, error) {
	switch kind {
	case "", "rrsa":
		cfg := FromEnv(getenv)
		cfg.STS = sts
		return New(cfg)
	case "access-key":
		cfg := AccessKeyFromEnv(getenv)
		sessionName := cfg.SessionName
		if cfg.STS = sts; sessionName != "" {
			cfg.SessionName = sessionName
		}
		return NewAccessKey(cfg)
	case "node-role":
		return NewNodeRole(NodeRoleFromEnv(getenv))
	}
	return nil, fmt.Errorf("identity %q: want rrsa, access-key or node-role", kind)
}

// NewSource returns a Source of what assume gets. It is for simulations of what time and STS do to an agent; New, NewAccessKey
// and NewNodeRole are for those who have an identity.
func NewSource(assume func() (Credentials, error)) *Source { return &Source{assume: assume} }

// New returns a Source for cfg. It does not call STS yet.
//
// A process has one STS: the SDK takes its TLS trust from http.DefaultTransport only, so New replaces that.
func New(cfg Config) (*Source, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if err := trust(cfg.Roots); err != nil {
		return nil, err
	}
	return &Source{assume: cfg.assumeRole, identity: cfg.fingerprint("rrsa", cfg.RoleARN, cfg.ProviderARN)}, nil
}

// Credentials returns valid credentials, calling STS if there are none or if three quarters of their life are over.
// While the ones in hand are valid, no outage of STS is an error. A refusal that will be the same is repeated for a while without
// a call. The wait ends with ctx.
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

// Observe has f told of each exchange with STS, or with the node's metadata, and its error. It is for the time before the
// first call of Credentials.
func (s *Source) Observe(f func(error)) { s.observe = f }

// Keep takes over the session that a process before left in sessions, and leaves there those that come. It is for the time before
// the first call of Credentials. What the node's metadata service gives is not kept: the service has no quota.
func (s *Source) Keep(sessions *Sessions) {
	if s.renewAfter > 0 {
		return
	}
	s.sessions = sessions
	if c, ok := sessions.of(s.identity, time.Now()); ok {
		s.current, s.refreshAt = c.Credentials, c.Renew
	}
}

// keep is called with mu held.
func (s *Source) keep() {
	if s.sessions != nil {
		s.sessions.keep(s.identity, session{s.current, s.refreshAt})
	}
}

// Invalidate gives up the credentials c, which a service has rejected. Newer ones that another caller got in the
// meantime stay.
func (s *Source) Invalidate(c Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.AccessKeyID == c.AccessKeyID && s.current.SecurityToken == c.SecurityToken {
		s.current = Credentials{}
		s.keep()
	}
}

// fresh returns the credentials in hand if nobody needs to call STS yet.
func (s *Source) fresh() (Credentials, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	return s.current, s.current.valid(now) && (s.refreshAt.IsZero() || now.Before(s.refreshAt))
}

// valid returns the credentials in hand if they have not expired.
func (s *Source) valid() (Credentials, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current, s.current.valid(time.Now())
}

func (s *Source) refresh() (Credentials, error) {
	// A caller may arrive between the end of one flight and the start of the next.
	if c, ok := s.fresh(); ok {
		return c, nil
	}
	if err := s.refusal(); err != nil {
		return Credentials{}, err
	}
	start := time.Now()
	c, err := s.assume()
	if s.observe != nil {
		s.observe(err)
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if err != nil {
		if s.current.valid(now) {
			s.refreshAt = now.Add(retryPause(s.current.Expires.Sub(now)))
			s.keep()
			return s.current, nil
		}
		s.note(err, now)
		return Credentials{}, err
	}
	s.current, s.refreshAt, s.refused, s.refusals = c, time.Time{}, nil, 0
	switch {
	case c.Expires.IsZero(): // never due
	case s.renewAfter > 0:
		s.refreshAt = start.Add(jitter(s.renewAfter))
	default:
		s.refreshAt = start.Add(jitter(c.Expires.Sub(start) * 3 / 4))
		s.keep()
	}
	return c, nil
}

// refusal is the last one, if it is too early to ask again.
func (s *Source) refusal() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refused != nil && time.Now().Before(s.refreshAt) {
		return s.refused
	}
	return nil
}

// note is called with mu held. What may pass has pauses elsewhere, and the file of the token can be right at any moment.
func (s *Source) note(err error, now time.Time) {
	var e *Error
	if s.refused = nil; !errors.As(err, &e) || e.Code == "" || e.Retryable() {
		return
	}
	pause := min(firstRefusal<<min(s.refusals, 10), longestRefusal)
	s.refused, s.refreshAt = err, now.Add(pause/2+rand.N(pause/2+1))
	s.refusals++
}

// retryPause follows what is left of the credentials' life. A fleet whose sessions all fell due in an outage then comes back over
// minutes, as it would have without one, and nobody's session ends because of that.
func retryPause(left time.Duration) time.Duration {
	most := min(left/3, longestPause)
	return max(shortestPause, most/2+rand.N(most/2+1))
}

// jitter spreads d over 90 % to 110 %, so that pods started together do not come back together.
func jitter(d time.Duration) time.Duration {
	return d*9/10 + rand.N(d/5+1)
}
