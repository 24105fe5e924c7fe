package emulator_test

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/tea"
	"github.com/aliyun/credentials-go/credentials/providers"
	"github.com/google/go-cmp/cmp"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// The STS SDK has no option for a certificate authority: it clones http.DefaultTransport for each call.
func TestMain(m *testing.M) {
	transport := http.DefaultTransport.(*http.Transport)
	transport.TLSClientConfig = &tls.Config{RootCAs: emulatortest.Roots()}
	transport.DisableKeepAlives = true
	os.Exit(m.Run())
}

// assume asks for a session of the role with the real STS SDK.
func assume(t *testing.T, s *emulatortest.Server, change ...func(*providers.OIDCCredentialsProviderBuilder)) (*providers.Credentials,
	error) {
	t.Helper()
	b := providers.NewOIDCCredentialsProviderBuilder().
		WithSTSEndpoint(s.Addr).
		WithOIDCProviderARN(emulatortest.ProviderARN).
		WithRoleArn(emulatortest.RoleARN).
		WithOIDCTokenFilePath(s.Issuer.TokenFile(t, emulatortest.Subject))
	for _, f := range change {
		f(b)
	}
	p, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return p.GetCredentials()
}

func mustAssume(t *testing.T, s *emulatortest.Server) *providers.Credentials {
	t.Helper()
	c, err := assume(t, s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// httpClient implements the SDK's interface for one's own HTTP client.
type httpClient struct {
	http.Client
	change func(*http.Request)
}

func (c *httpClient) Call(r *http.Request, _ *http.Transport) (*http.Response, error) {
	if c.change != nil {
		c.change(r)
	}
	return c.Do(r)
}

// kmsClient is the real KMS SDK.
func kmsClient(t *testing.T, s *emulatortest.Server, c *providers.Credentials, change func(*http.Request)) *kms.Client {
	t.Helper()
	client, err := kms.NewClient(&openapi.Config{
		Endpoint:        &s.Addr,
		AccessKeyId:     &c.AccessKeyId,
		AccessKeySecret: &c.AccessKeySecret,
		SecurityToken:   &c.SecurityToken,
		HttpClient: &httpClient{change: change, Client: http.Client{
			Timeout: time.Minute,
			Transport: &http.Transport{
				TLSClientConfig: &tls.Config{RootCAs: emulatortest.Roots()}, ForceAttemptHTTP2: true, DisableKeepAlives: true,
			},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func get(t *testing.T, s *emulatortest.Server, c *providers.Credentials, name string) (*kms.GetSecretValueResponseBody, error) {
	t.Helper()
	return ask(kmsClient(t, s, c, nil), &kms.GetSecretValueRequest{SecretName: &name})
}

func ask(client *kms.Client, r *kms.GetSecretValueRequest) (*kms.GetSecretValueResponseBody, error) {
	answer, err := client.GetSecretValue(r)
	if err != nil {
		return nil, err
	}
	return answer.Body, nil
}

// refused fails the test unless the KMS SDK's error has the code and status.
func refused(t *testing.T, err error, code string, status int) *tea.SDKError {
	t.Helper()
	var sdk *tea.SDKError
	if !errors.As(err, &sdk) {
		t.Fatalf("got %v, want the SDK's error %s", err, code)
	}
	if tea.StringValue(sdk.Code) != code || tea.IntValue(sdk.StatusCode) != status {
		t.Fatalf("got %d %s: %s; want %d %s", tea.IntValue(sdk.StatusCode), tea.StringValue(sdk.Code), tea.StringValue(sdk.Message), status, code)
	}
	return sdk
}

func devSecret(name, text string) emulator.Secret {
	return emulator.Secret{Name: name, Tags: map[string]string{"env": "dev"}, Value: emulator.Value{Text: text}}
}

func TestSecretReachesTheSDK(t *testing.T) {
	raw := []byte{0, 1, 2, 255, '\n'}
	s := emulatortest.Start(t)
	s.Put(t,
		devSecret("app/prod/api-key", "s3cret & more + \u00e9\n"),
		emulator.Secret{Name: "blob", Tags: map[string]string{"env": "DEV"},
			Value: emulator.Value{Binary: base64.StdEncoding.EncodeToString(raw)}},
		emulator.Secret{
			Name: "db", Type: "Rds", Tags: map[string]string{"env": "dev"},
			AutomaticRotation: "Enabled", RotationInterval: "604800s", NextRotation: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC),
			ExtendedConfig: `{"SecretSubType":"SingleUser"}`,
			Value:          emulator.Value{Text: `{"AccountName":"u","AccountPassword":"p"}`},
		},
	)
	c := mustAssume(t, s)

	text, err := get(t, s, c, "app/prod/api-key")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := time.Parse(time.RFC3339, *text.CreateTime); err != nil {
		t.Error(err)
	}
	if *text.RequestId == "" {
		t.Error("no request ID")
	}
	text.CreateTime, text.RequestId = nil, nil
	want := &kms.GetSecretValueResponseBody{
		SecretName: tea.String("app/prod/api-key"), SecretType: tea.String("Generic"),
		SecretData: tea.String("s3cret & more + \u00e9\n"), SecretDataType: tea.String("text"), VersionId: tea.String("v1"),
		VersionStages: &kms.GetSecretValueResponseBodyVersionStages{VersionStage: tea.StringSlice([]string{"ACSCurrent"})},
	}
	if diff := cmp.Diff(want, text); diff != "" {
		t.Error("text secret (-want +got):\n", diff)
	}

	blob, err := get(t, s, c, "acs:kms:cn-hangzhou:1234567890123456:secret/blob")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := base64.StdEncoding.DecodeString(*blob.SecretData); string(got) != string(raw) || *blob.SecretDataType != "binary" {
		t.Errorf("binary secret: got %q %s", got, *blob.SecretDataType)
	}

	managed, err := ask(kmsClient(t, s, c, nil), &kms.GetSecretValueRequest{
		SecretName: tea.String("db"), FetchExtendedConfig: tea.Bool(true), VersionId: tea.String("ignored"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if *managed.AutomaticRotation != "Enabled" || *managed.RotationInterval != "604800s" ||
		*managed.NextRotationDate != "2030-01-02T03:04:05Z" || *managed.ExtendedConfig != `{"SecretSubType":"SingleUser"}` ||
		managed.LastRotationDate != nil {
		t.Errorf("managed secret: got %v", managed)
	}
}

func TestReplayIsRefused(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("ours", "x"))
	c := mustAssume(t, s)
	var first *http.Request
	if _, err := ask(kmsClient(t, s, c, func(r *http.Request) { first = r.Clone(t.Context()) }),
		&kms.GetSecretValueRequest{SecretName: tea.String("ours")}); err != nil {
		t.Fatal(err)
	}
	_, err := ask(kmsClient(t, s, c, func(r *http.Request) { r.Header = first.Header }),
		&kms.GetSecretValueRequest{SecretName: tea.String("ours")})
	refused(t, err, "SignatureNonceUsed", 400)
}

func TestSessionsEnd(t *testing.T) {
	var mu sync.Mutex
	var ahead time.Duration
	s := emulatortest.Start(t, emulator.WithClock(func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return time.Now().Add(ahead)
	}))
	s.Put(t, devSecret("ours", "x"))
	brief, err := assume(t, s, func(b *providers.OIDCCredentialsProviderBuilder) { b.WithDurationSeconds(900) })
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	ahead = 14 * time.Minute
	mu.Unlock()
	if _, err := get(t, s, brief, "ours"); err != nil {
		t.Fatalf("after 14 of 15 minutes: %v", err)
	}

	whole := mustAssume(t, s)
	s.ExpireSessions()
	_, err = get(t, s, whole, "ours")
	refused(t, err, "InvalidSecurityToken.Expired", 400)
}

func TestSessionPolicyNarrows(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("a", "x"), devSecret("b", "x"), emulator.Secret{Name: "c", Value: emulator.Value{Text: "x"}})
	c, err := assume(t, s, func(b *providers.OIDCCredentialsProviderBuilder) {
		b.WithPolicy(`{"Version":"1","Statement":[{"Effect":"Allow","Action":"kms:GetSecretValue","Resource":["*secret/a","*secret/c"]}]}`)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, s, c, "a"); err != nil {
		t.Error(err)
	}
	_, err = get(t, s, c, "b")
	refused(t, err, "Forbidden.NoPermission", 403)
	_, err = get(t, s, c, "c")
	refused(t, err, "Forbidden.NoPermission", 403)
}

func TestRoleChangesReachSessions(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("ours", "x"))
	c := mustAssume(t, s)
	role := s.Roles()[0]
	role.Policies = append(role.Policies, `{"Version":"1","Statement":[{"Effect":"Deny","Action":"kms:*","Resource":"*secret/ours"}]}`)
	if err := s.PutRole(role); err != nil {
		t.Fatal(err)
	}
	_, err := get(t, s, c, "ours")
	if sdk := refused(t, err, "Forbidden.NoPermission", 403); sdk.AccessDeniedDetail["NoPermissionType"] != "ExplicitDeny" {
		t.Errorf("got %v", sdk.AccessDeniedDetail)
	}
	if err := s.DeleteRole(role.Name); err != nil {
		t.Fatal(err)
	}
	_, err = get(t, s, c, "ours")
	refused(t, err, "Forbidden.NoPermission", 403)
}
