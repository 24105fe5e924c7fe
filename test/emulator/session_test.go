package emulator

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/acs3"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/oidc"
)

// cloudAt is a cloud whose time the test sets, with a session of an hour of a role that may read the secret "a".
func cloudAt(t *testing.T, now *time.Time) (*Emulator, session) {
	t.Helper()
	e, err := New(Config{
		Account: "1",
		Roles: []Role{{
			Name:        "r",
			TrustPolicy: `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Federated":"x"}}]}`,
			Policies:    []string{`{"Version":"1","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*"}]}`},
		}},
		Secrets: []Secret{{Name: "a", Value: Value{Text: "x"}}},
	}, WithClock(func() time.Time { return *now }))
	if err != nil {
		t.Fatal(err)
	}
	return e, e.sessions.add(session{role: roleARN("r", "1"), account: "1", expires: now.Add(time.Hour)}, *now)
}

// signed is a request for the secret "a", signed at the given time.
func signed(s session, at time.Time, nonce string) *http.Request {
	r := httptest.NewRequest("POST", "https://kms.cn-hangzhou.aliyuncs.com/?SecretName=a", nil)
	for name, value := range map[string]string{
		"x-acs-action": "GetSecretValue", "x-acs-version": versions[kms], "x-acs-date": stamp(at),
		"x-acs-content-sha256": acs3.HashBody(nil), "x-acs-signature-nonce": nonce, "x-acs-security-token": s.token,
	} {
		if value != "" {
			r.Header.Set(name, value)
		}
	}
	signature := acs3.Sign(s.secret, acs3.StringToSign(acs3.CanonicalRequest(r, nil)))
	r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s,SignedHeaders=host,Signature=%s", acs3.Algorithm, s.accessKeyID, signature))
	return r
}

func (e *Emulator) codeOf(t *testing.T, r *http.Request) string {
	t.Helper()
	w := httptest.NewRecorder()
	e.ServeHTTP(w, r)
	if w.Code == http.StatusOK {
		return CodeOK
	}
	return checkRefusal(t, w)
}

func TestSessionLifetime(t *testing.T) {
	start := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	now := start
	e, s := cloudAt(t, &now)
	for _, x := range []struct {
		after time.Duration
		code  string
	}{
		{0, CodeOK},
		{time.Hour - time.Second, CodeOK},
		{time.Hour, "InvalidSecurityToken.Expired"},
		{2 * time.Hour, "InvalidSecurityToken.Expired"},
	} {
		now = start.Add(x.after)
		if got := e.codeOf(t, signed(s, now, x.after.String())); got != x.code {
			t.Errorf("after %s: got %s, want %s", x.after, got, x.code)
		}
	}
	// The next session sweeps out what ended long ago.
	now = start.Add(2*time.Hour + time.Second)
	e.sessions.add(session{expires: now.Add(time.Hour)}, now)
	if got := e.codeOf(t, signed(s, now, "late")); got != "InvalidAccessKeyId.NotFound" {
		t.Errorf("long after: got %s", got)
	}
}

func TestRequestDates(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e, s := cloudAt(t, &now)
	for _, x := range []struct {
		skew time.Duration
		code string
	}{
		{maxSkew, CodeOK}, {-maxSkew, CodeOK},
		{maxSkew + time.Second, "InvalidTimeStamp.Expired"}, {-maxSkew - time.Second, "InvalidTimeStamp.Expired"},
	} {
		if got := e.codeOf(t, signed(s, now.Add(x.skew), x.skew.String())); got != x.code {
			t.Errorf("date off by %s: got %s, want %s", x.skew, got, x.code)
		}
	}
}

// A nonce is remembered for as long as its request could be replayed, and no longer.
func TestNonces(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	e, s := cloudAt(t, &now)
	ahead := now.Add(maxSkew)
	replay := func() string { return e.codeOf(t, signed(s, ahead, "n")) }
	if got := replay(); got != CodeOK {
		t.Fatal(got)
	}
	for range 2 {
		now = now.Add(maxSkew)
		if got := replay(); got != "SignatureNonceUsed" {
			t.Errorf("replayed: got %s", got)
		}
	}
	for range 2 {
		if got := e.codeOf(t, signed(s, now, "")); got != CodeOK {
			t.Errorf("without a nonce: got %s", got)
		}
	}
	now = now.Add(2*maxSkew - time.Second) // the session has a second left
	if got := e.codeOf(t, signed(s, now, "other")); got != CodeOK || len(e.nonces.used) != 1 {
		t.Errorf("got %s, %d nonces remembered", got, len(e.nonces.used))
	}
}

// Two sessions are never alike, and their parts have the form of STS's.
func TestCredentialsForm(t *testing.T) {
	now := time.Now()
	e, a := cloudAt(t, &now)
	b := e.sessions.add(session{expires: now}, now)
	if a.accessKeyID == b.accessKeyID || a.secret == b.secret || a.token == b.token {
		t.Error("two sessions share credentials")
	}
	if len(a.accessKeyID) != len("STS.")+26 || len(a.secret) != 44 || len(a.token) < 400 {
		t.Errorf("lengths %d, %d, %d", len(a.accessKeyID), len(a.secret), len(a.token))
	}
}

// Another account's secret needs more than the caller's own policy.
func TestOtherAccounts(t *testing.T) {
	now := time.Now()
	e, s := cloudAt(t, &now)
	if err := e.PutSecret(Secret{Account: "2", Name: "a", Value: Value{Text: "x"}}); err != nil {
		t.Fatal(err)
	}
	c := &call{caller: s, region: defaultRegion, params: map[string][]string{"SecretName": {"acs:kms:cn-hangzhou:2:secret/a"}}}
	if _, p := e.getSecretValue(t.Context(), c); p == nil || p.code != "Forbidden.NoPermission" {
		t.Errorf("got %v", p)
	}
}

func TestRefusedTokenCodes(t *testing.T) {
	for err, want := range map[error]string{
		oidc.ErrExpired: "Expired", oidc.ErrAudience: "AudienceNotMatch", oidc.ErrIssuer: "IssuerNotMatch",
		oidc.ErrKeys: "IssuerConfigurationBroken", oidc.ErrInvalid: "Invalid",
	} {
		if got := refusedToken(fmt.Errorf("wrapped: %w", err), oidc.Provider{}); got.code != "AuthenticationFail.OIDCToken."+want ||
			got.status != 401 {
			t.Errorf("%v: got %d %s", err, got.status, got.code)
		}
	}
}
