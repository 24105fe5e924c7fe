package notify

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// receiver is a program that receives notifications.
type receiver struct {
	mu      sync.Mutex
	changes []Change
	answer  func(n int) int // n counts from 1
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	var c Change
	body, _ := io.ReadAll(request.Body)
	if request.Method != http.MethodPost || request.Header.Get("Content-Type") != "application/json" || json.Unmarshal(body, &c) != nil {
		http.Error(w, "malformed", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	r.changes = append(r.changes, c)
	n := len(r.changes)
	r.mu.Unlock()
	if r.answer != nil {
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(r.answer(n))
	}
}

func (r *receiver) heard() []Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Change(nil), r.changes...)
}

// RoundTrip lets a receiver stand in for the network, where time is virtual.
func (r *receiver) RoundTrip(request *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	r.ServeHTTP(w, request)
	return w.Result(), nil
}

func quiet() *Notifier {
	n, _ := New(slog.New(slog.DiscardHandler), agentconfig.Config{}, func(config.Target, Change, int, error) {})
	return n
}

func target(t *testing.T, text string) config.Target {
	t.Helper()
	parsed, err := config.ParseOnChange(text)
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

func TestPost(t *testing.T) {
	r := &receiver{}
	server := httptest.NewServer(r)
	defer server.Close()
	n := quiet()
	want := Change{At: time.Unix(1e9, 0).UTC(), Files: []File{{Path: "db.env", Secret: "app/db", Version: "v2", PreviousVersion: "v1"}}}
	n.notify(t.Context(), target(t, server.URL+"/-/reload"), want)
	n.Wait()
	if got := r.heard(); len(got) != 1 || !reflect.DeepEqual(got[0], want) {
		t.Errorf("heard %+v", got)
	}
	if delivered, failed := n.Counts(); delivered != 1 || failed != 0 {
		t.Errorf("%d delivered, %d failed", delivered, failed)
	}
}

func TestPostFollowsNobodyOutside(t *testing.T) {
	r := &receiver{answer: func(int) int { return http.StatusTemporaryRedirect }}
	server := httptest.NewServer(r)
	defer server.Close()
	n := quiet()
	if err := n.post(t.Context(), server.URL, Change{}); err == nil || !strings.Contains(err.Error(), "HTTP 307") || len(r.heard()) != 1 {
		t.Errorf("%d calls, %v", len(r.heard()), err)
	}
	t.Setenv("HTTP_PROXY", server.URL)
	for _, url := range []string{"http://192.0.2.1:80/", "http://0.0.0.0:80/", "http://[::]:80/"} {
		if err := n.post(t.Context(), url, Change{}); err == nil || !strings.Contains(err.Error(), "not in this pod") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

func change(version, before string, paths ...string) Change {
	c := Change{At: time.Now()}
	for _, path := range paths {
		c.Files = append(c.Files, File{Path: path, Secret: "s", Version: version, PreviousVersion: before})
	}
	return c
}

// versions is what a program has heard of one file, in order.
func versions(changes []Change) string {
	var all []string
	for _, c := range changes {
		for _, f := range c.Files {
			all = append(all, f.PreviousVersion+">"+f.Version)
		}
	}
	return strings.Join(all, " ")
}

// A target that is away for an hour is told when it is back, within two minutes.
func TestATargetIsToldAtLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, away := time.Now(), time.Hour
		r := &receiver{answer: func(int) int {
			if time.Since(begun) < away {
				return http.StatusServiceUnavailable
			}
			return http.StatusNoContent
		}}
		n := quiet()
		n.client.Transport = r
		n.notify(t.Context(), target(t, "http://127.0.0.1:1/"), change("v2", "v1", "a"))
		n.Wait()
		took := time.Since(begun)
		if delivered, failed := n.Counts(); delivered != 1 || failed < 30 || failed > 120 || took < away || took > away+largest {
			t.Errorf("%d delivered, %d failed, in %s", delivered, failed, took)
		}
	})
}

// While a target cannot be reached, changes add up to one, and the newest version counts.
func TestChangesCoalesce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{answer: func(n int) int {
			if n == 1 {
				return http.StatusServiceUnavailable
			}
			return http.StatusOK
		}}
		n := quiet()
		n.client.Transport = r
		to := target(t, "http://127.0.0.1:1/")
		n.notify(t.Context(), to, change("v2", "v1", "a"))
		synctest.Wait() // the first attempt has failed
		n.notify(t.Context(), to, change("v3", "v2", "a", "b"))
		n.notify(t.Context(), to, change("v4", "v3", "a"))
		n.Wait()
		if got := versions(r.heard()); got != "v1>v2 v1>v4 v2>v3" {
			t.Errorf("heard %s", got)
		}
	})
}

func TestASlowTargetHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow, quick := make(chan struct{}), &receiver{}
		n := quiet()
		n.client.Timeout = 0
		n.client.Transport = roundTrip(func(request *http.Request) (*http.Response, error) {
			if request.URL.Path == "/slow" {
				select {
				case <-slow:
				case <-request.Context().Done():
					return nil, request.Context().Err()
				}
			}
			return quick.RoundTrip(request)
		})
		ctx, cancel := context.WithCancel(t.Context())
		n.notify(ctx, target(t, "http://127.0.0.1:1/slow"), change("v2", "v1", "a"))
		n.notify(ctx, target(t, "http://127.0.0.1:1/quick"), change("v2", "v1", "b"))
		synctest.Wait()
		if len(quick.heard()) != 1 {
			t.Errorf("%d calls", len(quick.heard()))
		}
		begun := time.Now()
		cancel()
		n.Wait()
		if took := time.Since(begun); took != 0 {
			t.Errorf("ended after %s", took)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestManyChangesAtOnce(t *testing.T) {
	r := &receiver{}
	server := httptest.NewServer(r)
	defer server.Close()
	n := quiet()
	var group sync.WaitGroup
	for _, path := range []string{"/a", "/b", "/c"} {
		to := target(t, server.URL+path)
		for range 50 {
			group.Go(func() { n.notify(t.Context(), to, change("v2", "v1", path)) })
		}
	}
	group.Wait()
	n.Wait()
	heard := map[string]bool{}
	for _, c := range r.heard() {
		if len(c.Files) != 1 {
			t.Errorf("a mixed change: %+v", c)
		}
		heard[c.Files[0].Path] = true
	}
	if len(heard) != 3 || len(n.pending) != 0 {
		t.Errorf("heard of %v, %d pending", heard, len(n.pending))
	}
}
