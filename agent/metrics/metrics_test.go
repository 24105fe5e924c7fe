package metrics

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func get(t *testing.T, handler http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody))
	return w.Code, w.Body.String()
}

func always() error { return nil }

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := New()
		a.Fetched("app/db", time.Now())
		a.Fetched("acs:kms:cn-hangzhou:1:secret/x", time.Now())
		a.RefreshEvery(5 * time.Minute)
		a.Refreshed(true, OK)
		a.Refreshed(false, "Rejected.Throttling")
		a.Refreshed(true, OK)
		a.KMSRequest(OK)
		a.STSRequest("AuthenticationFail.NoPermission")
		a.FilesWritten(3)
		a.FilesWritten(2)
		a.Cache(func() (uint64, uint64) { return 7, 1 })
		a.Notified(func() (uint64, uint64) { return 4, 2 })
		time.Sleep(90 * time.Second) // synctest begins at 2000-01-01T00:00:00Z
		a.Fetched("app/db", time.Now())

		_, text := get(t, a.Handler(always), "/metrics")
		want := `# HELP kms_agent_secret_last_success_timestamp_seconds When KMS last gave the secret's value.
# TYPE kms_agent_secret_last_success_timestamp_seconds gauge
kms_agent_secret_last_success_timestamp_seconds{secret="acs:kms:cn-hangzhou:1:secret/x"} 9.466848e+08
kms_agent_secret_last_success_timestamp_seconds{secret="app/db"} 9.4668489e+08
# HELP kms_agent_secret_age_seconds How long ago KMS last gave the secret's value.
# TYPE kms_agent_secret_age_seconds gauge
kms_agent_secret_age_seconds{secret="acs:kms:cn-hangzhou:1:secret/x"} 90
kms_agent_secret_age_seconds{secret="app/db"} 0
# HELP kms_agent_refresh_interval_seconds Time between refreshes of the pod's secrets; 0 if there is nothing to refresh.
# TYPE kms_agent_refresh_interval_seconds gauge
kms_agent_refresh_interval_seconds 300
# HELP kms_agent_refresh_total Refreshes of the pod's secrets.
# TYPE kms_agent_refresh_total counter
kms_agent_refresh_total{result="failure",code="Rejected.Throttling"} 1
kms_agent_refresh_total{result="success",code="OK"} 2
# HELP kms_agent_kms_requests_total Requests to KMS by what came of them.
# TYPE kms_agent_kms_requests_total counter
kms_agent_kms_requests_total{code="OK"} 1
# HELP kms_agent_sts_requests_total Requests to STS by what came of them.
# TYPE kms_agent_sts_requests_total counter
kms_agent_sts_requests_total{code="AuthenticationFail.NoPermission"} 1
# HELP kms_agent_cache_hits_total Reads through the local API that needed no request to KMS.
# TYPE kms_agent_cache_hits_total counter
kms_agent_cache_hits_total 7
# HELP kms_agent_cache_misses_total Reads through the local API that needed a request to KMS.
# TYPE kms_agent_cache_misses_total counter
kms_agent_cache_misses_total 1
# HELP kms_agent_files_written_total Files that were written because their content changed.
# TYPE kms_agent_files_written_total counter
kms_agent_files_written_total 5
# HELP kms_agent_notifications_total Attempts to tell a program of the pod that its files changed.
# TYPE kms_agent_notifications_total counter
kms_agent_notifications_total{result="failure"} 2
kms_agent_notifications_total{result="success"} 4
`
		if text != want {
			t.Errorf("got\n%s\nwant\n%s", text, want)
		}
	})
}

// Prometheus's own parser reads back every label, and finds what Prometheus's own client would have written.
func TestPrometheusReadsIt(t *testing.T) {
	odd := []string{"plain", `quo"te`, `back\slash`, "line\nbreak", `\n`, "", "密钥", "a,b={}", "not\xffUTF-8"}
	f := New().family("kms_agent_test", "Odd labels.", "first", "second")
	want := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "kms_agent_test", Help: "Odd labels."}, []string{"first", "second"})
	for i, label := range odd {
		f.set(float64(i)+0.25, label, "x"+label)
		valid := strings.ToValidUTF8(label, "\uFFFD")
		want.WithLabelValues(valid, "x"+valid).Set(float64(i) + 0.25)
	}
	var text bytes.Buffer
	f.write(&text)
	New().refreshes.write(&text) // none yet
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(want)
	if err := testutil.GatherAndCompare(registry, &text, "kms_agent_test"); err != nil {
		t.Error(err)
	}
}

// What alerts, dashboard and documents call the agent's metrics is what they are called, and each is documented.
func TestMetricsAreWhatIsReferredTo(t *testing.T) {
	_, text := get(t, New().Handler(always), "/metrics")
	names := map[string]bool{} // and whether it is documented
	for _, found := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(text, -1) {
		names[found[1]] = false
	}
	const documented = "../../docs/operations.md"
	for _, file := range []string{"../../deploy/chart/kms-agent-injector/monitoring/alerts.yaml",
		"../../deploy/chart/kms-agent-injector/monitoring/dashboard.json", "../../docs/runbooks.md", documented} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bkms_agent_\w+`).FindAllString(string(text), -1) {
			if _, ok := names[name]; !ok {
				t.Errorf("%s refers to %s, which the agent does not have", file, name)
			}
			names[name] = names[name] || file == documented
		}
	}
	for name, ok := range names {
		if !ok {
			t.Errorf("%s does not have %s", documented, name)
		}
	}
}

func TestReady(t *testing.T) {
	var reason error
	handler := New().Handler(func() error { return reason })
	if status, body := get(t, handler, "/readyz"); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	reason = errors.New("no files yet")
	if status, body := get(t, handler, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(body, "no files yet") {
		t.Errorf("%d %s", status, body)
	}
}

func TestServeAndConcurrentUse(t *testing.T) {
	a := New()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var server, wg sync.WaitGroup
	server.Go(func() {
		if err := Serve(ctx, listener, a.Handler(always)); err != nil {
			t.Error(err)
		}
	})
	for range 4 {
		wg.Go(func() {
			for range 25 {
				a.Refreshed(true, OK)
				a.Fetched("app/db", time.Now())
				a.FilesWritten(1)
				res, err := http.Get("http://" + listener.Addr().String() + "/metrics")
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					t.Error(err)
				}
				res.Body.Close()
			}
		})
	}
	wg.Wait()
	if _, text := get(t, a.Handler(always), "/metrics"); !strings.Contains(text, "kms_agent_files_written_total 100\n") {
		t.Error(text)
	}
	http.DefaultClient.CloseIdleConnections()
	cancel()
	server.Wait()
}
