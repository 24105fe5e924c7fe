//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"flag"
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

	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// startRounds is how many pods of each kind TestStartCost starts; make bench-start starts 20.
var startRounds = flag.Int("start-rounds", 1, "pods of each kind that TestStartCost starts")

// What the agent adds to the start of a pod, from its creation to Ready, beside what its containers, volumes and hooks cost whatever
// they do: a control pod has the same with programs that do nothing. The kinds take turns, one pod at a time, so that what else the
// machine does counts for all. It is printed, not judged: the machine decides.
func TestStartCost(t *testing.T) {
	ns, other := namespace(t), namespace(t)
	kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection-")
	name := secretName("start")
	put(t, name, value())
	client := clientset(t)
	admissions, seconds := admissionTime(t)

	modes := []string{"single", "init", "sidecar"}
	times, took := map[string][]time.Duration{}, map[string][]time.Duration{}
	injections := 0
	for i := range *startRounds {
		start := func(kind, namespace string, pod *corev1.Pod) {
			pod.Name = fmt.Sprintf("%s-%d", kind, i)
			times[kind] = append(times[kind], startTime(t, client, namespace, pod))
		}
		start("plain", other, podOf(t, other, workload{}))
		for _, mode := range modes {
			asking := workload{name: mode, annotations: []string{"inject: true", "mode: " + mode, "secret.f: " + name}}
			control := controlOf(t, client, podOf(t, ns, asking))
			start(mode+"-control", other, control.DeepCopy())
			if mode == "single" {
				start("single-probe", other, gatedByProbe(control))
			}
			start(mode, ns, podOf(t, ns, asking))
			took[mode] = append(took[mode], agentTime(t, client, ns, fmt.Sprintf("%s-%d", mode, i)))
			injections += 2 // one is the dry run
		}
		kubectl(t, "-n", ns, "delete", "pods", "--all", "--now", "--wait=true") // or the end of one is in the start of the next
		kubectl(t, "-n", other, "delete", "pods", "--all", "--now", "--wait=true")
	}
	admissionsNow, secondsNow := admissionTime(t)
	if admissionsNow-admissions < injections {
		t.Errorf("%d injections, and the webhook counts %d admissions", injections, admissionsNow-admissions)
	}
	plain := median(times["plain"])
	fmt.Printf(`
Start of a pod, creation to Ready, one at a time, median of %d; a control pod has the same containers, volumes and hooks, whose
programs do nothing:
  %-9s %10s %10s %10s %12s   %s
  %-9s %10s
`, *startRounds, "mode", "ours", "control", "above it", "above plain", "of which the agent (its own measurement)", "plain", ms(plain))
	for _, mode := range modes {
		ours, control := median(times[mode]), median(times[mode+"-control"])
		fmt.Printf("  %-9s %10s %10s %10s %12s   %s\n", mode, ms(ours), ms(control), ms(ours-control), ms(ours-plain), ms(median(took[mode])))
	}
	fmt.Printf(`  single's control, gated by a startup probe in place of its postStart hook: %s
  of which the webhook, mean of its own measurement of %d admissions: %s

`, ms(median(times["single-probe"])), admissionsNow-admissions,
		ms(time.Duration((secondsNow-seconds)/float64(admissionsNow-admissions)*float64(time.Second))))
}

func podOf(t *testing.T, namespace string, w workload) *corev1.Pod {
	t.Helper()
	var pod corev1.Pod
	if err := yaml.Unmarshal([]byte(w.pod(namespace)), &pod); err != nil {
		t.Fatal(err)
	}
	return &pod
}

// controlOf returns the pod as the webhook injects it, with other programs in the agent's containers, for a namespace without injection.
func controlOf(t *testing.T, client kubernetes.Interface, asking *corev1.Pod) *corev1.Pod {
	t.Helper()
	injected, err := client.CoreV1().Pods(asking.Namespace).Create(t.Context(), asking,
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	if err != nil {
		t.Fatal(err)
	}
	control := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Labels: injected.Labels}, Spec: injected.Spec}
	replaced := 0
	for _, containers := range [][]corev1.Container{control.Spec.InitContainers, control.Spec.Containers} {
		for i := range containers {
			c := &containers[i]
			if !strings.HasPrefix(c.Name, "kms-agent") {
				continue
			}
			replaced++
			c.Name, c.Image = "control-"+c.Name, "kms-agent-injector/demo-app:dev"
			c.Command, c.Args = []string{"true"}, nil
			if c.RestartPolicy != nil {
				c.Command = []string{"sleep", "100000"}
			}
			if c.Lifecycle != nil {
				c.Lifecycle.PostStart.Exec.Command = []string{"true"}
			}
		}
	}
	if replaced == 0 {
		t.Fatalf("%s has no container of the agent", asking.Name)
	}
	return control
}

// gatedByProbe has the kubelet ask for a container's readiness once a second, and not wait for its postStart hook.
func gatedByProbe(pod *corev1.Pod) *corev1.Pod {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Lifecycle != nil {
			c.StartupProbe = &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: c.Lifecycle.PostStart.Exec}, PeriodSeconds: 1}
			c.Lifecycle = nil
		}
	}
	return pod
}

// startTime creates a pod and watches it until it is ready.
func startTime(t *testing.T, client kubernetes.Interface, namespace string, pod *corev1.Pod) time.Duration {
	t.Helper()
	pod.Namespace = namespace
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	created, err := client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	watch, err := client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector("metadata.name", pod.Name).String(),
		ResourceVersion: created.ResourceVersion,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Stop()
	for event := range watch.ResultChan() {
		p, ok := event.Object.(*corev1.Pod)
		if ok && podReady(p) {
			return time.Since(begin)
		}
	}
	t.Fatalf("pod %s did not become ready", pod.Name)
	return 0
}

func podReady(p *corev1.Pod) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// agentTime is how long a pod's agent took until its files were there, as its log says.
func agentTime(t *testing.T, client kubernetes.Interface, namespace, name string) time.Duration {
	t.Helper()
	pod, err := client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	log := kubectl(t, "-n", namespace, "logs", name, "-c", pod.Spec.InitContainers[0].Name)
	for line := range strings.Lines(log) {
		var said struct {
			Took string `json:"took"`
		}
		if json.Unmarshal([]byte(line), &said) == nil && said.Took != "" {
			took, err := time.ParseDuration(said.Took)
			if err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			return took
		}
	}
	t.Fatalf("the agent of %s does not say how long it took: %s", name, log)
	return 0
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

// A killed agent comes back by itself. Each kill after the first within ten minutes waits for the kubelet's back-off, which takes the pod
// out of its Services: a native sidecar counts for Ready. What the application has stays as it is. The times are printed.
func TestKillsInARow(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name, want := secretName("killed"), value()
	put(t, name, want)
	apply(t, killable("web", "secret.f: "+name).pod(ns))
	ready(t, ns, "web")
	client := clientset(t)
	look := func() (restarts int32, isReady bool) {
		pod, err := client.CoreV1().Pods(ns).Get(t.Context(), "web", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range pod.Status.InitContainerStatuses {
			if c.Name == agentconfig.ContainerName {
				restarts = c.RestartCount
			}
		}
		return restarts, podReady(pod)
	}
	table := "\nAn agent that is killed again and again, on a native sidecar:\n"
	for kill := int32(1); kill <= 3; kill++ {
		in(t, ns, "web", "app", "sh", "-c", "kill -9 $(pidof kms-agent)")
		begun := time.Now()
		var away time.Time
		var unready time.Duration
		eventually(t, patience, func() error {
			restarts, isReady := look()
			switch {
			case !isReady && away.IsZero():
				away = time.Now()
			case isReady && !away.IsZero():
				unready += time.Since(away)
				away = time.Time{}
			}
			if restarts < kill || !isReady {
				return errNotYet
			}
			return nil
		})
		table += fmt.Sprintf("  kill %d   back after %6s   the pod not ready for %6s\n", kill, time.Since(begun).Round(time.Second/10),
			unready.Round(time.Second/10))
		if got := in(t, ns, "web", "app", "cat", dir+"/f"); got != want {
			t.Errorf("kill %d: the file has another content", kill)
		}
	}
	fmt.Println(table)
}
