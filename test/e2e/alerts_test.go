//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// What the API server calls the webhook by is deleted: each replica says so, pods that ask are refused, and the alerts on both fire. Not
// parallel: the other tests need the configuration.
func TestRegistered(t *testing.T) {
	ns := namespace(t)
	registered := func() (lines []string) {
		for _, pod := range webhookPods(t) {
			lines = append(lines, samples(t, fmt.Sprintf("/api/v1/namespaces/%s/pods/%s:8080/proxy/metrics", webhookNamespace, pod),
				`kms_webhook_registered\{`, `pod="`+pod+`"`)...)
		}
		return lines
	}
	refusals := func() []string {
		const metric = `apiserver_validating_admission_policy_check_total\{.*enforcement_action="deny".*policy="kms-agent-injector"`
		return samples(t, "/metrics", metric, "")
	}
	registeredBefore, refusalsBefore := registered(), refusals()
	if all := strings.Join(registeredBefore, "\n"); strings.Count(all, "} 1") != 8 {
		t.Errorf("two replicas and four objects:\n%s", all)
	}
	kubectl(t, "delete", "mutatingwebhookconfiguration", "kms-agent-injector")
	defer restoreWebhook(t, ns)
	var after []string
	eventually(t, patience, func() error {
		after = registered()
		gone := regexp.MustCompile(`\{object="mutatingwebhookconfiguration",.*\} 0`)
		if all := strings.Join(after, "\n"); len(gone.FindAllString(all, -1)) != 2 {
			return fmt.Errorf("the metrics are\n%s", all)
		}
		return nil
	})
	eventually(t, patience, func() error {
		pod := workload{name: "p", annotations: []string{"inject: true", "secret.a: e2e/guard"}}.pod(ns)
		_, err := tryKubectl(t.Context(), pod, "create", "-f", "-")
		if err == nil || !strings.Contains(err.Error(), "ValidatingAdmissionPolicy 'kms-agent-injector'") {
			return fmt.Errorf("not refused by the guard: %v", err)
		}
		return nil
	})
	fires(t, "KMSWebhookNotRegistered", registeredBefore, after)
	fires(t, "KMSGuardDenies", refusalsBefore, refusals())
}

// An application cannot be told, an agent is killed, a pod runs without: the alerts fire.
func TestAlertsOfPods(t *testing.T) {
	t.Parallel()
	ns, unlabelled := namespace(t), namespace(t)
	kubectl(t, "label", "namespace", unlabelled, "kms.alibabacloud.com/injection-")
	name := secretName("alerts")
	put(t, name, value())
	apply(t, workload{name: "untold", podSecurity: "runAsUser: 2000", spec: "shareProcessNamespace: true",
		annotations: []string{"inject: true", "refresh-interval: 10s", "on-change: http://127.0.0.1:9999/reload", "secret.f: " + name}}.pod(ns))
	apply(t, workload{name: "bare", annotations: []string{"inject: true", "secret.f: " + name}}.pod(unlabelled))
	ready(t, ns, "untold")
	failures := func() []string {
		return samples(t, "/api/v1/namespaces/"+ns+"/pods/untold:2026/proxy/metrics", `kms_agent_notifications_total\{result="failure"`,
			`pod="untold", namespace="`+ns+`"`)
	}
	before, restartsBefore := failures(), kubeState(t, ns)
	rotate(t, name, value())
	eventually(t, patience, func() error {
		if after := failures(); len(after) == 0 || strings.HasSuffix(after[0], " 0") {
			return errNotYet
		}
		return nil
	})
	rising(t, "KMSNotificationsFail", before, failures())

	for restarts := 1; restarts <= 2; restarts++ {
		in(t, ns, "untold", "app", "sh", "-c",
			`for p in /proc/[0-9]*; do if tr '\0' ' ' <$p/cmdline | grep -q '^/kms-agent run'; then kill -9 ${p#/proc/}; fi; done; true`)
		eventually(t, patience, func() error {
			if c := status(t, ns, "untold").container("kms-agent"); c.RestartCount < restarts || c.State.Running == nil {
				return errNotYet
			}
			return nil
		})
	}
	fires(t, "KMSAgentRestarts", restartsBefore, kubeState(t, ns))
	all := append(kubeState(t, unlabelled), kubeState(t, ns)...)
	fires(t, "KMSPodsWithoutAgent", all, all)
}

// samples are the lines of a metric, with more labels.
func samples(t *testing.T, path, metric, labels string) (found []string) {
	t.Helper()
	for _, line := range regexp.MustCompile(`(?m)^`+metric+`.*$`).FindAllString(kubectl(t, "get", "--raw", path), -1) {
		if labels != "" {
			line = strings.Replace(line, "} ", ","+labels+"} ", 1)
		}
		found = append(found, line)
	}
	return found
}

// kubeState is what kube-state-metrics says of the pods of a namespace, as far as the alerts ask: it says what the API server does.
func kubeState(t *testing.T, ns string) (lines []string) {
	t.Helper()
	var list corev1.PodList
	if err := json.Unmarshal([]byte(kubectl(t, "-n", ns, "get", "pods", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	for _, p := range list.Items {
		add := func(metric, labels string, value int) {
			lines = append(lines, fmt.Sprintf(`%s{namespace=%q,pod=%q,%s} %d`, metric, ns, p.Name, labels, value))
		}
		if inject := p.Annotations["kms.alibabacloud.com/inject"]; inject != "" {
			add("kube_pod_annotations", fmt.Sprintf("annotation_kms_alibabacloud_com_inject=%q", inject), 1)
		}
		add("kube_pod_status_phase", fmt.Sprintf("phase=%q", p.Status.Phase), 1)
		for _, c := range p.Spec.InitContainers {
			add("kube_pod_init_container_info", fmt.Sprintf("container=%q", c.Name), 1)
		}
		for _, c := range p.Spec.Containers {
			add("kube_pod_container_info", fmt.Sprintf("container=%q", c.Name), 1)
		}
		for _, c := range p.Status.InitContainerStatuses {
			add("kube_pod_init_container_status_restarts_total", fmt.Sprintf("container=%q", c.Name), int(c.RestartCount))
		}
		for _, c := range p.Status.ContainerStatuses {
			add("kube_pod_container_status_restarts_total", fmt.Sprintf("container=%q", c.Name), int(c.RestartCount))
		}
	}
	return lines
}

// fires wants an alert that does not fire by the samples of before to fire some minutes after those of after.
func fires(t *testing.T, alert string, before, after []string) {
	t.Helper()
	judged(t, alert, before, after, func(before, after string) string { return before + "x9 " + after + "x10" })
}

// rising is fires for a counter that goes on as it did between the two.
func rising(t *testing.T, alert string, before, after []string) {
	t.Helper()
	judged(t, alert, before, after, func(before, after string) string { return before + "+" + after + "x20" })
}

// judged has Prometheus's own rule engine decide, by the chart's rules, whether an alert fires after a quarter of an hour.
func judged(t *testing.T, alert string, before, after []string, values func(before, after string) string) {
	t.Helper()
	type series struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	earlier := map[string]string{}
	for _, line := range before {
		of, value, _ := strings.Cut(line, "} ")
		earlier[of] = value
	}
	var input []series
	for _, line := range after {
		of, now, _ := strings.Cut(line, "} ")
		was, found := earlier[of]
		if !found {
			was = "_" // there is no sample
		}
		input = append(input, series{of + "}", values(was, now)})
	}
	if len(input) == 0 {
		t.Fatalf("%s: there are no samples", alert)
	}
	test, err := yaml.Marshal(map[string]any{
		"rule_files":          []string{filepath.Join(repository, "deploy/chart/kms-agent-injector/monitoring/alerts.yaml")},
		"evaluation_interval": "1m",
		"tests": []any{map[string]any{"interval": "1m", "input_series": input, "promql_expr_test": []any{map[string]any{
			"expr":        fmt.Sprintf(`count(ALERTS{alertname=%q, alertstate="firing"}) > bool 0`, alert),
			"eval_time":   "15m",
			"exp_samples": []any{map[string]any{"labels": "{}", "value": 1}},
		}}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), alert+".yaml")
	if err := os.WriteFile(file, test, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool := exec.CommandContext(t.Context(), filepath.Join(repository, "test/tools/run.sh"), "promtool", "test", "rules", file)
	out, err := promtool.CombinedOutput()
	if err != nil {
		t.Errorf("%s does not fire: %v\n%s\n%s", alert, err, out, test)
	}
}
