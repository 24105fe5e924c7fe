// Package cloud calls KMS and STS for all identities: as little as possible, within budgets, and without one identity's trouble
// becoming another's.
//
// A value is read once for each identity, gateway, secret and version, however many objects want it. A call that may not be made now
// is a *Wait; no call sleeps.
package cloud

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"

	"github.com/kms-agent-injector/kms-agent-injector/agent/cache"
	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
)

const (
	mostBytes      = 32 << 20 // of values
	mostValues     = 100_000
	mostIdentities = 5000
	mostGateways   = 200
	idle           = 2 * time.Hour
	callTimeout    = 30 * time.Second // of a call, with a new session if it needs one
	// patience is how long a caller waits for an answer: what waits is one of few workers, and the gateway may be one that a tenant chose.
	patience = 2 * time.Second
	// less is that for a call which another caller began, or the same one before it came back.
	less = 200 * time.Millisecond
	// refusalLife is how long a refusal of one secret is repeated to all that want it.
	refusalLife = 30 * time.Second
)

// Settings say how a Cloud calls.
type Settings struct {
	KMS kms.Config // of all gateways; Endpoint is the default one

	SharedPerSecond   float64 // calls to the shared gateway of a region, and to the default one; 0: 60
	InstancePerSecond float64 // calls to each other gateway; 0: 200
	STSPerMinute      float64 // exchanges; 0: 100

	// Dial returns the client of a gateway; nil: kms.New's.
	Dial func(kms.Config) (Gateway, error)

	// Count is called with the outcome of each call, and Waited with how long one waited for the budget. Service is kms or sts.
	Count  func(service, code string)
	Waited func(service string, d time.Duration)
}

// A Gateway reads secrets as kms.Client does.
type Gateway interface {
	GetSecretValue(ctx context.Context, creds kms.Credentials, ref kms.Ref) (kms.Secret, error)
	CloseIdleConnections()
}

// Wait says that a call may not be made now. A caller with several comes back after the shortest of them, so that each is called in
// its turn, and then takes what was read since it first asked: its maxAge is longer by the time that it waited.
type Wait struct {
	After time.Duration
	Why   string
	Err   error // what a call before was answered, if that is why; nil: the budget
}

func (w *Wait) Error() string {
	s := fmt.Sprintf("%s; next attempt in %s", w.Why, w.After.Round(time.Second))
	if w.Err != nil {
		s += ": " + w.Err.Error()
	}
	return s
}

func (w *Wait) Unwrap() error { return w.Err }

// Cloud is safe for concurrent use.
type Cloud struct {
	settings Settings
	values   *cache.Cache[valueKey, answer]
	reads    singleflight.Group // by valueKey
	sts      *budget
	stsRest  rest // while STS does not answer

	identities recent[store.Who, *principal]
	gateways   recent[string, *gateway]
	budgets    recent[string, *budget]
	rests      recent[restKey, *rest]                    // while one identity is to call less
	failures   recent[valueKey, *atomic.Pointer[failed]] // of the last calls
}

// valueKey is what is read.
type valueKey struct {
	who      store.Who
	endpoint string
	ref      kms.Ref
}

// answer is that of KMS about one secret.
type answer struct {
	secret kms.Secret
	err    error // KMS's refusal
}

// failed is a call that brought no answer.
type failed struct {
	err error
	at  time.Time
}

// principal is an identity with its credentials: one of the two.
type principal struct {
	source   *identity.Source
	instance store.Instance
}

// gateway is one of KMS.
type gateway struct {
	Gateway
	rest // while it does not answer
}

// restKey has an empty gateway for STS.
type restKey struct {
	gateway string
	who     store.Who
}

// New returns a Cloud that has made no call.
func New(s Settings) *Cloud {
	s.SharedPerSecond, s.InstancePerSecond = cmp.Or(s.SharedPerSecond, 60), cmp.Or(s.InstancePerSecond, 200)
	s.STSPerMinute = cmp.Or(s.STSPerMinute, 100)
	if s.Dial == nil {
		s.Dial = func(cfg kms.Config) (Gateway, error) { return kms.New(cfg) }
	}
	if s.Count == nil {
		s.Count = func(string, string) {}
	}
	if s.Waited == nil {
		s.Waited = func(string, time.Duration) {}
	}
	c := &Cloud{
		settings:   s,
		identities: recent[store.Who, *principal]{most: mostIdentities, idle: idle, drop: func(p *principal) { p.close() }},
		gateways:   recent[string, *gateway]{most: mostGateways, idle: idle, drop: func(g *gateway) { g.CloseIdleConnections() }},
		budgets:    recent[string, *budget]{most: mostGateways, idle: idle},
		rests:      recent[restKey, *rest]{most: 2 * mostIdentities, idle: idle},
		failures:   recent[valueKey, *atomic.Pointer[failed]]{most: 2 * mostIdentities, idle: refusalLife},
	}
	c.sts = newBudget(rate.Limit(s.STSPerMinute/60), max(1, int(s.STSPerMinute)), func(d time.Duration) { s.Waited("sts", d) })
	never := func(error) bool { return false }
	c.values = cache.New(cache.Config[valueKey, answer]{
		Fetch: c.fetch, Timeout: callTimeout, TTL: 24 * time.Hour, Size: mostValues, Bytes: mostBytes,
		Weigh:     func(a answer) int { return len(a.secret.Data) + 512 },
		Transient: func(error) bool { return true }, Lasting: never, Stale: func(valueKey, error) {},
		Version: func(a answer) string { return a.secret.VersionID },
	})
	return c
}

func (p *principal) close() {
	if p.instance != nil {
		p.instance.CloseIdleConnections()
	}
}

// Read returns a secret that is at most maxAge old, or was read since a time, or a version that never changes. A caller that has several
// to read, and has had to wait for some, gives the time when it first asked: what was read since is kept for it, or it would read the first
// again while it waits for the last; and so is why a call since failed. A call that takes longer than patience goes on while the caller
// does other things: it is a *Wait. The errors are *kms.Error, *kms.KeyError, *identity.Error, *store.Refusal, those of the asker's token,
// or ctx's; and *Wait, maybe with one of these in it, if no call may be made now: the caller comes back.
func (c *Cloud) Read(ctx context.Context, a store.Asker, ref kms.Ref, p Priority, maxAge time.Duration, since time.Time,
) (kms.Secret, error) {
	key, begun := valueKey{a.Who, a.Endpoint, ref}, time.Now()
	got, at, ok := c.values.Kept(key)
	age := begun.Sub(at)
	if ok && (got.err == nil && unchanging(ref, got.secret) || !at.Before(since) || age <= maxAge && (got.err == nil || age <= refusalLife)) {
		return got.copy()
	}
	if last, ok := c.failures.find(key); ok { // it was called for while it was away
		if f := last.Load(); f != nil && !f.at.Before(since) && begun.Sub(f.at) <= refusalLife {
			return kms.Secret{}, f.err
		}
	}
	// All that want it at the same time have one place in the budget, too.
	read, err, _ := c.reads.Do(fmt.Sprintf("%#v", key), func() (any, error) {
		if got, at, ok := c.values.Kept(key); ok && at.After(begun) { // another caller's call has just ended
			return got, nil
		}
		limit := less
		if !c.values.UnderWay(key) {
			if err := c.admit(ctx, a, key, p); err != nil {
				return answer{}, err
			}
			limit = patience
		}
		short, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		read, err := c.values.Renew(short, key)
		if err != nil && short.Err() != nil && ctx.Err() == nil { // the call goes on
			err = &Wait{After: patience, Why: "KMS has not answered yet"}
		}
		return read, err
	})
	if err != nil {
		return kms.Secret{}, err
	}
	return read.(answer).copy()
}

// Explain says what failed, why, and what to change, for an error of Read.
func Explain(a store.Asker, err error) string {
	return failure.Adviser{Role: a.Who.String(), Host: a.Endpoint, Sync: true}.Explain(err)
}

func (a answer) copy() (kms.Secret, error) {
	s := a.secret
	s.Data = bytes.Clone(s.Data)
	return s, a.err
}

// unchanging reports whether a version is the same as long as it exists. KMS ignores the identifier for managed secrets.
func unchanging(ref kms.Ref, s kms.Secret) bool {
	return ref.VersionID != "" && ref.VersionStage == "" && s.Type == "Generic"
}

// Authenticate gets the asker's credentials, and makes no call of KMS. Its errors are those of Read.
func (c *Cloud) Authenticate(ctx context.Context, a store.Asker, p Priority) error {
	_, err := c.credentials(ctx, a, p)
	return err
}

// turn is on whose account an exchange with STS is.
type turn struct {
	namespace string
	priority  Priority
}

type turnKey struct{}

// exchange is what waits for the budget of STS: an identity may have two.
type exchange struct {
	who      store.Who
	provider string
}

func (c *Cloud) credentials(ctx context.Context, a store.Asker, p Priority) (*principal, error) {
	who, err := c.identities.get(a.Who, func() (*principal, error) {
		if a.Instance != nil {
			instance, err := a.Instance()
			if err != nil {
				return nil, err
			}
			return &principal{instance: instance}, nil
		}
		source, err := a.Open(func(p identity.Provider) identity.Provider { return c.paced(a.Who, p) })
		return &principal{source: source}, err
	})
	if err != nil || who.instance != nil {
		return who, err
	}
	_, err = who.source.Credentials(context.WithValue(ctx, turnKey{}, turn{a.Namespace, p}))
	return who, err
}

// paced keeps the exchanges of a Provider within the budget of STS.
func (c *Cloud) paced(who store.Who, p identity.Provider) identity.Provider {
	get, id := p.Get, p.ID
	p.Get = func(ctx context.Context) (identity.Credentials, error) {
		own := c.rest("", who)
		if wait := cmp.Or(c.stsRest.wait("STS does not answer"), own.wait("STS asks for fewer calls")); wait != nil {
			return identity.Credentials{}, wait.about(kms.Ref{}, cmp.Or(who.Remote, who.Role))
		}
		by, _ := ctx.Value(turnKey{}).(turn)
		if wait := c.sts.take(exchange{who, id}, by.namespace, by.priority); wait > 0 {
			return identity.Credentials{}, &Wait{After: wait, Why: "the budget of calls to STS is used up"}
		}
		creds, err := get(ctx)
		var refusal *identity.Error
		if err == nil || errors.As(err, &refusal) {
			c.settings.Count("sts", failure.Code(err))
			c.stsRest.answered(err)
			own.throttled(err)
		}
		return creds, err
	}
	return p
}

func (c *Cloud) rest(gateway string, who store.Who) *rest {
	r, _ := c.rests.get(restKey{gateway, who}, func() (*rest, error) { return &rest{}, nil }) //nolint:errcheck // it has none
	return r
}

// admit returns nil if a call may be made now.
func (c *Cloud) admit(ctx context.Context, a store.Asker, key valueKey, p Priority) error {
	g, err := c.gateway(a.Endpoint)
	if err != nil {
		return err
	}
	if wait := cmp.Or(g.wait("KMS does not answer"), c.rest(a.Endpoint, a.Who).wait("KMS asks for fewer calls")); wait != nil {
		return wait.about(key.ref, "")
	}
	if _, err := c.credentials(ctx, a, p); err != nil {
		return err
	}
	if wait := c.budget(a.Endpoint).take(key, a.Namespace, p); wait > 0 {
		return &Wait{After: wait, Why: "the budget of calls to KMS is used up"}
	}
	if wait := g.enter("KMS does not answer"); wait != nil {
		return wait.about(key.ref, "")
	}
	return nil
}

func (c *Cloud) gateway(host string) (*gateway, error) {
	return c.gateways.get(host, func() (*gateway, error) {
		settings := c.settings.KMS
		settings.Endpoint = host
		client, err := c.settings.Dial(settings)
		return &gateway{Gateway: client}, err
	})
}

// shared is a region's shared gateway, by either host.
var shared = regexp.MustCompile(`^kms(?:-vpc)?\.([a-z0-9-]+)\.aliyuncs\.com$`)

// budget returns that of a gateway. The two hosts of a region's shared gateway have one.
func (c *Cloud) budget(host string) *budget {
	limit := c.settings.InstancePerSecond
	switch m := shared.FindStringSubmatch(host); {
	case m != nil:
		host, limit = m[1], c.settings.SharedPerSecond
	case host == c.settings.KMS.Endpoint: // it stands for the region's
		limit = c.settings.SharedPerSecond
	}
	b, _ := c.budgets.get(host, func() (*budget, error) { //nolint:errcheck // it has none
		return newBudget(rate.Limit(limit), max(1, int(limit)), func(d time.Duration) { c.settings.Waited("kms", d) }), nil
	})
	return b
}

// fetch makes the call that was admitted. A failure of it is kept for callers that have not waited for it.
func (c *Cloud) fetch(ctx context.Context, key valueKey) (answer, error) {
	got, err := c.ask(ctx, key)
	var wait *Wait
	if err != nil && !errors.As(err, &wait) {
		open := func() (*atomic.Pointer[failed], error) { return new(atomic.Pointer[failed]), nil }
		if last, none := c.failures.get(key, open); none == nil {
			last.Store(&failed{err, time.Now()})
		}
	}
	return got, err
}

func (c *Cloud) ask(ctx context.Context, key valueKey) (answer, error) {
	lost := func() (*principal, error) {
		return nil, &Wait{After: time.Second, Why: "more identities are in use than are kept"}
	}
	who, err := c.identities.get(key.who, lost)
	if err != nil {
		return answer{}, err
	}
	g, err := c.gateway(key.endpoint)
	if err != nil {
		return answer{}, err
	}
	secret, err := c.call(ctx, who, g, key)
	c.rest(key.endpoint, key.who).throttled(err)
	var refusal *kms.Error
	if errors.As(err, &refusal) && refusal.Code != "" && (refusal.Class() == kms.Permanent || refusal.Class() == kms.NotFound) {
		return answer{err: err}, nil
	}
	return answer{secret: secret}, err
}

// call asks KMS, and once more with a new session if it does not take the one in hand: STS may have ended it early.
func (c *Cloud) call(ctx context.Context, who *principal, g *gateway, key valueKey) (secret kms.Secret, err error) {
	for again := true; ; again = false {
		var creds identity.Credentials
		if who.instance != nil {
			secret, err = who.instance.GetSecretValue(ctx, key.ref)
		} else {
			if creds, err = who.source.Credentials(ctx); err != nil {
				return kms.Secret{}, err
			}
			secret, err = g.GetSecretValue(ctx, creds.Credentials, key.ref)
		}
		var refusal *kms.Error
		if err == nil || errors.As(err, &refusal) {
			c.settings.Count("kms", failure.Code(err))
			g.answered(err)
		}
		if who.instance != nil || refusal == nil || refusal.Class() != kms.CredentialsRejected {
			return secret, err
		}
		who.source.Invalidate(creds)
		if !again {
			return secret, err
		}
		c.budget(key.endpoint).debit()
	}
}
