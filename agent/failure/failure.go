// Package failure says what the errors of STS and KMS mean: whether they pass by themselves, by which code they are known, why they
// happen and what to change.
package failure

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
)

// A RenderError is a file that cannot be made of what KMS gave.
type RenderError struct {
	Annotation string // without its prefix
	Err        error
}

func (e *RenderError) Error() string { return e.Err.Error() }

func (e *RenderError) Unwrap() error { return e.Err }

// Each returns the errors that are joined in err.
func Each(err error) (all []error) {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	for _, e := range joined.Unwrap() {
		all = append(all, Each(e)...)
	}
	return all
}

// of returns the refusals of KMS and of STS that are in an error, nil for none.
func of(err error) (gateway *kms.Error, sts *identity.Error) {
	gateway, _ = errors.AsType[*kms.Error](err)
	sts, _ = errors.AsType[*identity.Error](err)
	return gateway, sts
}

// Transient reports whether a retry may succeed without any other change, for every error in err.
func Transient(err error) bool {
	return !slices.ContainsFunc(Each(err), func(err error) bool {
		gateway, sts := of(err)
		return !(sts != nil && sts.Retryable() || gateway != nil && gateway.Class() == kms.Retryable)
	})
}

// Throttled reports whether something in err says that there are too many calls.
func Throttled(err error) bool {
	return slices.ContainsFunc(Each(err), func(err error) bool {
		switch gateway, sts := of(err); {
		case gateway != nil:
			return gateway.Status == 429 || gateway.Code == "Rejected.Throttling" || strings.HasPrefix(gateway.Code, "Throttling")
		case sts != nil:
			return sts.Code == "HTTP 429" || strings.HasPrefix(sts.Code, "Throttling")
		}
		return false
	})
}

// Refused reports whether KMS answered about this one secret, so that asking for others makes sense.
func Refused(err error) bool {
	e, _ := of(err)
	return e != nil && e.Code != "" && e.Class() == kms.Permanent
}

// Absent reports whether KMS has no such secret, or no such version of it.
func Absent(err error) bool {
	e, _ := of(err)
	return e != nil && e.Class() == kms.NotFound
}

// TimedOut reports whether there was no answer in time.
func TimedOut(err error) bool {
	var network net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout()
}

// RetryAfter returns the pause that an answer asked for; 0 if it did not.
func RetryAfter(err error) time.Duration {
	var hint interface{ RetryAfterHint() time.Duration }
	if !errors.As(err, &hint) {
		return 0
	}
	return max(0, hint.RetryAfterHint())
}

// Code returns the label of an outcome in metrics: the cloud's own code, if there is one.
func Code(err error) string {
	switch gateway, sts := of(err); {
	case err == nil:
		return metrics.OK
	case gateway != nil && gateway.Code != "":
		return gateway.Code
	case sts != nil && sts.Code != "":
		return sts.Code
	case TimedOut(err):
		return "Timeout"
	}
	return "Error"
}
