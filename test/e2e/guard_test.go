//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// With the webhook's configuration gone, no pod that asks for secrets starts bare, and all others start as ever. Not parallel: the
// other tests need the configuration.
func TestGuard(t *testing.T) {
	ns := namespace(t)
	unlabelled := namespace(t)
	kubectl(t, "label", "namespace", unlabelled, "kms.alibabacloud.com/injection-")
	kubectl(t, "delete", "mutatingwebhookconfiguration", "kms-agent-injector")
	defer restoreWebhook(t, ns)

	asking := workload{name: "asking", annotations: []string{"inject: true", "secret.a: e2e/guard"}}
	var message string
	eventually(t, patience, func() error { // until the API server has noticed
		out, err := tryKubectl(t.Context(), asking.pod(ns), "apply", "--dry-run=server", "-f", "-")
		if err == nil {
			return fmt.Errorf("accepted: %s", out)
		}
		message = err.Error()
		return nil
	})
	for _, want := range []string{"ValidatingAdmissionPolicy 'kms-agent-injector'", "did not inject", "MutatingWebhookConfiguration kms-agent-injector", `kms.alibabacloud.com/inject to "false"`} {
		if !strings.Contains(message, want) {
			t.Errorf("%q is not in the message:\n%s", want, message)
		}
	}
	for name, c := range map[string]struct {
		workload
		namespace string
		refused   bool
	}{
		"a secret alone":       {workload{annotations: []string{"secret.a: x"}}, ns, true},
		"a mistyped inject":    {workload{annotations: []string{"inject: yes", "secret.a: x"}}, ns, true},
		"marked by hand":       {workload{annotations: []string{"inject: true", "injected: v1", "secret.a: x"}}, ns, true},
		"said no":              {workload{annotations: []string{"inject: false", "secret.a: x"}}, ns, false},
		"asked nothing":        {workload{}, ns, false},
		"only marked":          {workload{annotations: []string{"injected: v1"}}, ns, false},
		"another's namespace":  {workload{annotations: []string{"inject: true", "secret.a: x"}}, unlabelled, false},
		"an agent of its own":  {workload{annotations: []string{"inject: true", "secret.a: x"}, containers: container("kms-agent")}, ns, false},
		"an agent by the name": {workload{annotations: []string{"inject: true", "secret.a: x"}, containers: container("kms-agents")}, ns, true},
	} {
		c.name = "p"
		out, err := tryKubectl(t.Context(), c.pod(c.namespace), "apply", "--dry-run=server", "-f", "-")
		if (err != nil) != c.refused {
			t.Errorf("%s: refused %v, want %v: %v%s", name, err != nil, c.refused, err, out)
		}
	}
}

// restoreWebhook installs the webhook's configuration again and waits until it injects.
func restoreWebhook(t *testing.T, ns string) {
	t.Helper()
	kubectl(t, "apply", "-k", filepath.Join(installDir(), "webhook"))
	reached(t, workload{name: "probe", annotations: []string{"inject: true", "secret.a: e2e/guard"}}.pod(ns))
}
