//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// warnings applies manifests, which must be accepted, and returns what kubectl prints besides.
func warnings(t *testing.T, manifests string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), kubectlPath, "--kubeconfig", kubeconfig, "apply", "--dry-run=server", "-f", "-")
	cmd.Stdin = strings.NewReader(manifests)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	return stderr.String()
}

func (w workload) deployment(namespace string, own ...string) string {
	annotations := ""
	for _, a := range own {
		annotations += "    kms.alibabacloud.com/" + a + "\n"
	}
	if annotations != "" {
		annotations = "  annotations:\n" + annotations
	}
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: " + w.name + "\n  namespace: " + namespace + "\n" + annotations +
		"spec:\n  selector: {matchLabels: {app: " + w.name + "}}\n  template:\n" + w.body(namespace, "    ")
}

// kubectl apply warns at once of what will not work, also where nothing is injected. Other objects cause no warnings.
func TestWarnings(t *testing.T) {
	t.Parallel()
	ns, outside := namespace(t), namespace(t)
	kubectl(t, "label", "namespace", outside, "kms.alibabacloud.com/injection-")
	asking := workload{name: "w", podSecurity: "runAsUser: 2000", annotations: []string{"inject: true", "secret.a: e2e/x"}}
	const notOptedIn = "nothing will be injected: namespace"
	for name, c := range map[string]struct{ manifest, want string }{
		"a Deployment where nothing is injected": {asking.deployment(outside), notOptedIn},
		"a pod where nothing is injected":        {asking.pod(outside), notOptedIn},
		"a mistake there": {workload{name: "w", annotations: []string{"inject: true", "secrt.a: x"}}.deployment(outside),
			"did you mean kms.alibabacloud.com/secret.a?"},
		"annotations of the Deployment": {workload{name: "w"}.deployment(ns, `inject: "true"`, "secret.a: x"),
			"kms.alibabacloud.com/inject, kms.alibabacloud.com/secret.a: has no effect here, only on pods; move it to " +
				"spec.template.metadata.annotations"},
		"no ServiceAccount yet": {workload{name: "w", serviceAccount: "soon", annotations: asking.annotations}.deployment(ns),
			"ServiceAccount " + ns + "/soon"},
		"all is well":                        {asking.deployment(ns), ""},
		"a pod that asks for nothing":        {workload{name: "w"}.pod(outside), ""},
		"a Deployment that asks for nothing": {workload{name: "w"}.deployment(outside), ""},
	} {
		got := warnings(t, c.manifest)
		if !strings.Contains(got, c.want) || c.want == "" && strings.Contains(got, "kms") {
			t.Errorf("%s: said %q, want %q", name, got, c.want)
		}
	}
}

// What became of a controller's pods is among its events.
func TestEvents(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: roleless, namespace: "+ns+"}\n")
	apply(t, workload{name: "good", podSecurity: "runAsUser: 2000",
		annotations: []string{"inject: true", "secret.a: e2e/events"}}.deployment(ns))
	apply(t, workload{name: "bad", serviceAccount: "roleless", annotations: []string{"inject: true", "secret.a: e2e/events"}}.deployment(ns))
	for app, want := range map[string][]string{
		"good": {"Injected", "as " + role + ", for e2e/events"},
		"bad":  {"InjectionDenied", "it has no RAM role that it may assume"},
	} {
		eventually(t, patience, func() error {
			described := kubectl(t, "-n", ns, "describe", "replicaset", "-l", "app="+app)
			for _, w := range append(want, "kms-webhook") {
				if !strings.Contains(described, w) {
					return fmt.Errorf("%s: %q is not in:\n%s", app, w, described)
				}
			}
			return nil
		})
	}
	// What the event about its own document needs; changing that would disturb the other tests.
	kubectl(t, "auth", "can-i", "get", "configmap/kms-webhook", "-n", "kms-agent-injector",
		"--as=system:serviceaccount:kms-agent-injector:kms-webhook")
}
