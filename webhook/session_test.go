package webhook_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// An administrator sees which pods have sessions as wide as their roles.
func TestAuditAndMetricsSayHowWideSessionsAre(t *testing.T) {
	f := start(t, func(f *fixture, _ *webhook.Options) {
		write(t, f.config, strings.Replace(configuration, "agent: {", "agent: {narrowSessions: preferred, ", 1))
	}).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})
	for identity, want := range map[string]string{"rrsa": "narrowed", "node-role": "wide"} {
		r := f.review(t, webhook.MutatePath, "CREATE", pod("web", map[string]any{"secret.a": "app/a", "identity": identity}), nil)
		if r.AuditAnnotations["session"] != want {
			t.Errorf("%s: %v", identity, r.AuditAnnotations)
		}
		if warned := strings.Contains(strings.Join(r.Warnings, " "), "as wide as its roles"); warned != (want == "wide") {
			t.Errorf("%s: %v", identity, r.Warnings)
		}
	}
	res, err := http.Get(f.metrics) //nolint:noctx // of this process
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`kms_webhook_sessions_total{session="narrowed"} 1`, `kms_webhook_sessions_total{session="wide"} 1`} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the metrics do not say %s", want)
		}
	}
}
