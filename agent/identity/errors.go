package identity

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
)

// Action is the call that failed.
type Action string

// The actions: two of STS, and that of the node's metadata service.
const (
	AssumeRoleWithOIDC Action = "AssumeRoleWithOIDC"
	AssumeRole         Action = "AssumeRole"
	GetNodeRole        Action = "GetNodeRole"
)

// CodeMetadataDisabled is the Code when the environment forbids to ask the metadata service. Its other codes are "HTTP "
// and a status, because it has none.
const CodeMetadataDisabled = "MetadataDisabled"

// Error is a refusal by STS or the node's metadata service, or a failure to reach it. It names what the role's trust
// policy is compared with, and never holds a token, a credential or an answer that was not understood.
type Error struct {
	Action      Action
	Host        string // that was asked
	RoleARN     string // empty for the node's role
	ProviderARN string // of AssumeRoleWithOIDC
	Caller      string // of AssumeRole: the identity that asked for the role, in words

	Code      string // STS's error code; empty if Err says what went wrong
	Message   string
	RequestID string

	// What the token claims, unverified: the trust policy's oidc:iss, oidc:sub and oidc:aud.
	Issuer   string
	Subject  string
	Audience []string

	Err error // network, TLS, or an answer that is not one of STS; nil if Code is set
}

func (e *Error) Error() string {
	what := "assume " + e.RoleARN
	switch {
	case e.Action == GetNodeRole:
		what = "get the node's role"
	case e.Caller != "":
		what += " as " + e.Caller
	}
	switch {
	case e.Code == "":
		return fmt.Sprintf("%s at %s: %v", what, e.Host, e.Err)
	case e.RequestID == "":
		return fmt.Sprintf("%s at %s: %s: %s", what, e.Host, e.Code, e.Message)
	}
	return fmt.Sprintf("%s at %s: %s: %s (request %s)", what, e.Host, e.Code, e.Message, e.RequestID)
}

func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same exchange may succeed later without any other change.
func (e *Error) Retryable() bool {
	if e.Code != "" {
		return strings.HasPrefix(e.Code, "Throttling") ||
			e.Code == "ServiceUnavailable" || e.Code == "ServiceUnavailableTemporary" ||
			e.Code == "InternalError" || e.Code == "InternalFailure" ||
			strings.HasPrefix(e.Code, "HTTP 5") || e.Code == "HTTP 429"
	}
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](e.Err)
	return !untrusted
}

// TokenError says that the pod's ServiceAccount token could not be read.
type TokenError struct {
	Path string
	Err  error
}

func (e *TokenError) Error() string {
	return fmt.Sprintf("read ServiceAccount token %s: %v", e.Path, e.Err)
}

func (e *TokenError) Unwrap() error { return e.Err }

var errNotSTS = errors.New("the answer was cut off or is not one of STS")

// refused returns the Error for an answer other than 200. A body that is not STS's error document is left out: it is a proxy's,
// and may hold anything.
func (e Error) refused(answer openapi.Answer, doc openapi.Refusal) *Error {
	const unknown = "the answer is not an error of STS; is there a proxy in between?"
	switch {
	case doc.Code != "":
		e.Code, e.Message, e.RequestID = doc.Code, doc.Message, doc.RequestID
	case answer.Status == http.StatusTooManyRequests:
		e.Code, e.Message = "HTTP 429", unknown
	default:
		e.Err = fmt.Errorf("HTTP %d: %s", answer.Status, unknown)
	}
	return &e
}
