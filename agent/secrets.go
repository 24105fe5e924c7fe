package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/cache"
	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// fetchLimit is how long the local API waits for STS and KMS together.
const fetchLimit = 20 * time.Second

// SecretsConfig says how long the local API serves a value without asking KMS.
type SecretsConfig struct {
	TTL   time.Duration // 0: every read asks KMS
	Size  int           // the most values that are kept, which have no more than a share of the agent's memory limit together
	Stale bool          // serve a value on while KMS or STS cannot be reached
	// Region of the KMS, for the ARN in AWS's shape, which KMS does not tell; empty: no ARN
	Region string
}

// Secrets is what the local API serves: what the pod's role may read, from a cache. It is an httpapi.Source.
type Secrets struct {
	agent  *Agent
	region string
	ration ration
	cache  *cache.Cache[httpapi.Request, *httpapi.Secret]
}

// ownBytes is what a secret takes besides its texts.
const ownBytes = 1 << 10

// Secrets returns a source with an empty cache.
func (a *Agent) Secrets(cfg SecretsConfig) *Secrets {
	s := &Secrets{agent: a, region: cfg.Region}
	settings := cache.Config[httpapi.Request, *httpapi.Secret]{
		Fetch: s.fetch, Timeout: fetchLimit, TTL: cfg.TTL, Size: cfg.Size, Bytes: localBytes(),
		Weigh:   func(v *httpapi.Secret) int { return len(v.Data) + len(v.ExtendedConfig) + ownBytes },
		Lasting: func(err error) bool { return absent(err) || refused(err) },
		Version: func(v *httpapi.Secret) string { return v.VersionID },
		Stale: func(r httpapi.Request, _ error) {
			a.log.Info("serving the value in hand", "secret", r.String())
		},
	}
	if cfg.TTL > 0 { // else to ask KMS for every read is what was wanted
		s.ration = ration{every: callEvery, burst: callBurst}
	}
	if cfg.Stale {
		settings.Transient = func(err error) bool { return timedOut(err) || rationed(err) || transient(err) }
	}
	s.cache = cache.New(settings)
	return s
}

// Get implements httpapi.Source.
func (s *Secrets) Get(ctx context.Context, r httpapi.Request) (*httpapi.Secret, error) {
	read := s.cache.Get
	if r.RefreshNow {
		read = s.cache.Refresh
	}
	secret, err := read(ctx, keyOf(r))
	if err != nil {
		return nil, s.agent.refusal(err)
	}
	return secret, nil
}

// Watch implements httpapi.Source.
func (s *Secrets) Watch(ctx context.Context, r httpapi.Request) <-chan *httpapi.Secret {
	return s.cache.Watch(ctx, keyOf(r))
}

// Put takes over what a refresh of the files fetched, so that the API does not fetch it again.
func (s *Secrets) Put(ref kms.Ref, secret kms.Secret) {
	r := keyOf(httpapi.Request{SecretID: ref.Name, VersionID: ref.VersionID, VersionStage: ref.VersionStage})
	s.cache.Put(r, s.answer(r, secret))
}

// Counts are the reads that needed no request to KMS, and those that did.
func (s *Secrets) Counts() (hits, misses uint64) {
	stats := s.cache.Stats()
	return stats.Hits, stats.Misses
}

// keyOf is the same for requests that mean the same.
func keyOf(r httpapi.Request) httpapi.Request {
	r.RefreshNow = false
	if r.VersionID == "" && r.VersionStage == "ACSCurrent" {
		r.VersionStage = ""
	}
	return r
}

func (s *Secrets) fetch(ctx context.Context, r httpapi.Request) (*httpapi.Secret, error) {
	if err := s.ration.take(ctx); err != nil {
		return nil, err
	}
	secret, err := s.agent.reader.read(ctx, kms.Ref{Name: r.SecretID, VersionID: r.VersionID, VersionStage: r.VersionStage})
	if err != nil {
		s.agent.log.Warn("fetch for the local API failed", "secret", r.String(), "error", s.agent.Explain(err))
		return nil, err
	}
	s.agent.log.Debug("fetched for the local API", "secret", r.String(), "version", secret.VersionID)
	return s.answer(r, secret), nil
}

func (s *Secrets) answer(r httpapi.Request, secret kms.Secret) *httpapi.Secret {
	data, kind := string(secret.Data), "text"
	if secret.Binary {
		data, kind = base64.StdEncoding.EncodeToString(secret.Data), "binary"
	}
	answer := &httpapi.Secret{
		RequestID: secret.Answer.RequestID, Name: secret.Name, Type: secret.Type, Data: data, DataType: kind,
		VersionID: secret.VersionID, Stages: secret.Stages, CreateTime: secret.Answer.CreateTime,
		AutomaticRotation: secret.Answer.AutomaticRotation, RotationInterval: secret.Answer.RotationInterval,
		LastRotationDate: secret.Answer.LastRotationDate, NextRotationDate: secret.Answer.NextRotationDate,
		ExtendedConfig: secret.Answer.ExtendedConfig,
	}
	account, isRole := strings.CutPrefix(s.agent.role, "acs:ram::")
	switch account, _, _ = strings.Cut(account, ":"); {
	case strings.HasPrefix(r.SecretID, "acs:"):
		answer.ARN = r.SecretID
	case isRole && s.region != "":
		answer.ARN = "acs:kms:" + s.region + ":" + account + ":secret/" + secret.Name
	}
	return answer
}

// refusal makes the local API's answer of what reader returns.
func (a *Agent) refusal(err error) error {
	var gateway *kms.Error
	var sts *identity.Error
	e := &httpapi.Error{Status: http.StatusInternalServerError, Code: httpapi.CodeInternal, Message: err.Error()}
	e.RetryAfter = retryAfter(err)
	switch {
	case errors.Is(err, context.Canceled), rationed(err):
		return err
	case errors.As(err, &gateway) && gateway.Code != "":
		e.Status, e.Code, e.Message, e.RequestID = gateway.Status, gateway.Code, gateway.Message, gateway.RequestID
		if e.Status < http.StatusBadRequest {
			e.Status = http.StatusBadGateway
		}
	case timedOut(err):
		e.Status, e.Code = http.StatusGatewayTimeout, httpapi.CodeTimeout
	case errors.As(err, &sts) && sts.Code != "":
		// STS's status is not known. To the one who asks it is as if KMS had refused, unless it passes.
		e.Status, e.Code, e.Message, e.RequestID = http.StatusForbidden, sts.Code, sts.Error(), sts.RequestID
		if sts.Retryable() {
			e.Status = http.StatusBadGateway
		}
	case gateway != nil, sts != nil:
		e.Status, e.Code = http.StatusBadGateway, httpapi.CodeConnection
	}
	if cause, cure := a.advise(err); cause != "" {
		e.Recommend = cause + "; " + cure
	}
	return e
}

func timedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}
