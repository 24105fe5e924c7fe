package kms

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
)

const answer = `{"RequestId":"R1","SecretName":"app/db","SecretType":"Rds","SecretData":"sentinel <&> \u2028 é","SecretDataType":"text",
"VersionId":"v2","VersionStages":{"VersionStage":["ACSCurrent","prod"]},"NextRotationDate":"2030-01-02T03:04:05Z",
"AutomaticRotation":"Enabled"}`

var session = Credentials{AccessKeyID: "STS.id", AccessKeySecret: "sentinel-key", SecurityToken: "sentinel-token"}

// serve runs a gateway on loopback, over TLS with a private CA.
func serve(t *testing.T, handler http.HandlerFunc) (*httptest.Server, Config) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	return server, Config{Endpoint: server.Listener.Addr().String(), Settings: openapi.Settings{Roots: roots}}
}

func reply(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

func client(t *testing.T, cfg Config) *Client {
	t.Helper()
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTextSecret(t *testing.T) {
	var got *http.Request
	_, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		io.WriteString(w, answer)
	})
	s, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "app/db", VersionID: "v2", VersionStage: "prod"})
	if err != nil {
		t.Fatal(err)
	}
	if string(s.Data) != "sentinel <&> \u2028 é" || s.Binary {
		t.Errorf("value %q, binary %v", s.Data, s.Binary)
	}
	if s.Name != "app/db" || s.Type != "Rds" || s.VersionID != "v2" || fmt.Sprint(s.Stages) != "[ACSCurrent prod]" ||
		!s.NextRotation.Equal(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)) {
		t.Errorf("got %+v", s)
	}
	query := got.URL.Query()
	if got.Method != "POST" || query.Get("SecretName") != "app/db" || query.Get("VersionId") != "v2" || query.Get("VersionStage") != "prod" ||
		query.Get("FetchExtendedConfig") != "true" || len(query) != 4 {
		t.Errorf("asked %s %s", got.Method, got.URL)
	}
	for header, want := range map[string]string{
		"x-acs-action": "GetSecretValue", "x-acs-version": "2016-01-20",
		"x-acs-accesskey-id": "STS.id", "x-acs-security-token": "sentinel-token",
	} {
		if v := got.Header.Get(header); v != want {
			t.Errorf("%s: %q, want %q", header, v, want)
		}
	}
	if got.Host != cfg.Endpoint || !strings.HasPrefix(got.Header.Get("Authorization"), "ACS3-HMAC-SHA256 Credential=STS.id,") {
		t.Errorf("host %s, authorization %s", got.Host, got.Header.Get("Authorization"))
	}
	for _, format := range []string{"%v", "%+v", "%#v"} {
		if text := fmt.Sprintf(format, s); strings.Contains(text, "sentinel") {
			t.Errorf("%s prints the value: %s", format, text)
		}
	}
}

func TestBinarySecret(t *testing.T) {
	_, cfg := serve(t, reply(200, `{"SecretName":"k","SecretData":"AP8KAA==","SecretDataType":"binary","VersionId":"v1"}`))
	s, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "k"})
	if err != nil || string(s.Data) != "\x00\xff\n\x00" || !s.Binary || !s.NextRotation.IsZero() {
		t.Errorf("got %q, binary %v, %v", s.Data, s.Binary, err)
	}
}

func TestEmptyValueIsAValue(t *testing.T) {
	_, cfg := serve(t, reply(200, `{"SecretName":"k","SecretData":"","SecretDataType":"text","VersionId":"v1"}`))
	s, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "k"})
	if err != nil || len(s.Data) != 0 {
		t.Errorf("got %q, %v", s.Data, err)
	}
}

func TestErrors(t *testing.T) {
	doc := func(code string) string {
		return `{"Code":"` + code + `","Message":"because","RequestId":"R1","HostId":"h","Recommend":"r"}`
	}
	for _, test := range []struct {
		status int
		body   string
		code   string
		class  Class
	}{
		{404, doc("Forbidden.ResourceNotFound"), "Forbidden.ResourceNotFound", NotFound},
		{403, doc("Forbidden.NoPermission"), "Forbidden.NoPermission", Permanent},
		{404, doc("Forbidden.KeyNotFound"), "Forbidden.KeyNotFound", Permanent},
		{403, doc("InvalidSecurityToken.Expired"), "InvalidSecurityToken.Expired", CredentialsRejected},
		{404, doc("InvalidAccessKeyId.NotFound"), "InvalidAccessKeyId.NotFound", CredentialsRejected},
		{400, doc("Throttling.User"), "Throttling.User", Retryable},
		{429, doc("Rejected.Throttling"), "Rejected.Throttling", Retryable},
		{429, doc("Unheard.Of"), "Unheard.Of", Retryable},
		{503, doc("ServiceUnavailableTemporary"), "ServiceUnavailableTemporary", Retryable},
		{500, doc("InternalFailure"), "InternalFailure", Retryable},
		{503, "<html>sentinel</html>", "", Retryable},
		{407, "sentinel: say who you are", "", Permanent},
		{200, "sentinel", "", Retryable},
		{200, `{"SecretName":"sentinel"}`, "", Retryable},
		{200, `{"SecretData":"sentinel!","SecretDataType":"binary","VersionId":"v1"}`, "", Retryable},
		{200, `{"SecretData":"sentinel`, "", Retryable},
		{200, `{"SecretData":"` + strings.Repeat("sentinel", 1<<17) + `","VersionId":"v1"}`, "", Retryable},
	} {
		t.Run(fmt.Sprint(test.status, test.code), func(t *testing.T) {
			var calls atomic.Int64
			_, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
				calls.Add(1)
				reply(test.status, test.body)(w, r)
			})
			_, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "app/db"})
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("got %T %v", err, err)
			}
			if e.Status != test.status || e.Code != test.code || e.Class() != test.class || e.Ref.Name != "app/db" {
				t.Errorf("status %d, code %q, class %d: %v", e.Status, e.Code, e.Class(), err)
			}
			if test.code != "" && (e.RequestID != "R1" || e.Message != "because") {
				t.Errorf("got %+v", e)
			}
			if strings.Contains(err.Error(), "sentinel") || !strings.Contains(err.Error(), "app/db") {
				t.Errorf("message: %v", err)
			}
			if n := calls.Load(); n != 1 {
				t.Errorf("%d requests, want 1: retrying is the caller's", n)
			}
		})
	}
}

// The gateway quotes the request, with the session token, when it does not accept its signature.
func TestMessagesThatQuoteTheRequest(t *testing.T) {
	for _, code := range []string{"SignatureDoesNotMatch", "IncompleteSignature", "InvalidParameter"} {
		_, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
			quoted := "server CanonicalRequest is [x-acs-security-token:" + r.Header.Get("x-acs-security-token")
			reply(400, `{"Code":"`+code+`","Message":"`+quoted+`","RequestId":"R1"}`)(w, r)
		})
		_, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "k"})
		if err == nil || strings.Contains(err.Error(), "sentinel") || !strings.Contains(err.Error(), code) {
			t.Errorf("got %v", err)
		}
	}
}

func TestRedirectIsNotFollowed(t *testing.T) {
	_, elsewhere := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the session token was carried along") })
	_, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "https://"+elsewhere.Endpoint, http.StatusTemporaryRedirect)
	})
	_, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "k"})
	var e *Error
	if !errors.As(err, &e) || e.Status != 307 || e.Class() != Permanent {
		t.Errorf("got %v", err)
	}
}

func TestTimeLimits(t *testing.T) {
	release := make(chan struct{})
	_, cfg := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() // headers, then silence
		<-release
	})
	t.Cleanup(func() { close(release) })

	cfg.Timeout = 200 * time.Millisecond
	_, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "k"})
	var e *Error
	if !errors.As(err, &e) || e.Class() != Retryable {
		t.Errorf("own limit: %v", err)
	}

	cfg.Timeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, err = client(t, cfg).GetSecretValue(ctx, session, Ref{Name: "k"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's limit: %v", err)
	}
}

// The SDK's own HTTP client keeps the first CA that it was given for a host.
func TestEachClientTrustsItsOwnCA(t *testing.T) {
	_, cfg := serve(t, reply(200, answer))
	wrong := Config{Endpoint: cfg.Endpoint} // the system's roots only
	for i, test := range []struct {
		cfg Config
		ok  bool
	}{{cfg, true}, {wrong, false}, {cfg, true}} {
		_, err := client(t, test.cfg).GetSecretValue(t.Context(), session, Ref{Name: "k"})
		if (err == nil) != test.ok {
			t.Errorf("client %d: %v", i, err)
		}
		var e *Error
		if errors.As(err, &e) && e.Class() != Permanent {
			t.Errorf("a certificate that is not trusted is retried: %v", err)
		}
	}
}

func TestConnectionsAreShared(t *testing.T) {
	var mu sync.Mutex
	from := map[string]bool{}
	_, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		from[r.RemoteAddr] = true
		mu.Unlock()
		io.WriteString(w, answer)
	})
	c := client(t, cfg)
	for range 5 {
		if _, err := c.GetSecretValue(t.Context(), session, Ref{Name: "k"}); err != nil {
			t.Fatal(err)
		}
	}
	if len(from) != 1 {
		t.Errorf("5 calls used %d connections, want 1", len(from))
	}
}

// A host that accepts the connection and never finishes the TLS handshake has taken no request, and the error does not say so.
func TestHandshakeThatHangs(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	_, cfg := serve(t, reply(200, answer))
	cfg.Endpoint, cfg.ConnectTimeout = listener.Addr().String(), 200*time.Millisecond
	_, err = client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "k"})
	var e *Error
	if !errors.As(err, &e) || e.Class() != Retryable || !strings.Contains(err.Error(), "TLS handshake timeout") {
		t.Errorf("got %v", err)
	}
}

func TestNobodyListens(t *testing.T) {
	server, cfg := serve(t, reply(200, answer))
	server.Close()
	_, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "k"})
	var e *Error
	if !errors.As(err, &e) || e.Class() != Retryable || e.Status != 0 {
		t.Errorf("got %v", err)
	}
}

func TestBadConfig(t *testing.T) {
	for _, cfg := range []Config{{}, {Endpoint: "https://kms.cn-hangzhou.aliyuncs.com"}} {
		if _, err := New(cfg); err == nil {
			t.Errorf("%+v was accepted", cfg)
		}
	}
}
