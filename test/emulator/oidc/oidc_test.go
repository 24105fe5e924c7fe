package oidc_test

import (
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/oidc"
)

const (
	issuerURL = "https://issuer.example"
	subject   = "system:serviceaccount:a:b"
)

func TestTimes(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	issuer := emulatortest.NewIssuer(t, issuerURL)
	issuer.Clock = func() time.Time { return now }
	keys, err := oidc.ParseKeys(issuer.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	p := oidc.Provider{Issuer: issuerURL, ClientIDs: []string{"sts.aliyuncs.com"}, Keys: keys}
	token := issuer.Token(t, subject)
	for _, x := range []struct {
		at   time.Duration
		want error
	}{
		{0, nil},
		{-oidc.Leeway, nil},
		{-oidc.Leeway - time.Second, oidc.ErrInvalid},
		{time.Hour + oidc.Leeway, nil},
		{time.Hour + oidc.Leeway + time.Second, oidc.ErrExpired},
	} {
		claims, err := p.Verify(t.Context(), token, now.Add(x.at))
		if !errors.Is(err, x.want) || (err == nil) != (x.want == nil) {
			t.Errorf("at %s: got %v, want %v", x.at, err, x.want)
		}
		if err == nil && (claims.Subject != subject || !claims.Expiry.Equal(now.Add(time.Hour))) {
			t.Errorf("at %s: got %v", x.at, claims)
		}
		if err != nil && strings.Contains(err.Error(), token) {
			t.Error("the error quotes the token")
		}
	}
}

// A token whose own key ID or algorithm tries to lead the verifier astray.
func TestForgedTokens(t *testing.T) {
	issuer := emulatortest.NewIssuer(t, issuerURL)
	keys, err := oidc.ParseKeys(issuer.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	p := oidc.Provider{Issuer: issuerURL, ClientIDs: []string{"sts.aliyuncs.com"}, Keys: keys}
	claims := jwt.Claims{
		Issuer: issuerURL, Subject: subject, Audience: jwt.Audience{"sts.aliyuncs.com"},
		IssuedAt: jwt.NewNumericDate(time.Now()), Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}
	own, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(issuer.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	kid := set.Keys[0].KeyID
	for name, key := range map[string]jose.SigningKey{
		"unknown key":           {Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: own, KeyID: "other"}},
		"issuer's key ID":       {Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: own, KeyID: kid}},
		"no key ID":             {Algorithm: jose.RS256, Key: own},
		"public key as HMAC's":  {Algorithm: jose.HS256, Key: jose.JSONWebKey{Key: issuer.JWKS(), KeyID: kid}},
		"key inside the header": {Algorithm: jose.RS256, Key: own},
	} {
		signer, err := jose.NewSigner(key, &jose.SignerOptions{EmbedJWK: name == "key inside the header"})
		if err != nil {
			t.Fatal(err)
		}
		token, err := jwt.Signed(signer).Claims(claims).Serialize()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Verify(t.Context(), token, time.Now()); !errors.Is(err, oidc.ErrInvalid) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
	for _, token := range []string{"", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "{}"} {
		if got, err := p.Verify(t.Context(), token, time.Now()); !errors.Is(err, oidc.ErrInvalid) {
			t.Errorf("%q: got %v, %v", token, got, err)
		}
	}
}

// cluster is an API server's discovery endpoints.
type cluster struct {
	*httptest.Server
	keys    atomic.Pointer[[]byte]
	fetched atomic.Int32
	ca      string
	token   string
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"issuer": c.URL, "jwks_uri": c.URL + "/openid/v1/jwks"})
	})
	mux.HandleFunc("GET /openid/v1/jwks", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer t" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		c.fetched.Add(1)
		w.Write(*c.keys.Load())
	})
	c.Server = httptest.NewTLSServer(mux)
	t.Cleanup(c.Close)
	dir := t.TempDir()
	c.ca, c.token = filepath.Join(dir, "ca.crt"), filepath.Join(dir, "token")
	pemText := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})
	if err := errors.Join(os.WriteFile(c.ca, pemText, 0o600), os.WriteFile(c.token, []byte("t\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) use(issuer *emulatortest.Issuer) {
	keys := issuer.JWKS()
	c.keys.Store(&keys)
}

func TestRemoteKeys(t *testing.T) {
	c := startCluster(t)
	issuer := emulatortest.NewIssuer(t, c.URL)
	c.use(issuer)
	for name, config := range map[string]oidc.RemoteConfig{
		"discovered": {Issuer: c.URL, CAFile: c.ca, TokenFile: c.token},
		"named":      {Issuer: "https://unreachable.example", URL: c.URL + "/openid/v1/jwks", CAFile: c.ca, TokenFile: c.token},
	} {
		t.Run(name, func(t *testing.T) {
			c.fetched.Store(0)
			remote, err := oidc.NewRemote(config)
			if err != nil {
				t.Fatal(err)
			}
			p := oidc.Provider{Issuer: c.URL, ClientIDs: []string{"sts.aliyuncs.com"}, Keys: remote}
			for range 3 {
				if _, err := p.Verify(t.Context(), issuer.Token(t, subject), time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			if n := c.fetched.Load(); n != 1 {
				t.Errorf("keys fetched %d times, want once", n)
			}
		})
	}
}

func TestUnavailableKeys(t *testing.T) {
	c := startCluster(t)
	issuer := emulatortest.NewIssuer(t, c.URL)
	c.use(issuer)
	for name, config := range map[string]oidc.RemoteConfig{
		"untrusted":     {Issuer: c.URL, TokenFile: c.token},
		"anonymous":     {Issuer: c.URL, CAFile: c.ca},
		"no token file": {Issuer: c.URL, CAFile: c.ca, TokenFile: c.token + "x"},
		"not found":     {Issuer: c.URL, URL: c.URL + "/nothing", CAFile: c.ca},
		"other issuer":  {Issuer: strings.Replace(c.URL, "127.0.0.1", "localhost", 1), CAFile: c.ca, TokenFile: c.token},
	} {
		t.Run(name, func(t *testing.T) {
			remote, err := oidc.NewRemote(config)
			if err != nil {
				t.Fatal(err)
			}
			p := oidc.Provider{Issuer: c.URL, ClientIDs: []string{"sts.aliyuncs.com"}, Keys: remote}
			if _, err := p.Verify(t.Context(), issuer.Token(t, subject), time.Now()); !errors.Is(err, oidc.ErrKeys) {
				t.Errorf("got %v, want %v", err, oidc.ErrKeys)
			}
		})
	}
	if _, err := oidc.NewRemote(oidc.RemoteConfig{CAFile: c.token}); err == nil {
		t.Error("a file without a certificate is taken for a certificate authority")
	}
}
