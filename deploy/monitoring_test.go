//go:build chart

package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// Each alert fires when it should and only then: promtool evaluates the rules.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", alertsFile, syncAlertsFile},
		{"test", "rules", "testdata/alerts.yaml"},
	} {
		out, err := exec.CommandContext(t.Context(), "../test/tools/run.sh", append([]string{"promtool"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
		}
	}
}

// The documented alert on an encryption configuration that an API server rejected fires also before the first one that it accepted.
func TestRejectedEncryptionConfiguration(t *testing.T) {
	const metric = "apiserver_encryption_config_controller_automatic_reload_last_timestamp_seconds"
	for _, page := range []string{"../docs/encryption-at-rest.md", "../docs/zh/encryption-at-rest.md"} {
		alert := regexp.MustCompile("`(" + metric + ".*)` \\|").FindStringSubmatch(read(t, page))
		if alert == nil {
			t.Fatalf("%s has no alert by %s", page, metric)
		}
		series := func(status, instance, values string) map[string]any {
			return map[string]any{"series": fmt.Sprintf("%s{instance=%q, status=%q}", metric, instance, status), "values": values}
		}
		fires := func(instance string) map[string]any {
			return map[string]any{"labels": fmt.Sprintf("%s{instance=%q, status=\"failure\"}", metric, instance), "value": 200}
		}
		text, err := yaml.Marshal(map[string]any{"tests": []any{map[string]any{"interval": "1m",
			"input_series": []any{
				series("success", "failed last", "100x10"), series("failure", "failed last", "200x10"),
				series("success", "succeeded last", "300x10"), series("failure", "succeeded last", "200x10"),
				series("success", "never failed", "100x10"), series("failure", "never succeeded", "200x10"),
			},
			"promql_expr_test": []any{map[string]any{"expr": alert[1], "eval_time": "5m",
				"exp_samples": []any{fires("failed last"), fires("never succeeded")}}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "alert.yaml")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.CommandContext(t.Context(), "../test/tools/run.sh", "promtool", "test", "rules", path).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", page, err, out)
		}
	}
}

func TestMonitoring(t *testing.T) {
	o, _ := render(t, "kms", "--set", "agent.metricsPort=9464", "--set", "monitoring.labels.release=prometheus",
		"--set", "monitoring.serviceMonitor.enabled=true,monitoring.podMonitor.enabled=true,monitoring.prometheusRule.enabled=true")
	o.check(t)

	service := only[*corev1.Service](t, o)
	webhook := only[*monitoringv1.ServiceMonitor](t, o)
	if !selects(t, &webhook.Spec.Selector, labels.Set(service.Labels)) || webhook.Spec.NamespaceSelector.MatchNames[0] != "kms" {
		t.Errorf("the ServiceMonitor does not select the Service: %+v", webhook.Spec)
	}
	var port string // the container port's name
	for _, p := range service.Spec.Ports {
		if p.Name == webhook.Spec.Endpoints[0].Port {
			port = p.TargetPort.StrVal
		}
	}
	if port != "metrics" {
		t.Errorf("the ServiceMonitor scrapes the port %q of %s", port, listening)
	}

	agents := only[*monitoringv1.PodMonitor](t, o)
	if got := *agents.Spec.PodMetricsEndpoints[0].Port; got != "kms-metrics" || !agents.Spec.NamespaceSelector.Any {
		t.Errorf("the PodMonitor scrapes the port %q, in all namespaces: %t", got, agents.Spec.NamespaceSelector.Any)
	}

	var inRule []monitoringv1.Rule
	rule := only[*monitoringv1.PrometheusRule](t, o)
	for _, group := range rule.Spec.Groups {
		inRule = append(inRule, group.Rules...)
	}
	if want := readAlerts(t, alertsFile); !reflect.DeepEqual(inRule, want) {
		t.Errorf("the PrometheusRule has\n%+v\nthe file has\n%+v", inRule, want)
	}
	for _, meta := range []labels.Set{webhook.Labels, agents.Labels, rule.Labels} {
		if meta["release"] != "prometheus" {
			t.Errorf("labels are %v; the Prometheus that is meant would not choose this", meta)
		}
	}
}

func TestDashboard(t *testing.T) {
	const args = "monitoring.dashboard.enabled=true,monitoring.dashboard.annotations.grafana_folder=Security"
	injector, _ := render(t, "kms", "--set", args)
	for chart, c := range map[string]struct {
		objects objects
		file    string
	}{"kms-agent-injector": {injector, dashboardFile}, "kms-sync": {renderSync(t, "--set", args), syncDashboardFile}} {
		maps := every[*corev1.ConfigMap](c.objects)
		i := slices.IndexFunc(maps, func(m *corev1.ConfigMap) bool { return m.Name == chart+"-dashboard" })
		if i < 0 {
			t.Errorf("the chart %s gives no ConfigMap with the dashboard", chart)
			continue
		}
		m := maps[i]
		if got, want := m.Data[chart+".json"], strings.TrimSpace(read(t, c.file)); got != want {
			t.Errorf("the ConfigMap does not have the dashboard, but\n%s", got)
		}
		if m.Labels["grafana_dashboard"] != "1" || m.Annotations["grafana_folder"] != "Security" {
			t.Errorf("Grafana's sidecar would not find it: %v %v", m.Labels, m.Annotations)
		}
	}
}

// Every query of the dashboards is valid PromQL.
func TestQueriesOfTheDashboards(t *testing.T) {
	var file monitoringv1.PrometheusRuleSpec
	for _, of := range []string{dashboardFile, syncDashboardFile} {
		var dashboard struct {
			Panels []struct{ Targets []struct{ Expr string } }
		}
		if err := json.Unmarshal([]byte(read(t, of)), &dashboard); err != nil {
			t.Fatal(err)
		}
		group := monitoringv1.RuleGroup{Name: of}
		for _, p := range dashboard.Panels {
			for _, q := range p.Targets {
				expr := strings.NewReplacer("$__rate_interval", "5m", "$namespace", ".*").Replace(q.Expr)
				group.Rules = append(group.Rules, monitoringv1.Rule{
					Record: fmt.Sprintf("dashboard%d:query%d", len(file.Groups), len(group.Rules)), Expr: intstr.FromString(expr),
				})
			}
		}
		if len(group.Rules) < 11 {
			t.Errorf("%s has %d queries", of, len(group.Rules))
		}
		file.Groups = append(file.Groups, group)
	}
	text, err := yaml.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), "../test/tools/run.sh", "promtool", "check", "rules", path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}

func TestWithoutThePrometheusOperator(t *testing.T) {
	o, _ := render(t, "kms")
	if len(every[*monitoringv1.ServiceMonitor](o))+len(every[*monitoringv1.PodMonitor](o))+len(every[*monitoringv1.PrometheusRule](o)) > 0 {
		t.Error("objects of the Prometheus operator are installed without a request for them")
	}
}
