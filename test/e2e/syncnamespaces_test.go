//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// The controller of some namespaces has no rights in others, and does not touch them. One of them that is deleted loses its Role before its
// ExternalSecrets; it ends all the same, and the others outlive it and a restart of the controller.
func (c controller) testWatchedNamespaces(t *testing.T, watched rarely) {
	outside, name := namespace(t), secretName("outside")
	put(t, name, "x")
	short := startRare(t)
	c.helm(t, "upgrade", "--set", "replicaCount=1,command.watchNamespaces="+watched.ns+`\,`+short.ns)
	apply(t, externalSecret(outside, "db", appOnly, "data:\n- {key: "+name+", name: x}\n"))
	watched.lasts(t)

	for _, right := range []string{"get secrets", "list secrets", "create secrets", "patch secrets", "delete secrets", "get serviceaccounts",
		"create serviceaccounts/token", "list externalsecrets.alibabacloud.com", "patch externalsecrets.alibabacloud.com/status"} {
		verb, resource, _ := strings.Cut(right, " ")
		resource, sub, _ := strings.Cut(resource, "/")
		for ns, want := range map[string]bool{watched.ns: true, outside: false} {
			out, err := tryKubectl(t.Context(), "", "auth", "can-i", verb, resource, "--subresource="+sub, "-n", ns,
				"--as", "system:serviceaccount:"+c.system+":"+appOnly)
			if got := strings.TrimSpace(out) == "yes"; got != want {
				t.Errorf("%s in %s: %s (%v), want %t", right, ns, out, err, want)
			}
		}
	}
	if got := kubectl(t, "-n", outside, "get", "externalsecret", "db", "-o", "jsonpath={.metadata.finalizers}{.status}"); got != "" {
		t.Errorf("an ExternalSecret outside has %s", got)
	}
	if got := kubectl(t, "-n", outside, "get", "secrets", "-o", "name"); got != "" || calls(t, "GetSecretValue", name) != 0 {
		t.Errorf("outside there are the Secrets %q, and KMS was called", got)
	}
	kubectl(t, "-n", outside, "delete", "externalsecret", "db", "--timeout=5m")

	kubectl(t, "delete", "namespace", short.ns, "--timeout=5m")
	kubectl(t, "-n", c.system, "rollout", "restart", "deployment/kms-sync")
	kubectl(t, "-n", c.system, "rollout", "status", "deployment/kms-sync", "--timeout=5m")
	watched.lasts(t)
}
