package webhook

import (
	"os"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// What alerts, dashboard and documents call the webhook's metrics is what they are called, and each is documented.
func TestMetricsAreWhatIsReferredTo(t *testing.T) {
	m, r := newMetrics(func() time.Time { return time.Time{} }), newRegistration("", false, logr.Discard())
	r.objects = []*registered{{kind: "any", synced: func() bool { return true }}}
	m.registry.MustRegister(r)
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	const documented = "../docs/operations.md"
	var names, described []string
	for _, f := range families {
		names = append(names, f.GetName())
		if f.GetType().String() == "HISTOGRAM" {
			names = append(names, f.GetName()+"_bucket", f.GetName()+"_count", f.GetName()+"_sum")
		}
	}
	for _, file := range []string{"../deploy/chart/kms-agent-injector/monitoring/alerts.yaml",
		"../deploy/chart/kms-agent-injector/monitoring/dashboard.json", documented, "../docs/runbooks.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`\bkms_webhook_\w+`).FindAllString(string(text), -1) {
			if !slices.Contains(names, name) {
				t.Errorf("%s refers to %s, which the webhook does not have", file, name)
			}
			if file == documented {
				described = append(described, name)
			}
		}
	}
	for _, f := range families {
		if !slices.Contains(described, f.GetName()) {
			t.Errorf("%s does not have %s", documented, f.GetName())
		}
	}
}

// A counter that appears with its first pod would hide that pod from increase() and so from an alert.
func TestAdmissionsAreCountedFromZero(t *testing.T) {
	m := newMetrics(func() time.Time { return time.Time{} })
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	before := 0
	for _, f := range families {
		if f.GetName() == "kms_webhook_admissions_total" {
			before = len(f.GetMetric())
		}
	}
	for _, v := range []review.Verdict{
		{Result: review.Injected, Reason: reasonNew, Audit: map[string]string{auditSession: sessionWide}},
		{Result: review.Injected, Reason: reasonAgain, Audit: map[string]string{auditSession: sessionNarrowed}}, skipped(reasonNotAsked),
		skipped(reasonMirror),
		skipped(reasonNotLabelled),
		denied(injector.WrongAnnotations, nil), denied(injector.NotAllowed, nil), denied(injector.WithoutRole, nil),
		denied(injector.Conflict, nil),
		{Result: review.Errored, Reason: reasonKube}, {Result: review.Errored, Reason: review.BadReview},
		{Result: review.Errored, Reason: review.Busy},
		{Result: review.Errored, Reason: review.Panic},
	} {
		m.pod(v, time.Millisecond)
	}
	if after := collected(m.admissions); after != before {
		t.Errorf("there are %d series before the first pod and %d after every kind of pod", before, after)
	}
}

func collected(c prometheus.Collector) int {
	series := make(chan prometheus.Metric, 100)
	c.Collect(series)
	return len(series)
}
