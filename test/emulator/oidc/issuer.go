package oidc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// An Issuer signs tokens as a cluster's API server does for its ServiceAccounts.
type Issuer struct {
	URL   string
	Clock func() time.Time // tells the time of issue. Default: time.Now.

	key jose.JSONWebKey
}

// NewIssuer makes an issuer with a fresh key.
func NewIssuer(url string) (*Issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of issuer %s: %w", url, err)
	}
	return &Issuer{
		URL: url, Clock: time.Now,
		key: jose.JSONWebKey{Key: key, KeyID: rand.Text(), Algorithm: string(jose.ES256), Use: "sig"},
	}, nil
}

// JWKS returns the issuer's public key as a JSON Web Key Set.
func (i *Issuer) JWKS() []byte {
	document, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.key.Public()}})
	if err != nil {
		panic(err) // a key we made ourselves always encodes
	}
	return document
}

// Token signs a token of the subject for sts.aliyuncs.com, valid for an hour from now. The changes are made before it
// is signed.
func (i *Issuer) Token(subject string, changes ...func(*jwt.Claims)) (string, error) {
	now := i.Clock()
	claims := jwt.Claims{
		Issuer:    i.URL,
		Subject:   subject,
		Audience:  jwt.Audience{"sts.aliyuncs.com"},
		IssuedAt:  jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now),
		Expiry:    jwt.NewNumericDate(now.Add(time.Hour)),
	}
	for _, change := range changes {
		change(&claims)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, nil)
	if err != nil {
		return "", fmt.Errorf("sign a token of %s: %w", subject, err)
	}
	return jwt.Signed(signer).Claims(claims).Serialize()
}
