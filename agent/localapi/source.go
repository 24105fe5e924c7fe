// Package localapi feeds the local API: it reads through a cache, and rations the calls to KMS that readers cause.
package localapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/time/rate"

	"github.com/kms-agent-injector/kms-agent-injector/agent/cache"
	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
)

const (
	// MostValues is how many values a Source keeps at most, the KMS Agent's own limit.
	MostValues = 1000
	// fetchLimit is how long the local API waits for STS and KMS together.
	fetchLimit = 20 * time.Second
	// ownBytes is what a secret takes besides its texts.
	ownBytes = 1 << 10
)

// Config says where the values come from, and how long they are served without asking KMS.
type Config struct {
	Read  func(context.Context, kms.Ref) (kms.Secret, error)
	Who   failure.Adviser // for messages
	TTL   time.Duration   // 0: every read asks KMS
	Size  int             // the most values that are kept, which have no more than a share of the agent's memory limit together
	Stale bool            // serve a value on while KMS or STS cannot be reached
	Log   *slog.Logger
}

// Source is an httpapi.Source: what the pod's role may read, from a cache.
type Source struct {
	Config
	calls *rate.Limiter // to KMS
	cache *cache.Cache[kms.Ref, *kms.Secret]
}

// New returns a Source with an empty cache.
func New(cfg Config) *Source {
	s := &Source{Config: cfg, calls: rate.NewLimiter(rate.Every(callEvery), callBurst)}
	if cfg.TTL == 0 { // to ask KMS for every read is what was wanted
		s.calls.SetLimit(rate.Inf)
	}
	s.cache = cache.New(cache.Config[kms.Ref, *kms.Secret]{
		Fetch: s.fetch, Timeout: fetchLimit, TTL: cfg.TTL, Size: cfg.Size, Bytes: mostBytes(),
		Weigh:   func(v *kms.Secret) int { return len(v.Data) + len(v.Answer.ExtendedConfig) + ownBytes },
		Lasting: func(err error) bool { return failure.Absent(err) || failure.Refused(err) },
		Version: func(v *kms.Secret) string { return v.VersionID },
		Stale: func(ref kms.Ref, _ error) {
			s.Log.Info("serving the value in hand", logkey.Secret, ref.String())
		},
		Transient: func(err error) bool {
			return cfg.Stale && (failure.TimedOut(err) || rationed(err) || failure.Transient(err))
		},
	})
	return s
}

// mostBytes is how many bytes of values a Source keeps: a quarter of the memory limit (GOMEMLIMIT), as there are the
// connections, the files' own values and the garbage collector's room beside them. More than MostValues of 32 kB it never needs.
func mostBytes() int {
	return int(min(debug.SetMemoryLimit(-1)/4, MostValues*32<<10))
}

// Get implements httpapi.Source.
func (s *Source) Get(ctx context.Context, r httpapi.Request) (*kms.Secret, error) {
	read := s.cache.Get
	if r.RefreshNow {
		read = s.cache.Refresh
	}
	secret, err := read(ctx, keyOf(r.Ref))
	if err != nil {
		return nil, s.refusal(err)
	}
	return secret, nil
}

// Watch implements httpapi.Source.
func (s *Source) Watch(ctx context.Context, r httpapi.Request) <-chan *kms.Secret {
	return s.cache.Watch(ctx, keyOf(r.Ref))
}

// Put takes over what a refresh of the files fetched, so that the API does not fetch it again.
func (s *Source) Put(ref kms.Ref, secret kms.Secret, at time.Time) {
	s.cache.Put(keyOf(ref), &secret, at)
}

// Counts returns the reads that needed no request to KMS, and those that did.
func (s *Source) Counts() (hits, misses uint64) {
	stats := s.cache.Stats()
	return stats.Hits, stats.Misses
}

// keyOf returns the key of the cache, the same for requests that KMS answers alike.
func keyOf(ref kms.Ref) kms.Ref {
	if ref.VersionID == "" && ref.VersionStage == "ACSCurrent" {
		ref.VersionStage = ""
	}
	return ref
}

func (s *Source) fetch(ctx context.Context, ref kms.Ref) (*kms.Secret, error) {
	if err := s.turn(ctx); err != nil {
		return nil, err
	}
	secret, err := s.Read(ctx, ref)
	if err != nil {
		s.Log.Warn("fetch for the local API failed", logkey.Secret, ref.String(), logkey.Error, s.Who.Explain(err))
		return nil, err
	}
	s.Log.Debug("fetched for the local API", logkey.Secret, ref.String(), logkey.Version, secret.VersionID)
	return &secret, nil
}

// refusal returns the local API's answer for an error.
func (s *Source) refusal(err error) error {
	var gateway *kms.Error
	var sts *identity.Error
	e := &httpapi.Error{
		Status: http.StatusInternalServerError, Code: httpapi.CodeInternal, Message: err.Error(), RetryAfter: failure.RetryAfter(err),
	}
	switch {
	case errors.Is(err, context.Canceled), rationed(err):
		return err
	case errors.As(err, &gateway) && gateway.Code != "":
		e.Status, e.Code, e.Message, e.RequestID = gateway.Status, gateway.Code, gateway.Message, gateway.RequestID
		if e.Status < http.StatusBadRequest {
			e.Status = http.StatusBadGateway
		}
	case failure.TimedOut(err):
		e.Status, e.Code = http.StatusGatewayTimeout, httpapi.CodeTimeout
	case errors.As(err, &sts) && sts.Code != "":
		// STS's status is not known. To the reader it is as if KMS had refused, unless it passes.
		e.Status, e.Code, e.Message, e.RequestID = http.StatusForbidden, sts.Code, sts.Error(), sts.RequestID
		if sts.Retryable() {
			e.Status = http.StatusBadGateway
		}
	case gateway != nil, sts != nil:
		e.Status, e.Code = http.StatusBadGateway, httpapi.CodeConnection
	}
	if cause, cure := s.Who.Advise(err); cause != "" {
		e.Recommend = cause + "; " + cure
	}
	return e
}

// Limits on the calls to KMS that readers of the local API cause, because all agents of the account share one quota.
const (
	callEvery = time.Second / 5
	callBurst = 20
	// callWait is how long a read waits for its turn before it is refused.
	callWait = 2 * time.Second
)

// turn returns when a call may be made. Its error is an *httpapi.Error, or ctx's.
func (s *Source) turn(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, callWait+callEvery/2) // the last turn in time comes before the end
	defer cancel()
	if err := s.calls.Wait(soon); err == nil || ctx.Err() != nil {
		return err
	}
	wait := time.Duration((1 - s.calls.Tokens()) * float64(callEvery))
	return &httpapi.Error{
		Status: http.StatusTooManyRequests, Code: httpapi.CodeTooManyCalls, RetryAfter: max(wait-callWait, time.Millisecond),
		Message: fmt.Sprintf("the requests to this agent cause more than %d calls to KMS a second", time.Second/callEvery),
		Recommend: "ask again later; ask for secrets without refreshNow and without versions that do not exist, " +
			"so that the answer comes from the cache",
	}
}

// rationed reports whether the agent itself has refused a call.
func rationed(err error) bool {
	_, ours := errors.AsType[*httpapi.Error](err)
	return ours
}
