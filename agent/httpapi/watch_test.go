package httpapi

import (
	"bufio"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// listen opens a watch; next returns the next line that is not empty, and false at the end.
func listen(t *testing.T, address string, header map[string]string) (next func() (string, bool)) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v1/watch?secretId=app/db", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-KMS-Token", testToken)
	for name, value := range header {
		req.Header.Set(name, value)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	if kind := res.Header.Get("Content-Type"); res.StatusCode != 200 || kind != "text/event-stream" {
		t.Fatalf("%d %s", res.StatusCode, kind)
	}
	lines := bufio.NewScanner(res.Body)
	return func() (string, bool) {
		for lines.Scan() {
			if lines.Text() != "" {
				return lines.Text(), true
			}
		}
		return "", false
	}
}

func wantLines(t *testing.T, next func() (string, bool), want ...string) {
	t.Helper()
	for _, line := range want {
		if got, ok := next(); got != line || !ok {
			t.Errorf("%q, %v; want %q", got, ok, line)
		}
	}
}

func version(v string) *kms.Secret {
	return &kms.Secret{Name: dbSecret.Name, Data: []byte(sentinel), VersionID: v, Stages: dbSecret.Stages}
}

func TestWatch(t *testing.T) {
	source := newOrigin()
	address, stop := start(t, Config{Source: source})
	next := listen(t, address, nil)
	wantLines(t, next, ": watching app/db")
	source.changes <- version("v1") // as it is: no change
	source.changes <- version("v2")
	wantLines(t, next, "event: version", "id: v2", `data: {"SecretName":"app/db","VersionId":"v2","VersionStages":["ACSCurrent"]}`)
	source.changes <- version("v2")
	source.changes <- version("v1") // back
	wantLines(t, next, "event: version", "id: v1", `data: {"SecretName":"app/db","VersionId":"v1","VersionStages":["ACSCurrent"]}`)

	begun := time.Now()
	stop()
	if took := time.Since(begun); took >= closingLimit {
		t.Errorf("an open watch held the server up for %s", took)
	}
	if line, ok := next(); ok {
		t.Errorf("%q after the server's end", line)
	}
}

// A client that comes back learns what it missed.
func TestWatchGoesOnAfterTheLastEvent(t *testing.T) {
	source := newOrigin()
	address, _ := start(t, Config{Source: source})
	next := listen(t, address, map[string]string{"Last-Event-ID": "v0"})
	source.changes <- version("v1")
	wantLines(t, next, ": watching app/db", "event: version", "id: v1")
}

func TestWatchEndsWithItsSource(t *testing.T) {
	source := newOrigin()
	address, _ := start(t, Config{Source: source})
	next := listen(t, address, nil)
	close(source.changes)
	wantLines(t, next, ": watching app/db")
	if line, ok := next(); ok {
		t.Errorf("%q after the end", line)
	}
}

// What bounds other requests does not bound a watch.
func TestWatchOutlivesTimeLimits(t *testing.T) {
	source := newOrigin()
	handler, err := New(Config{
		Source: source, Token: testToken, Allow: []string{"app/db"}, Heartbeat: 50 * time.Millisecond, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ReadTimeout, server.Config.WriteTimeout = 100*time.Millisecond, 100*time.Millisecond
	server.Start()
	defer server.Close()
	next := listen(t, strings.TrimPrefix(server.URL, "http://"), nil)
	wantLines(t, next, ": watching app/db")
	for range 6 {
		wantLines(t, next, ": still here")
	}
	source.changes <- version("v2")
	for {
		line, ok := next()
		if line == "event: version" {
			break
		}
		if !ok {
			t.Fatal("the stream ended")
		}
	}
	server.CloseClientConnections()
}
