// Package oidc signs the tokens of an OpenID Connect issuer as a cluster does, and verifies them as Alibaba Cloud's
// AssumeRoleWithOIDC does.
package oidc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// Leeway is how far the issuer's clock may differ from ours. Alibaba Cloud's figure is UNVERIFIED.
const Leeway = time.Minute

// The ways in which a token is refused; STS has an error code for each.
var (
	// ErrInvalid: not a signed JSON Web Token of this issuer, or a claim is missing.
	ErrInvalid = errors.New("invalid token")
	// ErrExpired: the token's time is over.
	ErrExpired = errors.New("token is expired")
	// ErrAudience: none of the token's audiences is a client ID of the provider.
	ErrAudience = errors.New("audience is not registered")
	// ErrIssuer: the token names another issuer than the provider's.
	ErrIssuer = errors.New("issuer does not match")
	// ErrKeys: the issuer's public keys cannot be fetched.
	ErrKeys = errors.New("issuer's keys are not available")
)

// KeySource gives an issuer's public keys.
type KeySource interface {
	// Keys returns the keys that may have the given ID. An error means that the keys are not known at all; no key
	// of that ID is an empty list.
	Keys(ctx context.Context, keyID string) ([]jose.JSONWebKey, error)
}

// Provider is an OIDC identity provider as registered in RAM.
type Provider struct {
	Issuer    string
	ClientIDs []string
	Keys      KeySource
}

// Claims are the parts of a token that trust policies and answers speak of.
type Claims struct {
	Issuer   string
	Subject  string
	Audience []string
	IssuedAt time.Time
	Expiry   time.Time
}

// The asymmetric algorithms that Kubernetes and other issuers sign with. HMAC and none are not among them: a public
// key must never serve as a shared secret.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512, jose.ES256, jose.ES384, jose.ES512,
}

// Verify checks the token's issuer, signature, times and audience at the given time. Its errors wrap those above and
// never quote the token.
func (p Provider) Verify(ctx context.Context, token string, now time.Time) (Claims, error) {
	parsed, err := jwt.ParseSigned(token, algorithms)
	if err != nil {
		return Claims{}, fmt.Errorf("%w: not a JSON Web Token in compact form", ErrInvalid)
	}
	var claims jwt.Claims
	if err := parsed.UnsafeClaimsWithoutVerification(&claims); err != nil {
		return Claims{}, fmt.Errorf("%w: unreadable claims", ErrInvalid)
	}
	if claims.Issuer != p.Issuer {
		return Claims{}, fmt.Errorf("%w: token has %q, provider %q", ErrIssuer, claims.Issuer, p.Issuer)
	}
	if err := p.verifySignature(ctx, parsed, &claims); err != nil {
		return Claims{}, err
	}
	if claims.Expiry == nil || claims.IssuedAt == nil || claims.Subject == "" {
		return Claims{}, fmt.Errorf("%w: want the claims exp, iat and sub", ErrInvalid)
	}
	switch err := claims.ValidateWithLeeway(jwt.Expected{AnyAudience: p.ClientIDs, Time: now}, Leeway); {
	case errors.Is(err, jwt.ErrExpired):
		return Claims{}, fmt.Errorf("%w since %s", ErrExpired, claims.Expiry.Time().UTC().Format(time.RFC3339))
	case errors.Is(err, jwt.ErrInvalidAudience):
		return Claims{}, fmt.Errorf("%w: token has %q, provider %q", ErrAudience, claims.Audience, p.ClientIDs)
	case err != nil:
		return Claims{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return Claims{
		Issuer:   claims.Issuer,
		Subject:  claims.Subject,
		Audience: claims.Audience,
		IssuedAt: claims.IssuedAt.Time(),
		Expiry:   claims.Expiry.Time(),
	}, nil
}

func (p Provider) verifySignature(ctx context.Context, token *jwt.JSONWebToken, claims *jwt.Claims) error {
	keys, err := p.Keys.Keys(ctx, token.Headers[0].KeyID)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKeys, err)
	}
	for _, key := range keys {
		if token.Claims(key.Public(), claims) == nil {
			return nil
		}
	}
	return fmt.Errorf("%w: signature is not by a key of the issuer", ErrInvalid)
}
