package oidc

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	fetchTimeout = 10 * time.Second
	maxDocument  = 1 << 20
	// refetchAfter keeps tokens with made-up key IDs from causing a fetch each.
	refetchAfter = time.Second
)

// Static is a key set that does not change.
type Static struct {
	set jose.JSONWebKeySet
}

// ParseKeys reads a JSON Web Key Set.
func ParseKeys(document []byte) (*Static, error) {
	set, err := parseSet(document)
	return &Static{set}, err
}

// Keys implements KeySource.
func (s *Static) Keys(_ context.Context, keyID string) ([]jose.JSONWebKey, error) {
	return ofID(s.set, keyID), nil
}

// RemoteConfig says where an issuer's keys are.
type RemoteConfig struct {
	Issuer string // whose discovery document, <issuer>/.well-known/openid-configuration, names the keys' address
	// URL of the keys. Given, the discovery document is not asked: the address in a cluster's own often cannot be
	// reached from inside.
	URL       string
	CAFile    string // a PEM file with the certificate authorities to trust. Default: the system's.
	TokenFile string // holds the bearer token to send, read again for each fetch. Default: none is sent.
}

// Remote fetches an issuer's keys when they are first needed, and again when a token names a key it does not know.
// It is safe for concurrent use.
type Remote struct {
	config RemoteConfig
	client *http.Client

	mu      sync.Mutex
	set     jose.JSONWebKeySet
	fetched time.Time
}

// NewRemote reads the CA file; it fetches nothing yet.
func NewRemote(c RemoteConfig) (*Remote, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read certificate authorities of issuer %s: %w", c.Issuer, err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("read certificate authorities of issuer %s: %s holds no certificate", c.Issuer, c.CAFile)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	}
	return &Remote{config: c, client: &http.Client{Transport: transport, Timeout: fetchTimeout}}, nil
}

// Keys implements KeySource.
func (r *Remote) Keys(ctx context.Context, keyID string) ([]jose.JSONWebKey, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if keys := ofID(r.set, keyID); len(keys) > 0 || time.Since(r.fetched) < refetchAfter {
		return keys, nil
	}
	set, err := r.fetch(ctx)
	if err != nil {
		return nil, err
	}
	r.set, r.fetched = set, time.Now()
	return ofID(set, keyID), nil
}

func (r *Remote) fetch(ctx context.Context) (jose.JSONWebKeySet, error) {
	address := r.config.URL
	if address == "" {
		document, err := r.get(ctx, strings.TrimSuffix(r.config.Issuer, "/")+"/.well-known/openid-configuration")
		if err != nil {
			return jose.JSONWebKeySet{}, err
		}
		var discovery struct {
			Issuer  string `json:"issuer"`
			JWKSURI string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(document, &discovery); err != nil {
			return jose.JSONWebKeySet{}, fmt.Errorf("read discovery document of %s: %w", r.config.Issuer, err)
		}
		if discovery.Issuer != r.config.Issuer {
			return jose.JSONWebKeySet{}, fmt.Errorf("discovery document of %s is of issuer %q", r.config.Issuer, discovery.Issuer)
		}
		address = discovery.JWKSURI
	}
	document, err := r.get(ctx, address)
	if err != nil {
		return jose.JSONWebKeySet{}, err
	}
	return parseSet(document)
}

func (r *Remote) get(ctx context.Context, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	if r.config.TokenFile != "" {
		token, err := os.ReadFile(r.config.TokenFile)
		if err != nil {
			return nil, fmt.Errorf("read token for %s: %w", address, err)
		}
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fetch %s: status %d", address, resp.StatusCode)
	}
	document, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", address, err)
	}
	return document, nil
}

func parseSet(document []byte) (jose.JSONWebKeySet, error) {
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(document, &set); err != nil {
		return jose.JSONWebKeySet{}, fmt.Errorf("read JSON Web Key Set: %w", err)
	}
	if len(set.Keys) == 0 {
		return jose.JSONWebKeySet{}, fmt.Errorf("read JSON Web Key Set: it holds no key")
	}
	return set, nil
}

// ofID returns the keys of that ID, or all keys for a token that names none.
func ofID(set jose.JSONWebKeySet, keyID string) []jose.JSONWebKey {
	if keyID == "" {
		return set.Keys
	}
	return set.Key(keyID)
}
