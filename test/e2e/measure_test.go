//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"
)

// What the webhook and the agent add to the start of a pod, over ten pods with and ten without, one after the other. It is
// printed, not judged: the machine decides.
func TestStartCost(t *testing.T) {
	ns := namespace(t)
	name := secretName("start")
	put(t, name, value())
	client := clientset(t)
	admissions, seconds := admissionTime(t)

	const pods = 10
	var plain, injected, agent []time.Duration
	for i := range pods {
		p := workload{name: fmt.Sprintf("plain-%d", i), annotations: []string{"inject: false"}}
		plain = append(plain, startTime(t, client, ns, p))
		p = workload{name: fmt.Sprintf("injected-%d", i), annotations: []string{"inject: true", "secret.f: " + name}}
		injected = append(injected, startTime(t, client, ns, p))
		agent = append(agent, agentTime(t, ns, p.name))
	}
	admissionsNow, secondsNow := admissionTime(t)
	perAdmission := time.Duration((secondsNow - seconds) / float64(admissionsNow-admissions) * float64(time.Second))
	fmt.Printf(`
Start of a pod, creation to Ready, median of %d:
  without injection     %8s
  with injection        %8s   (%.2f times)
  of which the webhook  %8s   (mean of its own measurement)
  of which the agent    %8s   (what kms-agent init says it took; the rest is two more containers to start)

`, pods, ms(median(plain)), ms(median(injected)), float64(median(injected))/float64(median(plain)), ms(perAdmission), ms(median(agent)))
}

// startTime creates a pod and watches it until it is ready.
func startTime(t *testing.T, client kubernetes.Interface, namespace string, w workload) time.Duration {
	t.Helper()
	var pod corev1.Pod
	if err := yaml.Unmarshal([]byte(w.pod(namespace)), &pod); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	created, err := client.CoreV1().Pods(namespace).Create(ctx, &pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector("metadata.name", w.name).String(),
		ResourceVersion: created.ResourceVersion,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		p, ok := event.Object.(*corev1.Pod)
		if ok && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		}) {
			return time.Since(begin)
		}
	}
	t.Fatalf("pod %s did not become ready", w.name)
	return 0
}

// agentTime is how long kms-agent init took, as it says itself in the last line of its log.
func agentTime(t *testing.T, namespace, pod string) time.Duration {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(kubectl(t, "-n", namespace, "logs", pod, "-c", "kms-agent-init")), "\n")
	var last struct {
		Took string `json:"took"`
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil {
		t.Fatalf("%v: %s", err, lines[len(lines)-1])
	}
	took, err := time.ParseDuration(last.Took)
	if err != nil {
		t.Fatalf("%v: %s", err, lines[len(lines)-1])
	}
	return took
}

var durationMetric = regexp.MustCompile(`(?m)^kms_webhook_admission_duration_seconds_(count|sum)(\{[^}]*\})? (\S+)$`)

// admissionTime adds up, over the webhook's replicas, how many admissions there were and how long they took.
func admissionTime(t *testing.T) (admissions int, seconds float64) {
	t.Helper()
	for _, pod := range webhookPods(t) {
		metrics := kubectl(t, "get", "--raw", "/api/v1/namespaces/kms-agent-injector/pods/"+pod+":8080/proxy/metrics")
		for _, m := range durationMetric.FindAllStringSubmatch(metrics, -1) {
			n, err := strconv.ParseFloat(m[3], 64)
			if err != nil {
				t.Fatal(err)
			}
			if m[1] == "count" {
				admissions += int(n)
			} else {
				seconds += n
			}
		}
	}
	return admissions, seconds
}

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return d[len(d)/2]
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d.Microseconds())/1000) }
