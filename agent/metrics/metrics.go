// Package metrics counts what an agent does and shows it to Prometheus.
//
// The Prometheus library is not used: it would add four and a half megabytes to a program that runs in every pod, for
// ten metrics in a text format of three kinds of lines.
package metrics

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// OK is the code of a request that succeeded.
const OK = "OK"

// Agent holds an agent's metrics. It is safe for concurrent use.
type Agent struct {
	mu sync.Mutex // of all that is below

	families []*family // all of the following, in the order of the output

	lastSuccess, age, interval, refreshes, kmsRequests, stsRequests, hits, misses, files, notifications *family

	fetched  map[string]time.Time
	cache    func() (hits, misses uint64)
	notified func() (delivered, failed uint64)
}

// New returns metrics that stand at zero.
func New() *Agent {
	a := &Agent{fetched: map[string]time.Time{}}
	a.lastSuccess = a.family("kms_agent_secret_last_success_timestamp_seconds", "When KMS last gave the secret's value.", "secret")
	a.age = a.family("kms_agent_secret_age_seconds", "How long ago KMS last gave the secret's value.", "secret")
	a.interval = a.family("kms_agent_refresh_interval_seconds",
		"Time between refreshes of the pod's secrets; 0 if there is nothing to refresh.")
	a.refreshes = a.family("kms_agent_refresh_total", "Refreshes of the pod's secrets.", "result", "code")
	a.kmsRequests = a.family("kms_agent_kms_requests_total", "Requests to KMS by what came of them.", "code")
	a.stsRequests = a.family("kms_agent_sts_requests_total", "Requests to STS by what came of them.", "code")
	a.hits = a.family("kms_agent_cache_hits_total", "Reads through the local API that needed no request to KMS.")
	a.misses = a.family("kms_agent_cache_misses_total", "Reads through the local API that needed a request to KMS.")
	a.files = a.family("kms_agent_files_written_total", "Files that were written because their content changed.")
	a.notifications = a.family("kms_agent_notifications_total", "Attempts to tell a program of the pod that its files changed.", "result")
	return a
}

// note changes what is held.
func (a *Agent) note(change func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change()
}

// Fetched notes that KMS gave the value of a secret.
func (a *Agent) Fetched(secret string, at time.Time) { a.note(func() { a.fetched[secret] = at }) }

// RefreshEvery notes how often the pod's secrets are fetched anew.
func (a *Agent) RefreshEvery(interval time.Duration) {
	a.note(func() { a.interval.set(interval.Seconds()) })
}

// Refreshed counts a refresh by the code of its error, or OK.
func (a *Agent) Refreshed(ok bool, code string) {
	result := "failure"
	if ok {
		result = "success"
	}
	a.note(func() { a.refreshes.add(1, result, code) })
}

// KMSRequest counts a request to KMS by the code of its error, or OK.
func (a *Agent) KMSRequest(code string) { a.note(func() { a.kmsRequests.add(1, code) }) }

// STSRequest counts a request to STS by the code of its error, or OK.
func (a *Agent) STSRequest(code string) { a.note(func() { a.stsRequests.add(1, code) }) }

// FilesWritten counts files.
func (a *Agent) FilesWritten(n int) { a.note(func() { a.files.add(float64(n)) }) }

// Cache says where the counts of the local API's cache come from.
func (a *Agent) Cache(counts func() (hits, misses uint64)) { a.note(func() { a.cache = counts }) }

// Notified says where the counts of notifications come from.
func (a *Agent) Notified(counts func() (delivered, failed uint64)) {
	a.note(func() { a.notified = counts })
}

// write writes all families, with the values that depend on the time of the scrape.
func (a *Agent) write(b *bytes.Buffer, now time.Time) {
	for secret, at := range a.fetched {
		a.lastSuccess.set(float64(at.UnixMilli())/1000, secret)
		a.age.set(now.Sub(at).Round(time.Millisecond).Seconds(), secret)
	}
	if a.cache != nil {
		hits, misses := a.cache()
		a.hits.set(float64(hits))
		a.misses.set(float64(misses))
	}
	if a.notified != nil {
		delivered, failed := a.notified()
		a.notifications.set(float64(delivered), "success")
		a.notifications.set(float64(failed), "failure")
	}
	for _, f := range a.families {
		f.write(b)
	}
}

// Handler serves /metrics, and /readyz, which is 200 while ready returns nil and else 503 with its error.
func (a *Agent) Handler(ready func() error) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		var text bytes.Buffer
		a.note(func() { a.write(&text, time.Now()) })
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(text.Bytes()) // a scraper that has gone away needs no answer
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	return mux
}

// Serve answers with handler on the listener, which it closes, until ctx ends, which is no error.
func Serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	const limit = 10 * time.Second
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: limit, ReadTimeout: limit, WriteTimeout: limit,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// family is one metric: a value for each combination of its labels' values.
type family struct {
	name, help string
	labels     []string
	values     map[string]float64 // by the labels as they are written
}

func (a *Agent) family(name, help string, labels ...string) *family {
	f := &family{name, help, labels, map[string]float64{}}
	if len(labels) == 0 {
		f.values[""] = 0 // so that it is there from the start
	}
	a.families = append(a.families, f)
	return f
}

func (f *family) add(by float64, labels ...string) { f.values[f.key(labels)] += by }
func (f *family) set(to float64, labels ...string) { f.values[f.key(labels)] = to }

var escaper = strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)

func (f *family) key(labels []string) string {
	if len(labels) == 0 {
		return ""
	}
	pairs := make([]string, len(labels))
	for i, value := range labels {
		pairs[i] = f.labels[i] + `="` + escaper.Replace(strings.ToValidUTF8(value, "\uFFFD")) + `"`
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// write writes the family in the text format 0.0.4, sorted.
func (f *family) write(b *bytes.Buffer) {
	kind := "gauge"
	if strings.HasSuffix(f.name, "_total") {
		kind = "counter"
	}
	b.WriteString("# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " " + kind + "\n")
	for _, key := range slices.Sorted(maps.Keys(f.values)) {
		b.WriteString(f.name + key + " " + strconv.FormatFloat(f.values[key], 'g', -1, 64) + "\n")
	}
}
