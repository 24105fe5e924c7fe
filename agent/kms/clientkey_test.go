package kms

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alibabacloud-go/tea/tea"
	dkms "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/openapi"
	dkmsutil "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/openapi-util"
	dkmssdk "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/sdk"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/clientkey"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// instance is an emulated KMS instance, and the files of a client key that may read what is below shop/.
type instance struct {
	*emulatortest.Server
	key                   clientkey.Key
	cfg                   Config
	keyFile, passwordFile string
}

func startInstance(t *testing.T) *instance {
	t.Helper()
	issuer := emulatortest.NewIssuer(t, emulatortest.IssuerURL)
	config := emulatortest.Config(issuer)
	in := &instance{key: emulatortest.WithInstance(t, &config, "shop/*")}
	config.Secrets = []emulator.Secret{
		{Name: "shop/text", Value: emulator.Value{Text: "sentinel <&> é"}},
		{Name: "shop/blob", Value: emulator.Value{Binary: base64.StdEncoding.EncodeToString([]byte{0, 255, '\n'})}},
		{Name: "shop/old", Versions: []emulator.Version{
			{ID: "one", Value: emulator.Value{Text: "sentinel-1"}}, {ID: "two", Value: emulator.Value{Text: "sentinel-2"}},
		}},
		{
			Name: "shop/db", Type: "Rds", AutomaticRotation: "Enabled", RotationInterval: "604800s",
			NextRotation: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), ExtendedConfig: `{"SecretSubType":"SingleUser"}`,
			Value: emulator.Value{Text: "{}"},
		},
		{Name: "other", Value: emulator.Value{Text: "sentinel"}},
	}
	in.Server = emulatortest.StartConfig(t, issuer, config)
	dir := t.TempDir()
	in.cfg = Config{Endpoint: in.StartInstance(t), Settings: openapi.Settings{
		CAFile: filepath.Join(dir, "ca.crt"), Timeout: time.Minute,
	}}
	in.keyFile, in.passwordFile = filepath.Join(dir, "clientKey"), filepath.Join(dir, "password")
	write(t, in.cfg.CAFile, emulatortest.InstanceCAPEM())
	write(t, in.keyFile, in.key.JSON)
	write(t, in.passwordFile, []byte(in.key.Password+"\n"))
	return in
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (in *instance) client(t *testing.T) *ClientKeyClient {
	t.Helper()
	c, err := NewClientKey(in.cfg, ClientKeyFiles(in.keyFile, in.passwordFile))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestClientKeyReadsSecrets(t *testing.T) {
	c := startInstance(t).client(t)
	for ref, want := range map[Ref]string{
		{Name: "shop/text"}:                             "sentinel <&> é",
		{Name: "shop/blob"}:                             "\x00\xff\n",
		{Name: "shop/old"}:                              "sentinel-2",
		{Name: "shop/old", VersionID: "one"}:            "sentinel-1",
		{Name: "shop/old", VersionStage: "ACSPrevious"}: "sentinel-1",
	} {
		s, err := c.GetSecretValue(t.Context(), ref)
		if err != nil || string(s.Data) != want || s.Binary != (ref.Name == "shop/blob") || s.Name != ref.Name {
			t.Errorf("%s: got %q, %v", ref, s.Data, err)
		}
	}
	db, err := c.GetSecretValue(t.Context(), Ref{Name: "shop/db"})
	if err != nil {
		t.Fatal(err)
	}
	if db.Type != "Rds" || !db.NextRotation.Equal(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)) || fmt.Sprint(db.Stages) != "[ACSCurrent]" ||
		db.Answer.ExtendedConfig != `{"SecretSubType":"SingleUser"}` || db.Answer.AutomaticRotation != "Enabled" ||
		db.Answer.RotationInterval != "604800s" || db.Answer.RequestID == "" || db.Answer.CreateTime == "" {
		t.Errorf("got %+v", db.Answer)
	}
}

func TestClientKeyRefusals(t *testing.T) {
	in := startInstance(t)
	for _, x := range []struct {
		name   string
		secret string
		fault  *emulator.Fault
		code   string
		status int
		class  Class
	}{
		{"not its secret", "other", nil, "Forbidden.NoPermission", 403, Permanent},
		{"no such secret", "shop/none", nil, "Forbidden.ResourceNotFound", 404, NotFound},
		{"throttled", "shop/text", &emulator.Fault{Code: "Rejected.Throttling"}, "Rejected.Throttling", 429, Retryable},
		{"outage", "shop/text", &emulator.Fault{Status: 503}, "ServiceUnavailableTemporary", 503, Retryable},
		{"page of a proxy", "shop/text", &emulator.Fault{Status: 502, Body: "<html>sentinel</html>"}, "", 502, Retryable},
		{"garbage", "shop/text", &emulator.Fault{Body: "<html>sentinel</html>"}, "", 200, Retryable},
		{"nothing", "shop/text", &emulator.Fault{Body: "\x0a\x00"}, "", 200, Retryable},
		{"cut before the headers", "shop/text", &emulator.Fault{Cut: emulator.AtHeaders}, "", 0, Retryable},
		{"cut in the body", "shop/text", &emulator.Fault{Cut: emulator.AtBody}, "", 200, Retryable},
		{"clocks differ", "shop/text", &emulator.Fault{ClockSkew: emulator.Duration(time.Hour)}, "InvalidParam", 400, Permanent},
	} {
		t.Run(x.name, func(t *testing.T) {
			c := in.client(t)
			in.ResetCalls()
			if x.fault != nil {
				in.Fault(t, *x.fault)
				defer in.ClearFaults()
			}
			_, err := c.GetSecretValue(t.Context(), Ref{Name: x.secret})
			var e *Error
			if !errors.As(err, &e) || e.Code != x.code || e.Status != x.status || e.Class() != x.class || e.Ref.Name != x.secret {
				t.Fatalf("got %#v", err)
			}
			if strings.Contains(err.Error(), "sentinel") {
				t.Errorf("leak: %v", err)
			}
			if calls := in.Calls(); calls.Sum(emulator.Call{}) != 1 {
				t.Errorf("%v, want one call: retrying is the caller's", calls)
			}
		})
	}
}

func TestClientKeyTimeLimits(t *testing.T) {
	in := startInstance(t)
	in.Fault(t, emulator.Fault{Hang: emulator.AtHeaders})
	in.cfg.Timeout = 200 * time.Millisecond
	_, err := in.client(t).GetSecretValue(t.Context(), Ref{Name: "shop/text"})
	var e *Error
	if !errors.As(err, &e) || e.Class() != Retryable {
		t.Errorf("own limit: %v", err)
	}
	in.cfg.Timeout = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := in.client(t).GetSecretValue(ctx, Ref{Name: "shop/text"}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the caller's limit: %v", err)
	}
}

// What the SDK would panic on, or tell badly.
func TestClientKeysThatCannotBeUsed(t *testing.T) {
	in := startInstance(t)
	expired, err := clientkey.New(time.Now().Add(-time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		key      string
		password string
		want     error
		text     string
	}{
		"wrong password":  {string(in.key.JSON), "sentinel", ErrPassword, "does not open"},
		"no password":     {string(in.key.JSON), "", ErrPassword, "does not open"},
		"expired":         {string(expired.JSON), expired.Password, ErrExpired, "has expired on 20"},
		"no JSON":         {"sentinel", "x", nil, "want JSON"},
		"other JSON":      {`{"KeyId":"sentinel"}`, "x", nil, "want JSON"},
		"a list":          {`["sentinel"]`, "x", nil, "want JSON"},
		"no base64":       {`{"KeyId":"k","PrivateKeyData":"sentinel!"}`, "x", nil, "not base64"},
		"no PKCS#12":      {`{"KeyId":"k","PrivateKeyData":"c2VudGluZWw="}`, "x", nil, "PrivateKeyData"},
		"nothing at all":  {``, "x", nil, "want JSON"},
		"KeyId of a type": {`{"KeyId":7,"PrivateKeyData":"c2VudGluZWw="}`, "x", nil, "want JSON"},
	} {
		write(t, in.keyFile, []byte(x.key))
		write(t, in.passwordFile, []byte(x.password))
		_, err := NewClientKey(in.cfg, ClientKeyFiles(in.keyFile, in.passwordFile))
		var bad *KeyError
		if !errors.As(err, &bad) || bad.File != in.keyFile || !strings.Contains(err.Error(), x.text) || x.want != nil && !errors.Is(err, x.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "sentinel") {
			t.Errorf("%s: leak: %v", name, err)
		}
	}
	os.Remove(in.passwordFile)
	var bad *KeyError
	if _, err := NewClientKey(in.cfg, ClientKeyFiles(in.keyFile, in.passwordFile)); !errors.As(err, &bad) || bad.File != in.passwordFile ||
		!errors.Is(err, os.ErrNotExist) {
		t.Errorf("no password file: %v", err)
	}
}

// The SDK goes on with the first key and the first CA for the life of the process.
func TestClientKeyAndCAAreReadAgain(t *testing.T) {
	in := startInstance(t)
	c := in.client(t)
	read := func() error {
		_, err := c.GetSecretValue(t.Context(), Ref{Name: "shop/text"})
		return err
	}
	var wg sync.WaitGroup // shared by goroutines while files change
	for range 4 {
		wg.Go(func() {
			for range 5 {
				if err := read(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()

	stranger, err := clientkey.New(time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	write(t, in.keyFile, stranger.JSON) // its password is not there yet
	if err := read(); err != nil {
		t.Errorf("half replaced: %v", err)
	}
	in.Fault(t, emulator.Fault{Status: 403, Code: "Forbidden.InvalidClientKey", Count: 1})
	if err := read(); err == nil || !strings.Contains(err.Error(), ErrPassword.Error()) {
		t.Errorf("half replaced, and the key before is not valid any more: %v", err)
	}
	write(t, in.passwordFile, []byte(stranger.Password))
	var e *Error
	if err := read(); !errors.As(err, &e) || e.Code != "Forbidden.InvalidClientKey" {
		t.Errorf("replaced by an unknown one: %v", err)
	}
	write(t, in.keyFile, in.key.JSON)
	write(t, in.passwordFile, []byte(in.key.Password))
	if err := read(); err != nil {
		t.Errorf("and back: %v", err)
	}

	write(t, in.cfg.CAFile, []byte("-----BEGIN"))
	if err := read(); err != nil {
		t.Errorf("half written CA: %v", err)
	}
	write(t, in.cfg.CAFile, emulatortest.CAPEM())
	if err := read(); !errors.As(err, &e) || e.Class() != Permanent {
		t.Errorf("another CA: %v", err)
	}
	write(t, in.cfg.CAFile, emulatortest.InstanceCAPEM())
	if err := read(); err != nil {
		t.Errorf("and back: %v", err)
	}
}

// The whole SDK sends the same request, but for date and signature, which the emulator checks.
func TestSameRequestAsTheSDKOfInstances(t *testing.T) {
	in := startInstance(t)
	var seen []*http.Request
	var bodies []string
	_, cfg := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen, bodies = append(seen, r), append(bodies, string(body))
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	c, err := NewClientKey(cfg, ClientKeyFiles(in.keyFile, in.passwordFile))
	if err != nil {
		t.Fatal(err)
	}
	c.GetSecretValue(t.Context(), Ref{Name: "shop/text", VersionID: "v1", VersionStage: "ACSCurrent"})
	theirs, err := dkmssdk.NewClient(&dkms.Config{
		Endpoint: &cfg.Endpoint, Protocol: tea.String("https"), ClientKeyContent: tea.String(string(in.key.JSON)), Password: &in.key.Password,
		IgnoreSSL: tea.Bool(true),
	})
	if err != nil {
		t.Fatal(err)
	}
	theirs.GetSecretValueWithOptions(&dkmssdk.GetSecretValueRequest{
		SecretName: tea.String("shop/text"), VersionId: tea.String("v1"), VersionStage: tea.String("ACSCurrent"),
		FetchExtendedConfig: tea.Bool(true),
	}, &dkmsutil.RuntimeOptions{Autoretry: tea.Bool(false)})
	if len(seen) != 2 {
		t.Fatalf("%d requests", len(seen))
	}
	if bodies[0] != bodies[1] || seen[0].Method != seen[1].Method || seen[0].RequestURI != seen[1].RequestURI ||
		seen[0].Proto != seen[1].Proto || seen[0].Host != seen[1].Host {
		t.Errorf("requests differ:\n%v %q\n%v %q", seen[0], bodies[0], seen[1], bodies[1])
	}
	for _, varies := range []string{"Date", "Authorization", "User-Agent"} {
		for _, r := range seen {
			if r.Header.Get(varies) == "" {
				t.Errorf("no %s", varies)
			}
			r.Header.Del(varies)
		}
	}
	a, _ := json.Marshal(seen[0].Header)
	b, _ := json.Marshal(seen[1].Header)
	if string(a) != string(b) {
		t.Errorf("headers differ:\n%s\n%s", a, b)
	}
}

// The OpenAPI reaches an instance too: the same client with the instance's CA.
func TestInstanceByOpenAPI(t *testing.T) {
	in := startInstance(t)
	c := client(t, in.cfg)
	_, err := c.GetSecretValue(t.Context(), Credentials{AccessKeyID: "LTAI-none", AccessKeySecret: "x"}, Ref{Name: "shop/text"})
	var e *Error
	if !errors.As(err, &e) || e.Code != "InvalidAccessKeyId.NotFound" {
		t.Errorf("got %v", err)
	}
	write(t, in.cfg.CAFile, emulatortest.CAPEM())
	_, err = c.GetSecretValue(t.Context(), session, Ref{Name: "shop/text"})
	if !errors.As(err, &e) || e.Class() != Permanent || e.Code != "" {
		t.Errorf("with another CA: %v", err)
	}
	for name, content := range map[string]string{"missing": "", "no PEM": "x"} {
		cfg := in.cfg
		cfg.CAFile = filepath.Join(t.TempDir(), "ca.crt")
		if content != "" {
			write(t, cfg.CAFile, []byte(content))
		}
		if _, err := New(cfg); err == nil || !strings.Contains(err.Error(), cfg.CAFile) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"":                              0,
		"7":                             7 * time.Second,
		"-7":                            0,
		"soon":                          0,
		"999999999999":                  1 << 20 * time.Second,
		"Fri, 02 Jan 2026 03:05:05 GMT": time.Minute,
		"Fri, 02 Jan 2026 03:00:00 GMT": 0,
	} {
		if got := retryAfter(http.Header{"Retry-After": {text}}, now); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
	_, cfg := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
	})
	_, err := client(t, cfg).GetSecretValue(t.Context(), session, Ref{Name: "k"})
	var e *Error
	if !errors.As(err, &e) || e.RetryAfterHint() != 7*time.Second {
		t.Errorf("got %v", err)
	}
}
