package kms

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
)

// Class says what a caller can do about an Error.
type Class int

// The classes.
const (
	Permanent           Class = iota // fails again until something is changed
	Retryable                        // may succeed later: throttling, an outage, the network
	CredentialsRejected              // may succeed with new credentials
	NotFound                         // KMS has no such secret, or no such version of it
)

// Error is a refusal by KMS, or a failure to reach it. It never holds a value, a token or an answer that was not
// understood.
type Error struct {
	Ref        Ref
	Status     int    // of HTTP; 0 if there was no answer
	Code       string // KMS's error code; empty if Err says what went wrong
	Message    string
	RequestID  string
	RetryAfter time.Duration // how long KMS, or something in between, asked to be left alone; 0 if it did not say
	Err        error
}

func (e *Error) Error() string {
	switch {
	case e.Code != "":
		return fmt.Sprintf("get secret %s: %s (HTTP %d): %s (request %s)", e.Ref, e.Code, e.Status, e.Message, e.RequestID)
	case e.Status != 0:
		return fmt.Sprintf("get secret %s: HTTP %d: %v", e.Ref, e.Status, e.Err)
	}
	return fmt.Sprintf("get secret %s: %v", e.Ref, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// RetryAfterHint is RetryAfter, for callers that know errors of several kinds.
func (e *Error) RetryAfterHint() time.Duration { return e.RetryAfter }

// retryable are the codes that stand for a state of KMS, whatever status they come with.
var retryable = []string{"ServiceUnavailableTemporary", "InternalFailure", "Rejected.Unavailable", "Rejected.Throttling"}

// Class sorts by code first: the status that some codes come with is not documented.
func (e *Error) Class() Class {
	var certificate *tls.CertificateVerificationError
	switch {
	case e.Code == "Forbidden.ResourceNotFound":
		return NotFound
	case strings.HasPrefix(e.Code, "InvalidSecurityToken"),
		e.Code == "InvalidAccessKeyId.NotFound": // the key of a session that has ended
		return CredentialsRejected
	case strings.HasPrefix(e.Code, "Throttling"), slices.Contains(retryable, e.Code),
		e.Status == http.StatusTooManyRequests, e.Status >= 500:
		return Retryable
	case errors.As(e.Err, &certificate):
		return Permanent
	case e.Code == "" && (e.Status == 0 || e.Status == http.StatusOK): // the network, or half an answer
		return Retryable
	}
	return Permanent
}

// refusal returns the error for an answer other than 200. A body that is not KMS's error document is left out: it is a
// proxy's, and may hold anything.
func refusal(ref Ref, answer openapi.Answer, doc openapi.Refusal) *Error {
	e := &Error{Ref: ref, Status: answer.Status, RetryAfter: retryAfter(answer.Header, time.Now())}
	if doc.Code == "" {
		e.Err = errors.New("the answer is not an error of KMS; is there a proxy in between?")
		return e
	}
	e.Code, e.Message, e.RequestID = doc.Code, doc.Message, doc.RequestID
	return e
}

// failure returns the error for a request without a whole answer.
func failure(ctx context.Context, ref Ref, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	e := &Error{Ref: ref, Err: err}
	if body, ok := errors.AsType[*openapi.BodyError](err); ok {
		e.Status, e.Err = body.Status, body.Err
	}
	return e
}

// retryAfter reads the header Retry-After: seconds, or a date.
func retryAfter(header http.Header, now time.Time) time.Duration {
	text := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(text); err == nil {
		return max(0, time.Duration(min(seconds, 1<<20))*time.Second)
	}
	if date, err := http.ParseTime(text); err == nil {
		return max(0, date.Sub(now))
	}
	return 0
}
