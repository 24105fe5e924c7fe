// Package identity obtains Alibaba Cloud credentials for a pod and keeps them valid.
//
// A pod's identity is its ServiceAccount (RRSA), an access key, or its node's role; from each, further roles can be
// assumed. A Provider makes one exchange; a Source renews early, with jitter, and serves what it has while it is valid. A pod
// has one identity and no fall-back: it must never end up as the node it runs on unless it asked for that.
package identity

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const (
	// shortestPause and longestPause bound how long still valid credentials are served before STS is asked again after a failed
	// early refresh.
	shortestPause = 15 * time.Second
	longestPause  = 5 * time.Minute
	// firstRefusal and longestRefusal bound how long a refusal is repeated to all callers, without asking STS: the local API's
	// readers ask whenever they like, and STS gives an account 500 exchanges a minute, refused ones included.
	firstRefusal   = time.Second
	longestRefusal = 30 * time.Second
)

// Credentials are an STS session or an access key, which has no SecurityToken.
type Credentials struct {
	openapi.Credentials
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

// A Provider gets credentials. A Source keeps them.
type Provider struct {
	// ID is the same for the same identity, and for no other: a session is used only where STS would give the same one.
	ID string
	// Get makes one exchange. Its errors are an *Error, a *TokenError, or ctx's.
	Get func(ctx context.Context) (Credentials, error)
	// RenewAfter is when credentials are due for replacement; 0: at three quarters of their life. Those with it are not kept in
	// Sessions: to ask for them costs nothing.
	RenewAfter time.Duration
}

// Source hands out the credentials of one role or access key. It is safe for concurrent use.
type Source struct {
	provider Provider
	observe  func(error)
	sessions *Sessions
	flights  singleflight.Group

	mu        sync.Mutex
	current   Credentials
	refreshAt time.Time // when current is due for replacement; before that STS is not called
	refused   error     // what STS said last, if it will say it again; it is not asked before refreshAt
	refusals  int       // in a row
}

// NewSource returns a Source of what a Provider gives. Sessions are kept for the process after this one; nil: nowhere. Observe is
// called with the outcome of each exchange, if it is not nil.
func NewSource(p Provider, sessions *Sessions, observe func(error)) *Source {
	if observe == nil {
		observe = func(error) {}
	}
	if p.RenewAfter > 0 {
		sessions = nil
	}
	return &Source{provider: p, sessions: sessions, observe: observe}
}

// Credentials returns valid credentials, calling STS if there are none or if three quarters of their life are over.
// While the ones in hand are valid, no outage of STS is an error. A refusal that will be the same is repeated for a while without
// a call. The wait ends with ctx.
func (s *Source) Credentials(ctx context.Context) (Credentials, error) {
	if c, ok := s.fresh(); ok {
		return c, nil
	}
	flight := s.flights.DoChan("", func() (any, error) {
		return s.refresh(context.WithoutCancel(ctx)) // it serves the callers that come later, too
	})
	select {
	case r := <-flight:
		return r.Val.(Credentials), r.Err
	case <-ctx.Done():
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.current.valid(time.Now()) {
			return s.current, nil
		}
		return Credentials{}, ctx.Err()
	}
}

// Use makes a call with the credentials of a Source, and once more with new ones if they were rejected: STS may have ended their session
// early.
func Use[T any](ctx context.Context, s *Source, rejected func(error) bool, call func(Credentials) (T, error)) (given T, err error) {
	for again := true; ; again = false {
		creds, err := s.Credentials(ctx)
		if err != nil {
			return given, err
		}
		if given, err = call(creds); !again || !rejected(err) {
			return given, err
		}
		s.Invalidate(creds)
	}
}

// Invalidate gives up the credentials c, which a service has rejected. Newer ones that another caller got in the
// meantime stay.
func (s *Source) Invalidate(c Credentials) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current.AccessKeyID == c.AccessKeyID && s.current.SecurityToken == c.SecurityToken {
		s.current = Credentials{}
		s.sessions.keep(s.provider.ID, session{s.current, s.refreshAt})
	}
}

// fresh returns the credentials in hand if they are not due yet.
func (s *Source) fresh() (Credentials, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.current == (Credentials{}) {
		if kept, ok := s.sessions.of(s.provider.ID, now); ok {
			s.current, s.refreshAt = kept.Credentials, kept.Renew
		}
	}
	return s.current, s.current.valid(now) && (s.refreshAt.IsZero() || now.Before(s.refreshAt))
}

func (s *Source) refresh(ctx context.Context) (Credentials, error) {
	// A caller may arrive between the end of one flight and the start of the next.
	if c, ok := s.fresh(); ok {
		return c, nil
	}
	start := time.Now()
	s.mu.Lock()
	refused, due := s.refused, s.refreshAt
	s.mu.Unlock()
	if refused != nil && start.Before(due) {
		return Credentials{}, refused
	}
	c, err := s.provider.Get(ctx)
	s.observe(err)

	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if err != nil {
		if s.current.valid(now) {
			s.refreshAt = now.Add(retryPause(s.current.Expires.Sub(now)))
			s.sessions.keep(s.provider.ID, session{s.current, s.refreshAt})
			return s.current, nil
		}
		s.note(err, now)
		return Credentials{}, err
	}
	s.current, s.refreshAt, s.refused, s.refusals = c, time.Time{}, nil, 0
	switch {
	case c.Expires.IsZero(): // never due
	case s.provider.RenewAfter > 0:
		s.refreshAt = start.Add(pause.Around(s.provider.RenewAfter))
	default:
		s.refreshAt = start.Add(pause.Around(c.Expires.Sub(start) * 3 / 4))
		s.sessions.keep(s.provider.ID, session{s.current, s.refreshAt})
	}
	return c, nil
}

// note is called with mu held. What may pass has pauses elsewhere, and the file of the token can be right at any moment.
func (s *Source) note(err error, now time.Time) {
	s.refused = nil
	if e, ok := errors.AsType[*Error](err); ok && e.Code != "" && !e.Retryable() {
		s.refused, s.refreshAt = err, now.Add(pause.NearlyUpTo(pause.Doubled(firstRefusal, s.refusals, longestRefusal)))
		s.refusals++
	}
}

// retryPause follows what is left of the credentials' life. A fleet whose sessions all fell due in an outage then comes back over
// minutes, as it would have without one, and no session ends because of that.
func retryPause(left time.Duration) time.Duration {
	return max(shortestPause, pause.NearlyUpTo(min(left/3, longestPause)))
}

// Open returns the Provider of an identity, with what the webhook put into the environment of the agent's containers.
func Open(kind config.IdentityKind, getenv func(string) string, sts STS) (Provider, error) {
	// Values in a Secret often end in the newline of an editor or of echo.
	secret := func(name string) string { return strings.TrimSpace(getenv(name)) }
	switch kind {
	case config.RRSA:
		err := need(getenv, "%s is not set: the webhook sets it in the agent's containers%s", [][2]string{
			{config.RoleARNEnv}, {config.OIDCProviderARNEnv}, {config.OIDCTokenFileEnv},
		})
		provider, mistake := NewRRSA(RRSA{
			RoleARN: getenv(config.RoleARNEnv), ProviderARN: getenv(config.OIDCProviderARNEnv),
			Token: TokenFile(getenv(config.OIDCTokenFileEnv)), STS: sts,
		})
		return provider, errors.Join(err, mistake)
	case config.AccessKey:
		err := need(secret, "%s is empty: it is set from the key %s of the Secret that the annotation identity names", [][2]string{
			{config.AccessKeyIDEnv, config.AccessKeyID}, {config.AccessKeySecretEnv, config.AccessKeySecret},
		})
		if name := secret(config.AccessKeySessionNameEnv); name != "" {
			sts.SessionName = name
		}
		provider, mistake := NewAccessKey(AccessKey{
			ID: secret(config.AccessKeyIDEnv), Secret: secret(config.AccessKeySecretEnv), RoleARN: secret(config.AccessKeyRoleEnv),
			STS: sts,
		})
		return provider, errors.Join(err, mistake)
	case config.NodeRole:
		return NewNodeRole(NodeRole{Name: getenv(config.NodeRoleEnv)}), nil
	}
	return Provider{}, fmt.Errorf("identity %q: want rrsa, access-key or node-role", kind)
}

// need returns an error for each variable that is empty; the format takes its name and where it comes from.
func need(getenv func(string) string, format string, variables [][2]string) error {
	var errs []error
	for _, v := range variables {
		if getenv(v[0]) == "" {
			errs = append(errs, fmt.Errorf(format, v[0], v[1]))
		}
	}
	return errors.Join(errs...)
}
