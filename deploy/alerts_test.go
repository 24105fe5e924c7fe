package deploy_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"sigs.k8s.io/yaml"
)

const (
	alertsFile     = "chart/kms-agent-injector/monitoring/alerts.yaml"
	syncAlertsFile = "chart/kms-sync/monitoring/alerts.yaml"
)

func readAlerts(t *testing.T, path string) []monitoringv1.Rule {
	t.Helper()
	var file monitoringv1.PrometheusRuleSpec
	if err := yaml.UnmarshalStrict([]byte(read(t, path)), &file); err != nil {
		t.Fatal(err)
	}
	var rules []monitoringv1.Rule
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	return rules
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every alert has a runbook with all parts, and every runbook has an alert.
func TestAlertsHaveRunbooks(t *testing.T) {
	runbooks := map[string]string{}
	for _, section := range strings.Split(read(t, "../docs/runbooks.md"), "\n## ")[1:] {
		name, text, _ := strings.Cut(section, "\n")
		runbooks[name] = text
	}
	for _, rule := range append(readAlerts(t, alertsFile), readAlerts(t, syncAlertsFile)...) {
		text, found := runbooks[rule.Alert]
		delete(runbooks, rule.Alert)
		if !found {
			t.Errorf("docs/runbooks.md has no section %s", rule.Alert)
			continue
		}
		for _, part := range []string{"**Meaning.**", "**Impact.**", "**How to look.**", "**How to fix.**"} {
			if !strings.Contains(text, part) {
				t.Errorf("the runbook of %s has no %s", rule.Alert, part)
			}
		}
		want := "https://github.com/kms-agent-injector/kms-agent-injector/blob/main/docs/runbooks.md#" + strings.ToLower(rule.Alert)
		if got := rule.Annotations["runbook_url"]; got != want {
			t.Errorf("%s: runbook_url is %s, want %s", rule.Alert, got, want)
		}
		if severity := rule.Labels["severity"]; severity != "critical" && severity != "warning" {
			t.Errorf("%s: severity is %q, want critical or warning", rule.Alert, severity)
		}
		if rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" || rule.For == nil {
			t.Errorf("%s has no summary, no description, or fires at the first sample", rule.Alert)
		}
	}
	for name := range runbooks {
		t.Errorf("docs/runbooks.md has a section %s, but there is no such alert", name)
	}
}

// promtool's tests make each alert fire.
func TestAlertsAreTested(t *testing.T) {
	tests := read(t, "testdata/alerts.yaml")
	for _, rule := range append(readAlerts(t, alertsFile), readAlerts(t, syncAlertsFile)...) {
		fires := regexp.MustCompile(`- alertname: ` + rule.Alert + `\n +eval_time: \S+\n +exp_alerts:\n +- exp_labels:`)
		rests := regexp.MustCompile(`- \{alertname: ` + rule.Alert + `, eval_time: \S+\}`)
		if !fires.MatchString(tests) || !rests.MatchString(tests) {
			t.Errorf("testdata/alerts.yaml does not show when %s fires and when it does not", rule.Alert)
		}
	}
}
