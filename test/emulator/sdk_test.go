package emulator_test

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/tea"
	"github.com/aliyun/credentials-go/credentials/providers"
	"github.com/go-jose/go-jose/v4/jwt"
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
func assume(t *testing.T, s *emulatortest.Server, change ...func(*providers.OIDCCredentialsProviderBuilder)) (*providers.Credentials, error) {
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
			Timeout: 10 * time.Second,
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
		emulator.Secret{Name: "blob", Tags: map[string]string{"env": "DEV"}, Value: emulator.Value{Binary: base64.StdEncoding.EncodeToString(raw)}},
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

func TestRefusedTokens(t *testing.T) {
	s := emulatortest.Start(t)
	stranger := emulatortest.NewIssuer(t, emulatortest.IssuerURL)
	change := func(f func(*jwt.Claims)) func(*providers.OIDCCredentialsProviderBuilder) {
		return func(b *providers.OIDCCredentialsProviderBuilder) {
			b.WithOIDCToken(s.Issuer.Token(t, emulatortest.Subject, f))
		}
	}
	type builder = providers.OIDCCredentialsProviderBuilder
	for code, changes := range map[string]map[string]func(*builder){
		"AuthenticationFail.OIDCToken.Expired": {"expired": change(func(c *jwt.Claims) {
			c.Expiry = jwt.NewNumericDate(time.Now().Add(-2 * time.Minute))
		})},
		"AuthenticationFail.OIDCToken.AudienceNotMatch": {"audience": change(func(c *jwt.Claims) { c.Audience = jwt.Audience{"vault"} })},
		"AuthenticationFail.OIDCToken.IssuerNotMatch":   {"issuer": change(func(c *jwt.Claims) { c.Issuer = "https://kubernetes.default.svc" })},
		"AuthenticationFail.OIDCToken.Invalid": {
			"other key":     func(b *builder) { b.WithOIDCToken(stranger.Token(t, emulatortest.Subject)) },
			"not yet valid": change(func(c *jwt.Claims) { c.NotBefore = jwt.NewNumericDate(time.Now().Add(5 * time.Minute)) }),
			"no expiry":     change(func(c *jwt.Claims) { c.Expiry = nil }),
			"not a token":   func(b *builder) { b.WithOIDCToken("not a token") },
			"trailing line": func(b *builder) { b.WithOIDCToken(s.Issuer.Token(t, emulatortest.Subject)[:60]) },
		},
		"AuthenticationFail.NoPermission": {
			"other subject":    func(b *builder) { b.WithOIDCToken(s.Issuer.Token(t, "system:serviceaccount:rrsa-dev:other")) },
			"unknown provider": func(b *builder) { b.WithOIDCProviderARN(emulatortest.ProviderARN + "x") },
			"no provider ARN":  func(b *builder) { b.WithOIDCProviderARN("ack-rrsa-c0ffee") },
		},
		"EntityNotExist.Role":              {"unknown role": func(b *builder) { b.WithRoleArn(emulatortest.RoleARN + "x") }},
		"InvalidParameter.RoleArn":         {"role name": func(b *builder) { b.WithRoleArn("dev-role-for-rrsa") }},
		"InvalidParameter.DurationSeconds": {"too long": func(b *builder) { b.WithDurationSeconds(3601) }},
		"InvalidParameter.PolicyGrammar":   {"policy": func(b *builder) { b.WithPolicy("{}") }},
		"InvalidParameter.PolicySize":      {"policy": func(b *builder) { b.WithPolicy(strings.Repeat(" ", 2049)) }},
		"InvalidParameter.RoleSessionName": {
			"short": func(b *builder) { b.WithRoleSessionName("a") },
			"space": func(b *builder) { b.WithRoleSessionName("a b") },
			"long":  func(b *builder) { b.WithRoleSessionName(strings.Repeat("a", 65)) },
		},
	} {
		for name, f := range changes {
			t.Run(code+"/"+name, func(t *testing.T) {
				s.ResetCalls()
				_, err := assume(t, s, f)
				if err == nil || !strings.Contains(err.Error(), `"Code":"`+code+`"`) {
					t.Errorf("got %v, want %s", err, code)
				}
				if n := s.Calls().Sum(emulator.Call{Action: "AssumeRoleWithOIDC", Code: code}); n != 1 {
					t.Errorf("%d calls counted with %s, want 1: %v", n, code, s.Calls())
				}
			})
		}
	}
}

func TestRefusedRequests(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("ours", "x"), emulator.Secret{Name: "theirs", Tags: map[string]string{"env": "prod"}, Value: emulator.Value{Text: "x"}},
		emulator.Secret{Name: "elsewhere", Region: "cn-beijing", Tags: map[string]string{"env": "dev"}, Value: emulator.Value{Text: "x"}})
	c, other := mustAssume(t, s), mustAssume(t, s)
	with := func(change func(*providers.Credentials)) *providers.Credentials {
		changed := *c
		change(&changed)
		return &changed
	}
	request := func(name string) *kms.GetSecretValueRequest {
		return &kms.GetSecretValueRequest{SecretName: &name}
	}
	for name, x := range map[string]struct {
		credentials *providers.Credentials
		tamper      func(*http.Request)
		request     *kms.GetSecretValueRequest
		code        string
		status      int
	}{
		"unknown secret":     {request: request("nothing"), code: "Forbidden.ResourceNotFound", status: 404},
		"other region":       {request: request("elsewhere"), code: "Forbidden.ResourceNotFound", status: 404},
		"other region's ARN": {request: request("acs:kms:cn-beijing:1234567890123456:secret/elsewhere"), code: "Forbidden.ResourceNotFound", status: 404},
		"forbidden secret":   {request: request("theirs"), code: "Forbidden.NoPermission", status: 403},
		"unknown version":    {request: &kms.GetSecretValueRequest{SecretName: tea.String("ours"), VersionId: tea.String("v9")}, code: "Forbidden.ResourceNotFound", status: 404},
		"no name":            {request: &kms.GetSecretValueRequest{}, code: "MissingParameter", status: 400},
		"wrong secret key":   {credentials: with(func(c *providers.Credentials) { c.AccessKeySecret += "x" }), code: "SignatureDoesNotMatch", status: 400},
		"unknown access key": {credentials: with(func(c *providers.Credentials) { c.AccessKeyId = "STS.unknown" }), code: "InvalidAccessKeyId.NotFound", status: 404},
		"no token":           {credentials: with(func(c *providers.Credentials) { c.SecurityToken = "" }), code: "MissingSecurityToken", status: 400},
		"made-up token":      {credentials: with(func(c *providers.Credentials) { c.SecurityToken = "CAIS" }), code: "InvalidSecurityToken.Malformed", status: 400},
		"another's token":    {credentials: with(func(c *providers.Credentials) { c.SecurityToken = other.SecurityToken }), code: "InvalidSecurityToken.MismatchWithAccessKey", status: 400},
		"changed secret":     {tamper: func(r *http.Request) { r.URL.RawQuery = "SecretName=theirs" }, code: "SignatureDoesNotMatch", status: 400},
		"changed body":       {tamper: func(r *http.Request) { replaceBody(r, "x") }, code: "SignatureDoesNotMatch", status: 400},
		"changed header":     {tamper: func(r *http.Request) { r.Header.Set("x-acs-extra", "1") }, code: "SignatureDoesNotMatch", status: 400},
		"changed host":       {tamper: func(r *http.Request) { r.Host = "kms.cn-hangzhou.aliyuncs.com" }, code: "SignatureDoesNotMatch", status: 400},
		"no signature":       {tamper: func(r *http.Request) { r.Header.Del("Authorization") }, code: "MissingAccessKeyId", status: 400},
		"half a signature":   {tamper: func(r *http.Request) { r.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential=a") }, code: "IncompleteSignature", status: 400},
		"no date":            {tamper: func(r *http.Request) { dropHeader(r, "x-acs-date") }, code: "MissingParameter", status: 400},
		"strange date":       {tamper: func(r *http.Request) { setHeader(r, "x-acs-date", "today") }, code: "InvalidTimeStamp.Format", status: 400},
		"old date":           {tamper: func(r *http.Request) { setHeader(r, "x-acs-date", "2020-01-02T03:04:05Z") }, code: "InvalidTimeStamp.Expired", status: 400},
		"unknown action":     {tamper: func(r *http.Request) { setHeader(r, "x-acs-action", "Encrypt") }, code: "InvalidAction.NotFound", status: 404},
		"other version":      {tamper: func(r *http.Request) { setHeader(r, "x-acs-version", "2016-01-21") }, code: "InvalidVersion", status: 400},
		"other service":      {tamper: func(r *http.Request) { r.Host = "sts.aliyuncs.com" }, code: "InvalidAction.NotFound", status: 404},
		"other path":         {tamper: func(r *http.Request) { r.URL.Path = "/api" }, code: "InvalidAction.NotFound", status: 404},
		"other method":       {tamper: func(r *http.Request) { r.Method = "PUT" }, code: "UnsupportedHTTPMethod", status: 403},
	} {
		t.Run(name, func(t *testing.T) {
			if x.credentials == nil {
				x.credentials = c
			}
			if x.request == nil {
				x.request = request("ours")
			}
			_, err := ask(kmsClient(t, s, x.credentials, x.tamper), x.request)
			sdk := refused(t, err, x.code, x.status)
			if strings.Contains(tea.StringValue(sdk.Data), `"RequestId":""`) {
				t.Error("no request ID")
			}
		})
	}
}

func replaceBody(r *http.Request, body string) {
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
}

// The SDK writes its headers in lower case, which Header's methods do not find.
func dropHeader(r *http.Request, name string) {
	maps.DeleteFunc(r.Header, func(have string, _ []string) bool { return strings.EqualFold(have, name) })
}

func setHeader(r *http.Request, name, value string) {
	dropHeader(r, name)
	r.Header.Set(name, value)
}

func TestRefusalSaysWhat(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, emulator.Secret{Name: "theirs", Value: emulator.Value{Text: "x"}})
	_, err := get(t, s, mustAssume(t, s), "theirs")
	sdk := refused(t, err, "Forbidden.NoPermission", 403)
	for key, want := range map[string]string{
		"AuthAction": "kms:GetSecretValue", "NoPermissionType": "ImplicitDeny", "AuthPrincipalType": "AssumedRoleUser",
		"PolicyType": "AccountLevelIdentityBasedPolicy", "AuthPrincipalOwnerId": emulatortest.Account,
	} {
		if got := sdk.AccessDeniedDetail[key]; got != want {
			t.Errorf("%s: got %v, want %s", key, got, want)
		}
	}
}

func TestReplayIsRefused(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("ours", "x"))
	c := mustAssume(t, s)
	var first *http.Request
	if _, err := ask(kmsClient(t, s, c, func(r *http.Request) { first = r.Clone(t.Context()) }), &kms.GetSecretValueRequest{SecretName: tea.String("ours")}); err != nil {
		t.Fatal(err)
	}
	_, err := ask(kmsClient(t, s, c, func(r *http.Request) { r.Header = first.Header }), &kms.GetSecretValueRequest{SecretName: tea.String("ours")})
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
