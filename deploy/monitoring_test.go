//go:build chart

package deploy_test

import (
	"os/exec"
	"reflect"
	"testing"

	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Each alert fires when it should and rests when it should, by Prometheus's own judgement.
func TestAlerts(t *testing.T) {
	for _, args := range [][]string{
		{"check", "rules", "--lint=all", "--lint-fatal", alertsFile},
		{"test", "rules", "testdata/alerts.yaml"},
	} {
		out, err := exec.CommandContext(t.Context(), "../test/tools/run.sh", append([]string{"promtool"}, args...)...).CombinedOutput()
		if err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, out)
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
	var port string // as the container calls it
	for _, p := range service.Spec.Ports {
		if p.Name == webhook.Spec.Endpoints[0].Port {
			port = p.TargetPort.StrVal
		}
	}
	if port != "metrics" {
		t.Errorf("the ServiceMonitor scrapes the port %q of %s", port, only[*appsv1.Deployment](t, o).Name)
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
	if want := readAlerts(t); !reflect.DeepEqual(inRule, want) {
		t.Errorf("the PrometheusRule has\n%+v\nthe file has\n%+v", inRule, want)
	}
	for _, meta := range []labels.Set{webhook.Labels, agents.Labels, rule.Labels} {
		if meta["release"] != "prometheus" {
			t.Errorf("labels are %v; the Prometheus that is meant would not choose this", meta)
		}
	}
}

func TestWithoutThePrometheusOperator(t *testing.T) {
	o, _ := render(t, "kms")
	if len(every[*monitoringv1.ServiceMonitor](o))+len(every[*monitoringv1.PodMonitor](o))+len(every[*monitoringv1.PrometheusRule](o)) > 0 {
		t.Error("objects of the Prometheus operator are installed where nobody asked for them")
	}
}
