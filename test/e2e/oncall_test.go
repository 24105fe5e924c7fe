//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// The ClusterRole kms-on-call has all rights that status and doctor need, but the right to create a pod.
func TestOnCall(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("oncall")
	put(t, name, value())
	apply(t, asking("web", name).pod(ns))
	ready(t, ns, "web")
	user := "on-call-" + ns
	kubectl(t, "create", "clusterrolebinding", user, "--clusterrole=kms-on-call", "--user="+user)
	t.Cleanup(func() {
		if out, err := tryKubectlAnyway("delete", "clusterrolebinding", user); err != nil {
			t.Error(err, out)
		}
	})
	eventually(t, patience, func() error { // until the API server knows the binding
		if code, stdout, stderr := plugin(t, "", "status", "-n", ns, "--as", user); code != 0 || !strings.Contains(stdout, " fresh ") {
			return fmt.Errorf("status: %d %s%s", code, stdout, stderr)
		}
		return nil
	})
	_, stdout, stderr := plugin(t, "", "doctor", "-n", ns, "web", "--as", user)
	for line := range strings.Lines(stdout) {
		if strings.HasPrefix(line, "✗") || strings.HasPrefix(line, "?") && !strings.HasPrefix(line, "? certificate ") {
			t.Errorf("doctor: %s", line)
		}
	}
	if !strings.Contains(stdout, "✓ kms ") || !strings.Contains(stdout, "✓ webhook ") || !strings.Contains(stdout, "✓ oidc-provider ") {
		t.Errorf("doctor: %s%s", stdout, stderr)
	}
	for _, right := range []string{"create pods", "get secrets", "delete pods", "get configmaps"} {
		verb, resource, _ := strings.Cut(right, " ")
		if out, err := tryKubectl(t.Context(), "", "auth", "can-i", verb, resource, "-n", ns, "--as", user); err == nil {
			t.Errorf("may %s: %s", right, out)
		}
	}
}
