package identity

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
)

const answer = `{"RequestId":"R1","Credentials":{"AccessKeyId":"STS.id","AccessKeySecret":"s","SecurityToken":"t",` +
	`"Expiration":"2099-01-01T00:00:00Z"}}`

// jwt is a token with these claims and no valid signature.
func jwt(t *testing.T, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return "e30." + base64.RawURLEncoding.EncodeToString(payload) + ".sentinel-signature"
}

// start runs an STS on loopback, over TLS with a private CA, and returns a Source that talks to it through the SDK.
func start(t *testing.T, handler http.HandlerFunc, onState ...func(net.Conn, http.ConnState)) *Source {
	t.Helper()
	return startWithin(t, time.Minute, handler, onState...)
}

func startWithin(t *testing.T, timeout time.Duration, handler http.HandlerFunc, onState ...func(net.Conn, http.ConnState)) *Source {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	for _, f := range onState {
		server.Config.ConnState = f
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	file := filepath.Join(t.TempDir(), "token")
	token := jwt(t, map[string]any{"iss": "https://issuer.example", "sub": "system:serviceaccount:shop:web",
		"aud": []string{"sts.aliyuncs.com"}})
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ALIBABA_CLOUD_OIDC_TOKEN", "token-of-the-environment")
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	source, err := source(NewRRSA(RRSA{
		RoleARN: "acs:ram::1:role/web", ProviderARN: "acs:ram::1:oidc-provider/ack-rrsa-c", Token: TokenFile(file), STS: STS{
			SessionName: "shop.web.pod", Endpoint: server.Listener.Addr().String(),
			Settings: openapi.Settings{Roots: roots, ConnectTimeout: timeout, Timeout: timeout},
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func TestExchange(t *testing.T) {
	var form map[string][]string
	source := start(t, func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		form = r.Form
		form["Action"] = r.Header.Values("x-acs-action")
		io.WriteString(w, answer)
	})
	before := time.Now()
	c := get(t, source)
	if c.AccessKeyID != "STS.id" || c.AccessKeySecret != "s" || c.SecurityToken != "t" {
		t.Errorf("got %#v", c)
	}
	if left := c.Expires.Sub(before); left < time.Hour || left > time.Hour+time.Minute {
		t.Errorf("expires in %s, want an hour", left)
	}
	for key, want := range map[string]string{
		"Action": "AssumeRoleWithOIDC", "RoleArn": "acs:ram::1:role/web", "DurationSeconds": "3600",
		"OIDCProviderArn": "acs:ram::1:oidc-provider/ack-rrsa-c", "RoleSessionName": "shop.web.pod",
	} {
		if got := form[key]; len(got) != 1 || got[0] != want {
			t.Errorf("%s = %q, want %q", key, got, want)
		}
	}
	if got := form["OIDCToken"][0]; !strings.HasSuffix(got, ".sentinel-signature") {
		t.Errorf("the token of the file was not sent, or not trimmed: %q", got)
	}
}

func TestAnswersThatAreRefusals(t *testing.T) {
	for _, test := range []struct {
		name      string
		status    int
		body      string
		code      string
		retryable bool
	}{
		{"no permission", 403, `{"Code":"AuthenticationFail.NoPermission","Message":"no","RequestId":"R1"}`, "AuthenticationFail.NoPermission",
			false},
		{"expired token", 400, `{"Code":"AuthenticationFail.OIDCToken.Expired","Message":"expired","RequestId":"R1"}`,
			"AuthenticationFail.OIDCToken.Expired", false},
		{"throttled", 400, `{"Code":"Throttling.User","Message":"slow down","RequestId":"R1"}`, "Throttling.User", true},
		{"broken", 503, `{"Code":"ServiceUnavailable","Message":"later","RequestId":"R1"}`, "ServiceUnavailable", true},
		{"page of a proxy", 502, `<html>sentinel-body</html>`, "", true},
		{"throttled by a proxy", 429, `<html>sentinel-body</html>`, "HTTP 429", true},
		{"JSON of another service", 500, `{"error":"sentinel-body"}`, "", true},
		{"success without expiration", 200,
			`{"Credentials":{"AccessKeyId":"a","AccessKeySecret":"sentinel-body","SecurityToken":"sentinel-body"}}`, "", true},
		{"success without credentials", 200, `{"sentinel-body":1}`, "", true},
		{"garbage", 200, `sentinel-body`, "", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			source := start(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(test.status)
				io.WriteString(w, test.body)
			})
			_, err := source.Credentials(t.Context())
			var refusal *Error
			if !errors.As(err, &refusal) {
				t.Fatalf("got %T %v", err, err)
			}
			if refusal.Code != test.code || refusal.Retryable() != test.retryable {
				t.Errorf("code %q, retryable %v: %v", refusal.Code, refusal.Retryable(), err)
			}
			if strings.Contains(test.body, "R1") && refusal.RequestID != "R1" {
				t.Errorf("request id %q", refusal.RequestID)
			}
			if status := fmt.Sprint("HTTP ", test.status); test.status != 200 && refusal.RequestID == "" && !strings.Contains(err.Error(), status) {
				t.Errorf("%s is not in it: %v", status, err)
			}
			if refusal.Subject != "system:serviceaccount:shop:web" || refusal.Issuer != "https://issuer.example" ||
				fmt.Sprint(refusal.Audience) != "[sts.aliyuncs.com]" {
				t.Errorf("claims: %+v", refusal)
			}
			if strings.Contains(err.Error(), "sentinel") {
				t.Errorf("leak: %v", err)
			}
		})
	}
}

func TestMessageThatEchoesTheToken(t *testing.T) {
	source := start(t, func(w http.ResponseWriter, r *http.Request) {
		r.ParseForm()
		w.WriteHeader(400)
		fmt.Fprintf(w, `{"Code":"InvalidParameter.OIDCToken","Message":"bad %s","RequestId":"R"}`, r.Form.Get("OIDCToken"))
	})
	_, err := source.Credentials(t.Context())
	if err == nil || strings.Contains(err.Error(), "sentinel") {
		t.Errorf("got %v", err)
	}
}

func TestHangEndsWithItsTimeout(t *testing.T) {
	release := make(chan struct{})
	source := startWithin(t, 200*time.Millisecond, func(http.ResponseWriter, *http.Request) { <-release })
	t.Cleanup(func() { close(release) })
	_, err := source.Credentials(t.Context())
	var failure *Error
	if !errors.As(err, &failure) || !failure.Retryable() {
		t.Errorf("got %v", err)
	}
}

// Each Source trusts what it is told to, whatever others of the process do.
func TestForeignCertificateIsNotRetried(t *testing.T) {
	trusting := start(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) })
	get(t, trusting)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) }))
	defer server.Close()
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	strict, err := accessKey(AccessKey{ID: "a", Secret: "b", RoleARN: "acs:ram::1:role/web",
		STS: STS{Endpoint: server.Listener.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = strict.Credentials(t.Context())
	var failure *Error
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &failure) || failure.Retryable() || !errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
	trusting.Invalidate(get(t, trusting))
	get(t, trusting)
}

func TestTokenFile(t *testing.T) {
	for name, content := range map[string]*string{"missing": nil, "empty": new(string)} {
		path := filepath.Join(t.TempDir(), "token")
		if content != nil {
			if err := os.WriteFile(path, []byte(*content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := TokenFile(path)(t.Context())
		var bad *TokenError
		if !errors.As(err, &bad) || bad.Path != path {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestExchangesLeaveNoConnections(t *testing.T) {
	const exchanges = 5
	closed := make(chan struct{}, exchanges)
	source := start(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answer) },
		func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				closed <- struct{}{}
			}
		})
	for range exchanges {
		source.Invalidate(get(t, source))
	}
	for range exchanges { // the test's own time limit ends it if the SDK keeps one
		<-closed
	}
}
