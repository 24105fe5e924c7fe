package command

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/atrest"
)

// The exit code is a verdict: 1 what is wrong, 2 what could not be looked at.
func TestAtRest(t *testing.T) {
	const configured = "apiserver_storage_transformation_operations_total{resource=\"secrets\",status=\"OK\"," +
		"transformation_type=\"to_storage\",transformer_prefix=\"k8s:enc:aescbc:v1:\"} 1\n"
	cluster := shop()
	for path, kind := range map[string]string{
		"/api/v1/secrets": "Secret", "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases": "Lease",
		"/apis/discovery.k8s.io/v1/namespaces/default/endpointslices": "EndpointSlice",
	} {
		cluster.Objects[path] = list("v1", kind)
	}
	metrics := ""
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			io.WriteString(w, "process_start_time_seconds 1.7e9\n"+metrics)
		case "/readyz":
			io.WriteString(w, "[+]ping ok\n")
		default:
			cluster.ServeHTTP(w, r)
		}
	}))
	defer server.Close()
	for name, c := range map[string]struct {
		metrics string
		args    string
		code    int
		says    string
	}{
		"plaintext":           {"", "status --api-servers 1", 1, "✗ secrets are written as plaintext\n"},
		"encrypted":           {configured, "status --api-servers 1", 0, "✓ secrets: all 0 are stored with the key that writes\n"},
		"how many":            {configured, "status", 2, "? the number of API servers is not known; set --api-servers\n"},
		"plaintext, how many": {"", "status", 1, "✗ secrets are written as plaintext\n"},
		"migrate, how many": {configured, "migrate", 2, "error: not migrated: the number of API servers is not known, and so not whether " +
			"all write with the same key"},
		"migrate none": {configured, "migrate --api-servers 1", 0, "secrets: there are none\n"},
		"no resource":  {configured, "status --resources widgets.example.com", 2, "not examined: --resources widgets.example.com: "},
	} {
		metrics = c.metrics
		args := append([]string{"--server", server.URL, "--cache-dir", t.TempDir(), "at-rest"}, strings.Fields(c.args)...)
		if code, stdout, stderr := run(t, "", args...); code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%s: exit code %d, want %d and %q:\n%s%s", name, code, c.code, c.says, stdout, stderr)
		}
	}
	metrics = configured
	_, stdout, _ := run(t, "", "--server", server.URL, "at-rest", "status", "-o", "json", "--api-servers", "1")
	var r atrest.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || r.Expected != 1 || len(r.APIServers) != 1 || r.State() != atrest.Good {
		t.Errorf("%v: %s", err, stdout)
	}
}
