//go:build e2e

package e2e

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const webhookNamespace = "kms-agent-injector"

// Whatever is done to the webhook's pods, one after the other, no pod that asks for its secrets is refused or started without.
func TestNoAdmissionIsLost(t *testing.T) {
	l := startLoad(t)

	l.during("each replica is deleted by force")
	for _, pod := range webhookPods(t) {
		kubectl(t, "-n", webhookNamespace, "delete", "pod", pod, "--force", "--grace-period=0")
		serving(t)
	}
	l.during("all replicas are replaced, by a rollout")
	kubectl(t, "-n", webhookNamespace, "rollout", "restart", "deployment/kms-webhook")
	kubectl(t, "-n", webhookNamespace, "rollout", "status", "deployment/kms-webhook", "--timeout=5m")
	l.during("all replicas are evicted, as by a drain")
	evictAll(t)
	serving(t)
	l.during("the authority and all certificates rotate")
	rotateAuthority(t)
	l.during("quiet again")
	l.end(t, 500)

	// And one that runs.
	ns, name := namespace(t), secretName("available")
	put(t, name, value())
	apply(t, workload{name: "p", annotations: []string{"inject: true", "secret.f: " + name}}.pod(ns))
	ready(t, ns, "p")
}

// While no replica is there, what asked for secrets waits and everything else goes on; afterwards it goes on at once.
func TestWithoutAnyReplica(t *testing.T) {
	ns := namespace(t)
	kubectl(t, "label", "namespace", webhookNamespace, "kms.alibabacloud.com/injection=enabled")
	t.Cleanup(func() {
		if _, err := tryKubectl(context.Background(), "", "label", "namespace", webhookNamespace, "kms.alibabacloud.com/injection-"); err != nil {
			t.Error(err)
		}
		if _, err := tryKubectl(context.Background(), "", "-n", webhookNamespace, "scale", "deployment/kms-webhook", "--replicas=2"); err != nil {
			t.Error(err)
		}
	})
	kubectl(t, "-n", webhookNamespace, "scale", "deployment/kms-webhook", "--replicas=0")
	// those that are on their way out answer on
	kubectl(t, "-n", webhookNamespace, "wait", "pods", "-l", "app.kubernetes.io/component=webhook", "--for=delete", "--timeout=5m")

	annotated := workload{name: "p", annotations: []string{"inject: true", "secret.f: x"}}
	message := refused(t, annotated.pod(ns))
	for _, want := range []string{`failed calling webhook "pods.kms.alibabacloud.com"`, "kms-webhook.kms-agent-injector.svc"} {
		if !strings.Contains(message, want) {
			t.Errorf("%q is not in the message:\n%s", want, message)
		}
	}
	for name, manifest := range map[string]string{
		"not annotated, in a namespace that opted in": workload{name: "p"}.pod(ns),
		"annotated, in a namespace that did not": workload{name: "p", serviceAccount: "default",
			annotations: annotated.annotations}.pod("default"),
		"annotated, in the webhook's own namespace, opted in": workload{name: "p", serviceAccount: "default",
			annotations: annotated.annotations}.pod(webhookNamespace),
		"a workload of annotated pods, which only is checked": "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: " + ns +
			"}\nspec:\n  selector: {matchLabels: {app: p}}\n  template:\n" + annotated.body(ns, "    "),
		"annotated, in kube-system, whatever its labels may be": workload{name: "p", serviceAccount: "default",
			annotations: annotated.annotations}.pod("kube-system"),
	} {
		if _, err := tryKubectl(t.Context(), manifest, "apply", "--dry-run=server", "-f", "-"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}

	kubectl(t, "-n", webhookNamespace, "scale", "deployment/kms-webhook", "--replicas=2")
	serving(t)
	reached(t, annotated.pod(ns))
}

// reached waits until the API server gets through to a replica: kube-proxy hears of the first one that is ready a moment later.
func reached(t testing.TB, annotated string) {
	t.Helper()
	eventually(t, patience, func() error {
		_, err := tryKubectl(t.Context(), annotated, "apply", "--dry-run=server", "-f", "-")
		return err
	})
}

// webhookPods are the names of the replicas that are not being deleted.
func webhookPods(t testing.TB) []string {
	t.Helper()
	return strings.Fields(kubectl(t, "-n", webhookNamespace, "get", "pods", "-l", "app.kubernetes.io/component=webhook",
		"-o", `go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{.metadata.name}} {{end}}{{end}}`))
}

// serving waits until there are two replicas, both of them ready and none of them on its way out.
func serving(t testing.TB) {
	t.Helper()
	eventually(t, patience, func() error {
		if states := readiness(t); states != "True True " {
			return fmt.Errorf("the replicas' readiness is %q", states)
		}
		return nil
	})
}

// readiness are the states of the replicas that are not on their way out.
func readiness(t testing.TB) string {
	t.Helper()
	return kubectl(t, "-n", webhookNamespace, "get", "pods", "-l", "app.kubernetes.io/component=webhook", "-o",
		`go-template={{range .items}}{{if not .metadata.deletionTimestamp}}{{range .status.conditions}}`+
			`{{if eq .type "Ready"}}{{.status}} {{end}}{{end}}{{end}}{{end}}`)
}

// evictAll asks for the eviction of every replica as `kubectl drain` does: again and again while the disruption budget says no.
func evictAll(t *testing.T) {
	t.Helper()
	client := clientset(t)
	refusals := 0
	for _, pod := range webhookPods(t) {
		eventually(t, patience, func() error {
			err := client.PolicyV1().Evictions(webhookNamespace).Evict(t.Context(),
				&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: webhookNamespace, Name: pod}})
			if apierrors.IsTooManyRequests(err) {
				refusals++
			}
			return err
		})
	}
	if refusals == 0 {
		t.Error("the disruption budget let all replicas go at once")
	}
}

var expiryMetric = regexp.MustCompile(`(?m)^kms_webhook_certificate_expiry_timestamp_seconds (\S+)$`)

// expiries are the ends of the replicas' serving certificates, by pod.
func expiries(t *testing.T) map[string]string {
	t.Helper()
	return measured(t, expiryMetric)
}

// measured is what the replicas' metrics say, by pod: the first submatch.
func measured(t *testing.T, metric *regexp.Regexp) map[string]string {
	t.Helper()
	found := map[string]string{}
	for _, pod := range webhookPods(t) {
		m := metric.FindStringSubmatch(kubectl(t, "get", "--raw", "/api/v1/namespaces/"+webhookNamespace+"/pods/"+pod+":8080/proxy/metrics"))
		if m == nil {
			t.Fatalf("%s has no metric %s", pod, metric)
		}
		found[pod] = m[1]
	}
	return found
}

// rotateAuthority makes the webhook forget its certificate authority and waits until each replica serves by another.
func rotateAuthority(t *testing.T) {
	t.Helper()
	before := expiries(t)
	bundle := caBundle(t)
	kubectl(t, "-n", webhookNamespace, "delete", "secret", "kms-webhook-ca")
	eventually(t, patience, func() error {
		for pod, expiry := range expiries(t) {
			if before[pod] == expiry {
				return errors.New(pod + " still serves its old certificate")
			}
		}
		return nil
	})
	if now := caBundle(t); len(now) <= len(bundle) || !strings.Contains(now, bundle) {
		t.Errorf("the old authority is not in the caBundle beside the new one:\n%s\nbefore:\n%s", now, bundle)
	}
}

// caBundle is what the API server trusts for pods.
func caBundle(t *testing.T) string {
	t.Helper()
	encoded := kubectl(t, "get", "mutatingwebhookconfiguration", "kms-agent-injector", "-o", "jsonpath={.webhooks[0].clientConfig.caBundle}")
	bundle, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return string(bundle)
}

// A replica that is killed without warning takes along what it is answering, and for a moment connections still lead to it: the
// one case in which a pod is refused though another replica is there. Controllers try again; so does this test's ReplicaSet.
func TestReplicaKilledWithoutWarning(t *testing.T) {
	if own == nil {
		t.Skip("only on the project's own cluster does the test reach the replicas' processes")
	}
	ns := namespace(t)
	l := startLoad(t)
	const replicas = 50
	w := workload{name: "web", podSecurity: "runAsUser: 1000", spec: "schedulingGates: [{name: e2e.example.com/never}]",
		annotations: []string{"inject: true", "secret.f: e2e/load"}}
	apply(t, "apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web, namespace: "+ns+"}\nspec:\n  replicas: 0\n  selector: "+
		"{matchLabels: {app: web}}\n  template:\n"+w.body(ns, "    "))
	for i, pod := range webhookPods(t) {
		l.during(fmt.Sprintf("replica %d is killed", i+1))
		kubectl(t, "-n", ns, "scale", "replicaset/web", fmt.Sprintf("--replicas=%d", replicas*(i+1)/2))
		kill(t, pod)
		eventually(t, patience, func() error { // the kubelet has noticed, and started it again
			if restarts := kubectl(t, "-n", webhookNamespace, "get", "pod", pod, "-o",
				"jsonpath={.status.containerStatuses[0].restartCount}"); restarts == "0" {
				return errNotYet
			}
			return nil
		})
		serving(t)
	}
	l.during("quiet again")
	eventually(t, patience, func() error {
		injected := strings.Count(kubectl(t, "-n", ns, "get", "pods", "-o", "jsonpath={.items[*].spec.initContainers[*].name}"), "kms-agent-init")
		if injected != replicas {
			return fmt.Errorf("the ReplicaSet has %d injected pods, want %d", injected, replicas)
		}
		return nil
	})
	l.stop()
	l.wg.Wait()
	for _, phase := range l.order {
		c := l.counts[phase]
		t.Logf("%s: %d of %d pods refused at their only attempt", phase, len(c.errors), c.pods)
		for _, e := range c.errors {
			if !strings.Contains(e, `failed calling webhook "pods.kms.alibabacloud.com"`) {
				t.Errorf("%s: %s", phase, e)
			}
		}
		if len(c.notInjected) > 0 {
			t.Errorf("%s: %d pods were created without being injected", phase, len(c.notInjected))
		}
		if phase == "quiet again" && len(c.errors) > 0 {
			t.Errorf("%s: %d pods were refused", phase, len(c.errors))
		}
	}
}

// kill ends a replica's process as the kernel's out-of-memory killer would.
func kill(t *testing.T, pod string) {
	t.Helper()
	_, id, _ := strings.Cut(kubectl(t, "-n", webhookNamespace, "get", "pod", pod, "-o", "jsonpath={.status.containerStatuses[0].containerID}"),
		"://")
	if id == "" {
		t.Fatalf("%s has no container", pod)
	}
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, file := range files {
		cgroups, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(cgroups), id) {
			continue // of another container, or gone
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		killed++
	}
	if killed != 1 {
		t.Fatalf("killed %d processes of %s, want its one", killed, pod)
	}
}
