package emulator

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func TestEndpoints(t *testing.T) {
	for host, want := range map[string]struct {
		service service
		region  string
	}{
		"sts.aliyuncs.com":                 {sts, ""},
		"sts.cn-beijing.aliyuncs.com":      {sts, "cn-beijing"},
		"sts-vpc.cn-hangzhou.aliyuncs.com": {sts, "cn-hangzhou"},
		"kms.ap-southeast-1.aliyuncs.com":  {kms, "ap-southeast-1"},
		"kms-vpc.cn-hangzhou.aliyuncs.com": {kms, "cn-hangzhou"},
		"ecs.cn-hangzhou.aliyuncs.com":     {},
		"kms.cn-hangzhou.aliyuncs.com.x":   {},
		"127.0.0.1":                        {},
		"kms-emulator.kms-emulator.svc":    {},
		"i.cryptoservice.kms.aliyuncs.com": {},
	} {
		if service, region := endpoint(host); service != want.service || region != want.region {
			t.Errorf("%s: got %q %q, want %q %q", host, service, region, want.service, want.region)
		}
	}
}

// The older RPC style, and the newer V3 style: the same refusal for the same reason.
func TestBothStyles(t *testing.T) {
	e, err := New(Config{Account: "1"})
	if err != nil {
		t.Fatal(err)
	}
	form := func(method, host, query, body string) *http.Request {
		r := httptest.NewRequest(method, "https://"+host+"/?"+query, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		return r
	}
	v3 := form("POST", "sts.aliyuncs.com", "RoleArn=a", "")
	v3.Header.Set("x-acs-action", "AssumeRoleWithOIDC")
	v3.Header.Set("x-acs-version", "2015-04-01")
	for name, x := range map[string]struct {
		request *http.Request
		code    string
	}{
		"V3": {v3, "MissingParameter.OIDCProviderArn"},
		"RPC by query": {form("GET", "sts.aliyuncs.com", "Action=AssumeRoleWithOIDC&Version=2015-04-01&RoleArn=a", ""),
			"MissingParameter.OIDCProviderArn"},
		"RPC by form": {form("POST", "sts.aliyuncs.com", "", "Action=AssumeRoleWithOIDC&Version=2015-04-01&RoleArn=a"),
			"MissingParameter.OIDCProviderArn"},
		"port in the host": {form("POST", "STS.aliyuncs.com:8443", "", "Action=AssumeRoleWithOIDC&Version=2015-04-01"),
			"MissingParameter.OIDCProviderArn"},
		"old timestamp": {form("POST", "sts.aliyuncs.com", "", "Action=AssumeRoleWithOIDC&Version=2015-04-01&Timestamp=2020-01-02T03:04:05Z"),
			"InvalidTimeStamp.Expired"},
		"no version":   {form("POST", "sts.aliyuncs.com", "Action=AssumeRoleWithOIDC", ""), "InvalidVersion"},
		"no action":    {form("POST", "sts.aliyuncs.com", "", ""), "InvalidAction.NotFound"},
		"KMS's at STS": {form("POST", "sts.aliyuncs.com", "Action=GetSecretValue&Version=2016-01-20", ""), "InvalidAction.NotFound"},
		"broken form":  {form("POST", "sts.aliyuncs.com", "", "%"), "InvalidParameter"},
		"broken query": {form("POST", "sts.aliyuncs.com", "%", ""), "InvalidParameter"},
		"too large":    {form("POST", "sts.aliyuncs.com", "", strings.Repeat("a", maxBody+1)), "InvalidParameter"},
	} {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, x.request)
		if got := checkRefusal(t, w); got != x.code {
			t.Errorf("%s: got %s, want %s", name, got, x.code)
		}
	}
}

// A caller without a session gets only a refusal in the documented form.
func FuzzStrangers(f *testing.F) {
	e, err := New(Config{Account: "1", Secrets: []Secret{{Name: "a", Value: Value{Text: "the value"}}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("POST", "kms.cn-hangzhou.aliyuncs.com", "Action=GetSecretValue&Version=2016-01-20&SecretName=a", "application/x-www-form-urlencoded",
		"", "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=b")
	f.Add("GET", "sts.aliyuncs.com", "", "application/x-www-form-urlencoded", "Action=AssumeRoleWithOIDC&Version=2015-04-01&OIDCToken=a.b.c",
		"")
	f.Fuzz(func(t *testing.T, method, host, query, contentType, body, authorization string) {
		r := httptest.NewRequest("POST", "https://x/", strings.NewReader(body))
		r.Method, r.Host, r.URL.RawQuery = method, host, query
		r.Header.Set("Content-Type", contentType)
		r.Header.Set("Authorization", authorization)
		r.Header.Set("x-acs-date", "2026-01-02T03:04:05Z")
		r.Header.Set("x-acs-content-sha256", "x")
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		checkRefusal(t, w)
		if strings.Contains(w.Body.String(), "the value") {
			t.Error("the value was given away")
		}
	})
}

func checkRefusal(t *testing.T, w *httptest.ResponseRecorder) (code string) {
	t.Helper()
	var body map[string]string
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	for _, field := range []string{"Code", "Message", "Recommend"} {
		if body[field] == "" {
			t.Errorf("no %s in %s", field, w.Body)
		}
	}
	if !regexp.MustCompile(`^[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}$`).MatchString(body["RequestId"]) {
		t.Errorf("RequestId %q", body["RequestId"])
	}
	if w.Code < 400 || w.Code > 499 {
		t.Errorf("status %d", w.Code)
	}
	return body["Code"]
}
