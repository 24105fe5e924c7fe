package main

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// What Prometheus reads from a sidecar: every metric of the documentation, with its labels, after one fetch of one secret.
func TestMetrics(t *testing.T) {
	env, _, _ := pod(t)
	var doc agentconfig.Config
	if err := json.Unmarshal([]byte(strings.TrimPrefix(env[0], agentconfig.Env+"=")), &doc); err != nil {
		t.Fatal(err)
	}
	doc.OnChange = "http://127.0.0.1:1/reload"
	directory := t.TempDir()
	doc.MetricsPort, doc.API = -1, &config.LocalAPI{Socket: directory + "/api", TokenFile: directory + "/token"}
	document, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	env[0] = agentconfig.Env + "=" + string(document)
	sidecar := command(t, env, "run")
	stderr, err := sidecar.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := sidecar.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sidecar.Process.Kill(); sidecar.Wait() }()
	address := waitFor(t, stderr, "metrics listening").Address
	go io.Copy(io.Discard, stderr)

	if status, body := fetch(t, address, "/readyz"); status != http.StatusOK {
		t.Errorf("/readyz: %d %s", status, body)
	}
	_, text := fetch(t, address, "/metrics")
	if _, err := promlint.New(strings.NewReader(text)).Lint(); err != nil { // it cannot be parsed
		t.Fatalf("%v in\n%s", err, text)
	}
	types, samples := map[string]string{}, map[string][]string{} // by the metrics' names
	for line := range strings.Lines(text) {
		if declared := declaration.FindStringSubmatch(line); declared != nil {
			types[declared[1]] = declared[2]
		} else if read := sample.FindStringSubmatch(line); read != nil {
			samples[read[1]] = append(samples[read[1]], strings.NewReplacer(`"`, "", ",", " ").Replace(read[2]))
		}
	}
	want := map[string]string{ // to the labels of its values
		"kms_agent_secret_last_success_timestamp_seconds": "secret=app/key",
		"kms_agent_secret_age_seconds":                    "secret=app/key",
		"kms_agent_refresh_interval_seconds":              "",
		"kms_agent_refresh_total":                         "result=success code=OK",
		"kms_agent_kms_requests_total":                    "code=OK",
		"kms_agent_sts_requests_total":                    "code=OK",
		"kms_agent_cache_hits_total":                      "",
		"kms_agent_cache_misses_total":                    "",
		"kms_agent_files_written_total":                   "",
		"kms_agent_notifications_total":                   "result=failure; result=success",
	}
	if got := slices.Sorted(maps.Keys(types)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("the metrics are %q", got)
	}
	for name, labels := range want {
		if !strings.Contains(text, "# HELP "+name+" ") || samples[name] == nil {
			t.Errorf("%s: want a value and a help text in\n%s", name, text)
		}
		if got := strings.Join(samples[name], "; "); got != labels {
			t.Errorf("%s has the labels %q, want %q", name, got, labels)
		}
		if counter := strings.HasSuffix(name, "_total"); counter != (types[name] == "counter") {
			t.Errorf("%s is a %s", name, types[name])
		}
	}
}

var (
	declaration = regexp.MustCompile(`^# TYPE (\S+) (\S+)\n$`)
	sample      = regexp.MustCompile(`^(\w+)(?:\{(.*)\})? \S+\n$`)
)

func fetch(t *testing.T, address, path string) (int, string) {
	t.Helper()
	answer, err := http.Get("http://" + address + path)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}
