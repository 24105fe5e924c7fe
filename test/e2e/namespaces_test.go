//go:build e2e

package e2e

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// What docs/namespaces.md says of a namespace with a quota: it counts the injected containers, too, and refuses what states no limit.
func TestResourceQuota(t *testing.T) {
	t.Parallel()
	name, want := secretName("quota"), value()
	put(t, name, want)
	pod := workload{
		name: "web", annotations: []string{"inject: true", "secret.f: " + name},
		containers: container("app", "resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {cpu: 50m, memory: 32Mi}}"),
	}
	stated := pod
	stated.annotations = append([]string{"agent-limits: cpu=100m,memory=64Mi"}, pod.annotations...)
	for where, c := range map[string]struct {
		label string
		pod   workload
	}{"the pod says it": {`plain: "true"`, stated}, "the webhook's configuration says it of the namespace": {`cpu-limits: "true"`, pod}} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, c.label)
			apply(t, fmt.Sprintf(`
apiVersion: v1
kind: ResourceQuota
metadata: {name: compute, namespace: %s}
spec: {hard: {requests.cpu: "1", requests.memory: 1Gi, limits.cpu: "1", limits.memory: 1Gi}}
`, ns))
			kubectl(t, "-n", ns, "wait", `--for=jsonpath={.status.hard.limits\.cpu}=1`, "resourcequota/compute", "--timeout=5m")
			if c.label == `plain: "true"` {
				if said := refused(t, pod.pod(ns)); !strings.Contains(said, "must specify limits.cpu for: kms-agent,kms-agent-init") {
					t.Errorf("without limits: %s", said)
				}
			}
			apply(t, c.pod.pod(ns))
			ready(t, ns, "web")
			if got := in(t, ns, "web", "app", "cat", dir+"/f"); got != want {
				t.Error("the file does not hold the secret's value")
			}
			// The application's and one of the two agent's, since the init container is gone before the application starts.
			kubectl(t, "-n", ns, "wait", `--for=jsonpath={.status.used.limits\.cpu}=150m`, "resourcequota/compute", "--timeout=5m")
			kubectl(t, "-n", ns, "wait", `--for=jsonpath={.status.used.requests\.memory}=40Mi`, "resourcequota/compute", "--timeout=5m")
		})
	}
}

// What docs/namespaces.md says of a LimitRange: its defaults fill in what the injected containers leave out, and its bounds are theirs,
// too.
func TestLimitRange(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name, want := secretName("limits"), value()
	put(t, name, want)
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: LimitRange
metadata: {name: bounds, namespace: %s}
spec:
  limits:
  - {type: Container, min: {memory: 32Mi}, default: {cpu: 200m, memory: 64Mi}, defaultRequest: {cpu: 20m, memory: 32Mi},
    maxLimitRequestRatio: {memory: "2"}}
`, ns))
	pod := workload{name: "web", annotations: []string{"inject: true", "secret.f: " + name}}
	eventually(t, patience, func() error { // until the API server has noticed
		_, err := tryKubectl(t.Context(), pod.pod(ns), "apply", "--dry-run=server", "-f", "-")
		if err == nil {
			return errNotYet
		}
		for _, said := range []string{"minimum memory usage per Container is 32Mi, but request is 24Mi",
			"memory max limit to request ratio per Container is 2, but provided ratio is 2.666667"} {
			if !strings.Contains(err.Error(), said) {
				t.Errorf("%q is not in the refusal: %v", said, err)
			}
		}
		return nil
	})
	pod.annotations = append(pod.annotations, "agent-requests: cpu=10m,memory=32Mi")
	apply(t, pod.pod(ns))
	ready(t, ns, "web")
	if got := in(t, ns, "web", "app", "cat", dir+"/f"); got != want {
		t.Error("the file does not hold the secret's value")
	}
	for _, container := range []string{"kms-agent-init", "kms-agent"} {
		got := kubectl(t, "-n", ns, "get", "pod", "web", "-o", `jsonpath={.spec.initContainers[?(@.name=="`+container+`")].resources}`)
		if want := `{"limits":{"cpu":"200m","memory":"64Mi"},"requests":{"cpu":"10m","memory":"32Mi"}}`; got != want {
			t.Errorf("%s has %s, want %s", container, got, want)
		}
	}
}

// What docs/namespaces.md says of draining a node. Nothing runs beside this test, because the node takes no pods meanwhile.
func TestDrain(t *testing.T) {
	if own == nil {
		t.Skip("only the project's own cluster has a node that a test may drain")
	}
	ns := namespace(t)
	name, want := secretName("drain"), value()
	put(t, name, want)
	template := workload{
		name: "drained", annotations: []string{"inject: true", "secret.f: " + name, "api: true"},
		// It ends last, long after SIGTERM, with a file and an answer of the agent's.
		containers: commanded("app", fmt.Sprintf(`[sh, -c, 'trap "sleep 2; cat %s/f; for i in 1 2 3 4 5 6 7 8 9; do `+
			`(printf \"GET /ping HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n\"; sleep 1) | nc 127.0.0.1 2025 | grep \"200 OK\" && break; done; `+
			`exit 0" TERM; while true; do sleep 0.1; done']`, dir)),
	}.body(ns, "    ")
	template = strings.Replace(template, "terminationGracePeriodSeconds: 1\n", "terminationGracePeriodSeconds: 120\n", 1)
	apply(t, fmt.Sprintf(`
apiVersion: apps/v1
kind: Deployment
metadata: {name: drained, namespace: %[1]s}
spec:
  selector: {matchLabels: {app: drained}}
  template:
%[2]s---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: drained, namespace: %[1]s}
spec: {minAvailable: 1, selector: {matchLabels: {app: drained}}}
`, ns, template))
	kubectl(t, "-n", ns, "rollout", "status", "deployment/drained", "--timeout=5m")
	pod := kubectl(t, "-n", ns, "get", "pods", "-l", "app=drained", "-o", "jsonpath={.items[0].metadata.name}")
	node := kubectl(t, "-n", ns, "get", "pod", pod, "-o", "jsonpath={.spec.nodeName}")
	t.Cleanup(func() {
		if out, err := exec.Command(kubectlPath, "--kubeconfig", kubeconfig, "uncordon", node).CombinedOutput(); err != nil {
			t.Errorf("uncordon: %v: %s", err, out)
		}
	})
	drain := func(flags ...string) (string, error) {
		return tryKubectl(t.Context(), "", append([]string{"drain", node, "--pod-selector=app=drained"}, flags...)...)
	}
	if _, err := drain("--dry-run=server"); err == nil ||
		!strings.Contains(err.Error(), "cannot delete Pods with local storage (use --delete-emptydir-data to override)") {
		t.Errorf("without --delete-emptydir-data: %v", err)
	}
	if _, err := drain("--delete-emptydir-data", "--timeout=5s"); err == nil || !strings.Contains(err.Error(), "disruption budget") {
		t.Errorf("against the disruption budget: %v", err)
	}
	kubectl(t, "-n", ns, "delete", "poddisruptionbudget", "drained")

	log := exec.CommandContext(t.Context(), kubectlPath, "--kubeconfig", kubeconfig, "-n", ns, "logs", "--follow", pod, "-c", "app")
	log.Stderr = os.Stderr
	said, err := log.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := log.Start(); err != nil {
		t.Fatal(err)
	}
	if out, err := drain("--delete-emptydir-data", "--timeout=5m"); err != nil || !strings.Contains(out, "pod/"+pod+" evicted") {
		t.Errorf("drain: %v\n%s", err, out)
	}
	last, err := io.ReadAll(said)
	if err != nil {
		t.Error(err)
	}
	if err := log.Wait(); err != nil {
		t.Errorf("logs: %v", err)
	}
	if text := string(last); !strings.HasPrefix(text, want) || !strings.Contains(text, "200 OK") {
		t.Errorf("two seconds after SIGTERM the application has of file and agent: %q", strings.ReplaceAll(text, want, "(the value)"))
	}
	kubectl(t, "uncordon", node)
	kubectl(t, "-n", ns, "rollout", "status", "deployment/drained", "--timeout=5m")
	if got := kubectl(t, "-n", ns, "exec", "deploy/drained", "-c", "app", "--", "cat", dir+"/f"); got != want {
		t.Error("the new pod's file does not hold the secret's value")
	}
}
