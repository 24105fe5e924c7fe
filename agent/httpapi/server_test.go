package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

const sentinel = "sentinel-value"

var dbSecret = &kms.Secret{
	Name: "app/db", Type: "Generic", Data: []byte(sentinel), VersionID: "v1", Stages: []string{"ACSCurrent"},
	Answer: kms.Answer{RequestID: "req-1", CreateTime: "2024-05-01T08:00:00Z"},
}

// origin is a Source that answers by the secret's name and remembers what it was asked.
type origin struct {
	mu      sync.Mutex
	asked   []Request
	answers map[string]any // *kms.Secret or error
	changes chan *kms.Secret
}

func newOrigin() *origin {
	return &origin{
		changes: make(chan *kms.Secret),
		answers: map[string]any{
			"app/db":                          dbSecret,
			"a+b":                             dbSecret,
			"acs:kms:cn-hangzhou:1:secret/x":  dbSecret,
			"app/denied":                      &Error{Status: 403, Code: "Forbidden.NoPermission", Message: "no", RequestID: "req-9"},
			"app/gone":                        &Error{Status: 404, Code: "Forbidden.ResourceNotFound", Message: "no", RequestID: "req-8"},
			"app/unreachable":                 &Error{Status: 502, Code: CodeConnection, Message: "KMS cannot be reached"},
			"app/rationed":                    &Error{Status: 429, Code: CodeTooManyCalls, Message: "no", RetryAfter: 1500 * time.Millisecond},
			"app/slow":                        context.DeadlineExceeded,
			"app/bug":                         errors.New("what only the log may say"),
			"app/with space and /slashes/%2F": dbSecret,
		},
	}
}

func (o *origin) Get(_ context.Context, r Request) (*kms.Secret, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, r)
	switch answer := o.answers[r.Name].(type) {
	case *kms.Secret:
		return answer, nil
	case error:
		return nil, answer
	}
	return nil, errors.New("the test has no such secret")
}

func (o *origin) Watch(context.Context, Request) <-chan *kms.Secret { return o.changes }

func (o *origin) last() Request {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.asked) == 0 {
		return Request{}
	}
	return o.asked[len(o.asked)-1]
}

// journal is a log that can be read while it is written.
type journal struct {
	mu   sync.Mutex
	text strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

const testToken = "TOKEN-0123456789"

// start serves on loopback until the test ends, and returns the address.
func start(t testing.TB, cfg Config) (address string, stop func()) {
	t.Helper()
	listener, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String(), serve(t, cfg, listener)
}

func serve(t testing.TB, cfg Config, listener net.Listener) (stop func()) {
	t.Helper()
	if cfg.Token == "" {
		cfg.Token = testToken
	}
	if cfg.Allow == nil {
		cfg.Allow = []string{"*"}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := server.Serve(ctx, listener); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(stop)
	return stop
}

// ask sends a request with the token, unless header has one or is not nil.
func ask(t testing.TB, method, url string, header map[string]string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if header == nil {
		header = map[string]string{"X-KMS-Token": testToken}
	}
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

func TestStatuses(t *testing.T) {
	noToken := map[string]string{}
	of := func(name string) Request { return Request{Ref: kms.Ref{Name: name}} }
	for name, c := range map[string]struct {
		method string // GET
		path   string
		header map[string]string // nil: the token
		status int
		code   string
		asked  Request
	}{
		"by query":          {path: "/secretsmanager/get?secretId=app/db", status: 200, asked: Request{Ref: kms.Ref{Name: "app/db"}}},
		"by query, escaped": {path: "/secretsmanager/get?secretId=app%2Fdb", status: 200, asked: Request{Ref: kms.Ref{Name: "app/db"}}},
		"by query, all": {path: "/secretsmanager/get?secretId=app/db&versionId=v1&versionStage=ACSPrevious&refreshNow=TRUE",
			status: 200, asked: Request{kms.Ref{Name: "app/db", VersionID: "v1", VersionStage: "ACSPrevious"}, true}},
		"refreshNow=0":     {path: "/secretsmanager/get?secretId=app/db&refreshNow=0", status: 200, asked: Request{Ref: kms.Ref{Name: "app/db"}}},
		"refreshNow=1":     {path: "/v1/app/db?refreshNow=1", status: 200, asked: Request{Ref: kms.Ref{Name: "app/db"}, RefreshNow: true}},
		"plus is plus":     {path: "/secretsmanager/get?secretId=a+b", status: 200, asked: Request{Ref: kms.Ref{Name: "a+b"}}},
		"escaped plus":     {path: "/secretsmanager/get?secretId=a%2Bb", status: 200, asked: Request{Ref: kms.Ref{Name: "a+b"}}},
		"by path":          {path: "/v1/app/db", status: 200, asked: Request{Ref: kms.Ref{Name: "app/db"}}},
		"by path, version": {path: "/v1/app/db?versionId=v1", status: 200, asked: Request{Ref: kms.Ref{Name: "app/db", VersionID: "v1"}}},
		"by path, escaped": {path: "/v1/app%2Fdb", status: 200, asked: Request{Ref: kms.Ref{Name: "app/db"}}},
		"ARN": {path: "/v1/acs:kms:cn-hangzhou:1:secret/x", status: 200,
			asked: Request{Ref: kms.Ref{Name: "acs:kms:cn-hangzhou:1:secret/x"}}},
		"odd characters": {path: "/v1/app/with%20space%20and%20/slashes/%252F", status: 200,
			asked: Request{Ref: kms.Ref{Name: "app/with space and /slashes/%2F"}}},
		"the other header": {path: "/v1/app/db", header: map[string]string{"X-Vault-Token": testToken}, status: 200,
			asked: Request{Ref: kms.Ref{Name: "app/db"}}},
		"one header is right": {path: "/v1/app/db", header: map[string]string{"X-KMS-Token": "x", "X-Vault-Token": testToken}, status: 200,
			asked: Request{Ref: kms.Ref{Name: "app/db"}}},
		"no token": {path: "/v1/app/db", header: noToken, status: 403, code: CodeBadToken},
		"wrong token": {path: "/v1/app/db", header: map[string]string{"X-KMS-Token": testToken + "x"}, status: 403,
			code: CodeBadToken},
		"empty token":     {path: "/v1/app/db", header: map[string]string{"X-KMS-Token": ""}, status: 403, code: CodeBadToken},
		"token elsewhere": {path: "/v1/app/db", header: map[string]string{"Authorization": testToken}, status: 403, code: CodeBadToken},
		"forwarded": {path: "/v1/app/db", header: map[string]string{"X-KMS-Token": testToken, "X-Forwarded-For": "10.0.0.1"},
			status: 400, code: CodeForwarded},
		"forwarded before token": {path: "/v1/app/db", header: map[string]string{"X-Forwarded-For": "10.0.0.1"}, status: 400,
			code: CodeForwarded},
		"forwarded by RFC 7239": {path: "/v1/app/db", header: map[string]string{"X-KMS-Token": testToken, "Forwarded": "for=10.0.0.1"},
			status: 400, code: CodeForwarded},
		"through a proxy": {path: "/v1/app/db", header: map[string]string{"X-KMS-Token": testToken, "Via": "1.1 proxy"}, status: 400,
			code: CodeForwarded},
		"empty X-Forwarded-For": {path: "/v1/app/db", header: map[string]string{"X-KMS-Token": testToken, "X-Forwarded-For": ""}, status: 400,
			code: CodeForwarded},
		"missing secretId":       {path: "/secretsmanager/get", status: 400, code: CodeMissingParameter},
		"empty secretId":         {path: "/secretsmanager/get?secretId=", status: 400, code: CodeMissingParameter},
		"unknown parameter":      {path: "/secretsmanager/get?secretId=app/db&secretid=x", status: 400, code: CodeInvalidParameter},
		"secretId in both":       {path: "/v1/app/db?secretId=app/db", status: 400, code: CodeInvalidParameter},
		"bad refreshNow":         {path: "/secretsmanager/get?secretId=app/db&refreshNow=yes", status: 400, code: CodeInvalidParameter},
		"empty refreshNow":       {path: "/secretsmanager/get?secretId=app/db&refreshNow", status: 400, code: CodeInvalidParameter},
		"twice":                  {path: "/secretsmanager/get?secretId=app/db&secretId=app/db", status: 400, code: CodeInvalidParameter},
		"bad escape":             {path: "/secretsmanager/get?secretId=%zz", status: 400, code: CodeInvalidParameter},
		"not allowed":            {path: "/secretsmanager/get?secretId=other/db", status: 403, code: CodeNotAllowed},
		"not allowed, by path":   {path: "/v1/other/db", status: 403, code: CodeNotAllowed},
		"POST":                   {method: "POST", path: "/v1/app/db", status: 405, code: CodeMethod},
		"HEAD":                   {method: "HEAD", path: "/v1/app/db", status: 405},
		"POST without token":     {method: "POST", path: "/v1/app/db", header: noToken, status: 403, code: CodeBadToken},
		"POST to unknown path":   {method: "POST", path: "/x", status: 405, code: CodeMethod},
		"unknown path":           {path: "/secretsmanager", status: 404, code: CodePath},
		"unknown without token":  {path: "/x", header: noToken, status: 403, code: CodeBadToken},
		"prefix alone":           {path: "/v1/", status: 404, code: CodePath},
		"root":                   {path: "/", status: 404, code: CodePath},
		"KMS said no":            {path: "/v1/app/denied", status: 403, code: "Forbidden.NoPermission", asked: of("app/denied")},
		"KMS has none":           {path: "/v1/app/gone", status: 404, code: "Forbidden.ResourceNotFound", asked: of("app/gone")},
		"KMS cannot be reached":  {path: "/v1/app/unreachable", status: 502, code: CodeConnection, asked: of("app/unreachable")},
		"KMS takes too long":     {path: "/v1/app/slow", status: 504, code: CodeTimeout, asked: of("app/slow")},
		"a bug":                  {path: "/v1/app/bug", status: 500, code: CodeInternal, asked: of("app/bug")},
		"ping":                   {path: "/ping", header: noToken, status: 200},
		"forwarded ping":         {path: "/ping", header: map[string]string{"X-Forwarded-For": "10.0.0.1"}, status: 200},
		"POST ping":              {method: "POST", path: "/ping", header: noToken, status: 405, code: CodeMethod},
		"watch without secretId": {path: "/v1/watch", status: 400, code: CodeMissingParameter},
		"watch with version":     {path: "/v1/watch?secretId=app/db&versionId=v1", status: 400, code: CodeInvalidParameter},
		"watch not allowed":      {path: "/v1/watch?secretId=other/db", status: 403, code: CodeNotAllowed},
		"watch without token":    {path: "/v1/watch?secretId=app/db", header: noToken, status: 403, code: CodeBadToken},
		"watch of what is denied": {path: "/v1/watch?secretId=app/denied", status: 403, code: "Forbidden.NoPermission",
			asked: Request{Ref: kms.Ref{Name: "app/denied"}}},
	} {
		t.Run(name, func(t *testing.T) {
			source, log := newOrigin(), &journal{}
			address, _ := start(t, Config{
				Source: source, Allow: []string{"app/*", "a+b", "acs:kms:cn-hangzhou:1:secret/x"},
				Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
			})
			if c.method == "" {
				c.method = http.MethodGet
			}
			res, body := ask(t, c.method, "http://"+address+c.path, c.header)
			if res.StatusCode != c.status {
				t.Errorf("%d, want %d: %s", res.StatusCode, c.status, body)
			}
			if got := source.last(); got != c.asked {
				t.Errorf("the source was asked for %+v, want %+v", got, c.asked)
			}
			if c.code != "" {
				wantRefusal(t, res, body, c.code)
			}
			if text := log.String(); strings.Contains(text, sentinel) || strings.Contains(text, testToken) {
				t.Errorf("the log holds a value or a token: %s", text)
			}
		})
	}
}

func wantRefusal(t *testing.T, res *http.Response, body, code string) {
	t.Helper()
	var fields map[string]string
	if err := json.Unmarshal([]byte(body), &fields); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	_, hasID := fields["RequestId"]
	if fields["Code"] != code || fields["Message"] == "" || !hasID || res.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v %s, want %s", res.Header, body, code)
	}
	if strings.HasPrefix(code, "Forbidden.NoPermission") && fields["RequestId"] != "req-9" {
		t.Errorf("request ID %q is not KMS's", fields["RequestId"])
	}
	if strings.Contains(body, "only the log") {
		t.Errorf("an inner error got out: %s", body)
	}
}

func TestPing(t *testing.T) {
	address, _ := start(t, Config{Source: newOrigin()})
	if _, body := ask(t, "GET", "http://"+address+"/ping", map[string]string{}); body != "healthy" {
		t.Errorf("%q", body)
	}
}

func TestConfiguredNames(t *testing.T) {
	address, _ := start(t, Config{Source: newOrigin(), Headers: []string{"x-my-token"}, PathPrefix: "/secrets/"})
	for path, status := range map[string]int{"/secrets/app/db": 200, "/v1/app/db": 404, "/secretsmanager/get?secretId=app/db": 200} {
		if res, body := ask(t, "GET", "http://"+address+path, map[string]string{"X-My-Token": testToken}); res.StatusCode != status {
			t.Errorf("%s: %d %s", path, res.StatusCode, body)
		}
	}
	if res, _ := ask(t, "GET", "http://"+address+"/secrets/app/db", nil); res.StatusCode != 403 {
		t.Errorf("a header that is not configured: %d", res.StatusCode)
	}
}

func TestConfigMistakes(t *testing.T) {
	for part, cfg := range map[string]Config{
		"needs a token":  {},
		"path prefix":    {Token: "x", PathPrefix: "v1/"},
		"begin and end":  {Token: "x", PathPrefix: "/v1"},
		"response type3": {Token: "x", ResponseType: 3},
	} {
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), strings.TrimSuffix(part, "3")) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

func TestConcurrentRequests(t *testing.T) {
	address, stop := start(t, Config{Source: newOrigin()})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if res, body := ask(t, "GET", "http://"+address+"/v1/app/db", nil); res.StatusCode != 200 || !strings.Contains(body, sentinel) {
					t.Errorf("%d %s", res.StatusCode, body)
				}
			}
		})
	}
	wg.Wait()
	http.DefaultClient.CloseIdleConnections()
	stop()
}

func TestRefusalSaysWhenToAskAgain(t *testing.T) {
	address, _ := start(t, Config{Source: newOrigin()})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v1/app/rationed", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-KMS-Token", testToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusTooManyRequests || res.Header.Get("Retry-After") != "2" {
		t.Errorf("%s, Retry-After %q", res.Status, res.Header.Get("Retry-After"))
	}
}
