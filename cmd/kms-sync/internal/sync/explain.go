package sync

import (
	"errors"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/token"
)

// askerError is an error of STS or KMS, with who asked.
type askerError struct {
	asker store.Asker
	err   error
}

func (e *askerError) Error() string { return e.err.Error() }
func (e *askerError) Unwrap() error { return e.err }

// explained returns the failure of an entry: what failed, why, and what to change.
func explained(key string, err error) problem {
	p := problem{key: key, reason: reasonOf(err), message: err.Error()}
	var by *askerError
	if !errors.As(err, &by) {
		return p
	}
	adviser := failure.Adviser{Role: by.asker.Who.String(), Host: by.asker.Endpoint, Sync: true}
	if cause, cure := adviser.Advise(by.err); cause != "" {
		p.message += "; why: " + cause + "; fix: " + cure
	}
	return p
}

// reasonOf returns the reason of the condition Ready for an error of an entry.
func reasonOf(err error) string {
	var refusal *store.Refusal
	var request *token.Error
	var sts *identity.Error
	var gateway *kms.Error
	switch {
	case errors.As(err, &refusal):
		return refusal.Reason
	case errors.As(err, &request):
		return store.NotReady
	case errors.As(err, &sts):
		switch {
		case strings.HasPrefix(sts.Code, "Throttling"):
			return reasonThrottled
		case sts.Retryable():
			return reasonUnreachable
		}
		return reasonUntrusted
	case errors.As(err, &gateway):
		switch {
		case gateway.Class() == kms.NotFound:
			return reasonNotFound
		case strings.Contains(gateway.Code, "Throttling") || gateway.Status == 429:
			return reasonThrottled
		case gateway.Class() == kms.Retryable, gateway.Code == "":
			return reasonUnreachable
		}
		return store.Forbidden
	}
	return reasonContent
}
