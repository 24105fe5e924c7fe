package httpapi

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// Whatever is asked for, the answer is one of the documented ones, and only what is allowed is asked of the source.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"/v1/app/db", "/secretsmanager/get?secretId=app/db", "/v1/app/db?refreshNow=1&versionId=v%31", "/v1/%61pp/db", "/v1//app/db",
		"/v1/app/../db",
		"/secretsmanager/get?secretId=app/db&&=", "/secretsmanager/get?secretId=app%2", "/v1/acs:kms:r:1:secret/app/db", "/ping?x",
		"/v1/app/db;x=1", "*", "/v1/app/\x00",
	} {
		f.Add(http.MethodGet, seed)
	}
	f.Fuzz(func(t *testing.T, method, target string) {
		path, query, _ := strings.Cut(target, "?")
		source := newOrigin()
		server, err := New(Config{Source: source, Token: testToken, Allow: []string{"app/*"}, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Header: http.Header{"X-Kms-Token": {testToken}}}
		if strings.HasSuffix(path, "/watch") {
			close(source.changes)
		}
		w := httptest.NewRecorder()
		server.ServeHTTP(w, r)
		if !slices.Contains([]int{200, 400, 403, 404, 405, 500, 502, 504}, w.Code) {
			t.Errorf("%d", w.Code)
		}
		for _, asked := range source.asked {
			if !strings.HasPrefix(asked.Name, "app/") {
				t.Errorf("the source was asked for %q", asked.Name)
			}
		}
	})
}
