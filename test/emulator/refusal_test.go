package emulator_test

import (
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/tea"
	"github.com/aliyun/credentials-go/credentials/providers"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

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
		"unknown secret": {request: request("nothing"), code: "Forbidden.ResourceNotFound", status: 404},
		"other region":   {request: request("elsewhere"), code: "Forbidden.ResourceNotFound", status: 404},
		"other region's ARN": {request: request("acs:kms:cn-beijing:1234567890123456:secret/elsewhere"), code: "Forbidden.ResourceNotFound",
			status: 404},
		"forbidden secret": {request: request("theirs"), code: "Forbidden.NoPermission", status: 403},
		"unknown version": {request: &kms.GetSecretValueRequest{SecretName: tea.String("ours"), VersionId: tea.String("v9")},
			code: "Forbidden.ResourceNotFound", status: 404},
		"no name": {request: &kms.GetSecretValueRequest{}, code: "MissingParameter", status: 400},
		"wrong secret key": {credentials: with(func(c *providers.Credentials) { c.AccessKeySecret += "x" }), code: "SignatureDoesNotMatch",
			status: 400},
		"unknown access key": {credentials: with(func(c *providers.Credentials) { c.AccessKeyId = "STS.unknown" }),
			code: "InvalidAccessKeyId.NotFound", status: 404},
		"no token": {credentials: with(func(c *providers.Credentials) { c.SecurityToken = "" }), code: "MissingSecurityToken",
			status: 400},
		"made-up token": {credentials: with(func(c *providers.Credentials) { c.SecurityToken = "CAIS" }),
			code: "InvalidSecurityToken.Malformed", status: 400},
		"another's token": {credentials: with(func(c *providers.Credentials) { c.SecurityToken = other.SecurityToken }),
			code: "InvalidSecurityToken.MismatchWithAccessKey", status: 400},
		"changed secret": {tamper: func(r *http.Request) { r.URL.RawQuery = "SecretName=theirs" }, code: "SignatureDoesNotMatch",
			status: 400},
		"changed body":   {tamper: func(r *http.Request) { replaceBody(r, "x") }, code: "SignatureDoesNotMatch", status: 400},
		"changed header": {tamper: func(r *http.Request) { r.Header.Set("x-acs-extra", "1") }, code: "SignatureDoesNotMatch", status: 400},
		"changed host": {tamper: func(r *http.Request) { r.Host = "kms.cn-hangzhou.aliyuncs.com" }, code: "SignatureDoesNotMatch",
			status: 400},
		"no signature": {tamper: func(r *http.Request) { r.Header.Del("Authorization") }, code: "MissingAccessKeyId", status: 400},
		"half a signature": {tamper: func(r *http.Request) { r.Header.Set("Authorization", "ACS3-HMAC-SHA256 Credential=a") },
			code: "IncompleteSignature", status: 400},
		"no date": {tamper: func(r *http.Request) { dropHeader(r, "x-acs-date") }, code: "MissingParameter", status: 400},
		"strange date": {tamper: func(r *http.Request) { setHeader(r, "x-acs-date", "today") }, code: "InvalidTimeStamp.Format",
			status: 400},
		"old date": {tamper: func(r *http.Request) { setHeader(r, "x-acs-date", "2020-01-02T03:04:05Z") },
			code: "InvalidTimeStamp.Expired", status: 400},
		"unknown action": {tamper: func(r *http.Request) { setHeader(r, "x-acs-action", "Encrypt") }, code: "InvalidAction.NotFound",
			status: 404},
		"other version": {tamper: func(r *http.Request) { setHeader(r, "x-acs-version", "2016-01-21") }, code: "InvalidVersion",
			status: 400},
		"other service": {tamper: func(r *http.Request) { r.Host = "sts.aliyuncs.com" }, code: "InvalidAction.NotFound", status: 404},
		"other path":    {tamper: func(r *http.Request) { r.URL.Path = "/api" }, code: "InvalidAction.NotFound", status: 404},
		"other method":  {tamper: func(r *http.Request) { r.Method = "PUT" }, code: "UnsupportedHTTPMethod", status: 403},
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
