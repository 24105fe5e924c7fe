package emulator

import (
	"net/http/httptest"
	"strings"
	"testing"
)

// A caller without a client key gets no value, whatever it sends.
func FuzzProtobufStrangers(f *testing.F) {
	e, err := New(Config{Account: "1", Secrets: []Secret{{Name: "a", Value: Value{Text: "the value"}}}, Instances: []Instance{{ID: "i"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add("i.cryptoservice.kms.aliyuncs.com", "GetSecretValue", []byte("\x0a\x01a\x20\x01"), "Bearer eA==")
	f.Add("kms.cn-hangzhou.aliyuncs.com", "GetSecretValue", []byte("\x0a\xff"), "")
	f.Fuzz(func(t *testing.T, host, api string, body []byte, authorization string) {
		r := httptest.NewRequest("POST", "https://x/", strings.NewReader(string(body)))
		r.Host = host
		for name, value := range map[string]string{
			"Content-Type": protobufType, "x-kms-apiname": api, "x-kms-apiversion": clientKeyVersion, "authorization": authorization,
			"date": e.clock().UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT"), "x-kms-signaturemethod": clientKeyMethod,
			clientKeyID: "k", "content-sha256": "x",
		} {
			r.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		e.ServeHTTP(w, r)
		if w.Code < 400 || w.Code > 499 || strings.Contains(w.Body.String(), "the value") {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	})
}
