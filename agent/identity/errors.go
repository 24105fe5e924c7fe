package identity

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
)

// Error is a refusal by STS, or a failure to reach it. It names what the role's trust policy is compared with, and
// never holds a token, a credential or an answer that was not understood.
type Error struct {
	Host        string // where STS was asked
	RoleARN     string
	ProviderARN string

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
	if e.Code == "" {
		return fmt.Sprintf("assume %s at %s: %v", e.RoleARN, e.Host, e.Err)
	}
	return fmt.Sprintf("assume %s at %s: %s: %s (request %s)", e.RoleARN, e.Host, e.Code, e.Message, e.RequestID)
}

func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same exchange may succeed later without anybody changing anything.
func (e *Error) Retryable() bool {
	if e.Code != "" {
		return strings.HasPrefix(e.Code, "Throttling") ||
			e.Code == "ServiceUnavailable" || e.Code == "ServiceUnavailableTemporary" ||
			e.Code == "InternalError" || e.Code == "InternalFailure"
	}
	var certificate *tls.CertificateVerificationError
	return !errors.As(e.Err, &certificate)
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
