package acs3

import (
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	"pgregory.net/rapid"
)

// Whatever the SDK signs, we sign the same.
func TestSignatureAgreesWithSDK(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.String().Draw(t, "secret")
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		query := map[string]*string{}
		for _, name := range rapid.SliceOfDistinct(rapid.StringMatching(`[A-Za-z][A-Za-z0-9.]{0,9}`), rapid.ID[string]).Draw(t, "names") {
			query[name] = dara.String(rapid.String().Draw(t, "value"))
		}
		headers := map[string]*string{
			"host":         dara.String("kms-vpc.cn-hangzhou.aliyuncs.com"),
			"x-acs-action": dara.String("GetSecretValue"),
			"x-acs-date":   dara.String("2026-01-02T03:04:05Z"),
			"user-agent":   dara.String("not signed"),
			"x-acs-custom": dara.String(rapid.StringMatching(`[ -~]{0,20}`).Draw(t, "header")),
			"content-type": dara.String("application/x-www-form-urlencoded"),
		}
		sdk := &dara.Request{
			Method: dara.String("POST"), Pathname: dara.String("/"), Query: query, Headers: headers,
		}
		algorithm := dara.String(Algorithm)
		hash := hex.EncodeToString(openapiutil.Hash(body, algorithm))
		want := *openapiutil.GetAuthorization(sdk, algorithm, &hash, dara.String("STS.key"), &secret)

		values := url.Values{}
		for name, value := range query {
			values.Set(name, *value)
		}
		r := httptest.NewRequest("POST", "https://kms-vpc.cn-hangzhou.aliyuncs.com/?"+values.Encode(), nil)
		for name, value := range headers {
			if name != "host" {
				r.Header.Set(name, *value)
			}
		}
		auth, err := ParseAuthorization(want)
		if err != nil {
			t.Fatal(err)
		}
		if got := Sign(secret, StringToSign(CanonicalRequest(r, body))); !Equal(got, auth.Signature) {
			t.Fatalf("got %s, SDK says %s; canonical request:\n%s", got, auth.Signature, CanonicalRequest(r, body))
		}
	})
}

func TestEveryPartIsSigned(t *testing.T) {
	request := func() *http.Request {
		r := httptest.NewRequest("POST", "https://kms.cn-hangzhou.aliyuncs.com/?SecretName=a", nil)
		r.Header.Set("x-acs-date", "2026-01-02T03:04:05Z")
		return r
	}
	want := CanonicalRequest(request(), nil)
	for name, change := range map[string]func(*http.Request){
		"method":       func(r *http.Request) { r.Method = "GET" },
		"path":         func(r *http.Request) { r.URL.Path = "/a" },
		"query":        func(r *http.Request) { r.URL.RawQuery = "SecretName=b" },
		"host":         func(r *http.Request) { r.Host = "example.com" },
		"header":       func(r *http.Request) { r.Header.Set("x-acs-date", "2026-01-02T03:04:06Z") },
		"added header": func(r *http.Request) { r.Header.Set("x-acs-security-token", "t") },
		"type":         func(r *http.Request) { r.Header.Set("content-type", "text/plain") },
	} {
		r := request()
		change(r)
		if CanonicalRequest(r, nil) == want {
			t.Errorf("%s is not signed", name)
		}
	}
	if CanonicalRequest(request(), []byte("x")) == want {
		t.Error("the body is not signed")
	}
	unsigned := request()
	unsigned.Header.Set("user-agent", "any")
	if CanonicalRequest(unsigned, nil) != want {
		t.Error("user-agent must not be signed")
	}
}

func TestRefusedAuthorization(t *testing.T) {
	for _, header := range []string{
		"", "Bearer x", "ACS3-RSA-SHA256 Credential=a,SignedHeaders=host,Signature=b",
		"ACS3-HMAC-SHA256", "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=",
		"ACS3-HMAC-SHA256 SignedHeaders=host,Signature=b", "ACS3-HMAC-SHA256 Credential=a,Signature=b",
	} {
		if auth, err := ParseAuthorization(header); err == nil {
			t.Errorf("%q: got %v, want an error", header, auth)
		}
	}
}

func FuzzParseAuthorization(f *testing.F) {
	f.Add("ACS3-HMAC-SHA256 Credential=STS.a,SignedHeaders=host;x-acs-date,Signature=00")
	f.Fuzz(func(t *testing.T, header string) {
		auth, err := ParseAuthorization(header)
		if err == nil && (auth.AccessKeyID == "" || !strings.HasPrefix(header, Algorithm)) {
			t.Errorf("%q accepted as %v", header, auth)
		}
	})
}
