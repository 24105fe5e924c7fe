//go:build e2e

package e2e

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

// testSyncWarnings has kubectl apply say what the condition InvalidSpec says, of objects that are stored all the same.
func testSyncWarnings(t *testing.T) {
	ns := namespace(t)
	applied := func(manifest string, args ...string) string {
		t.Helper()
		cmd := exec.Command(kubectlPath, append([]string{"--kubeconfig", kubeconfig, "apply", "-f", "-"}, args...)...)
		cmd.Stdin = strings.NewReader(manifest)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		return string(out)
	}
	// warned tries until there are warnings: the Service is new to the nodes, and the API server does not wait for a slow answer.
	warned := func(manifest string) (said string) {
		t.Helper()
		eventually(t, patience, func() error {
			if said = applied(manifest, "--dry-run=server"); !strings.Contains(said, "Warning: ") {
				return errors.New("there is no warning: " + said)
			}
			return nil
		})
		applied(manifest)
		return said
	}
	said := warned(externalSecret(ns, "wrong", appOnly,
		"rotationInterval: 5 min\ndata:\n- {key: app/db, name: x, jmesPath: [{path: 'a[', objectAlias: x}]}\n"))
	kubectl(t, "-n", ns, "wait", "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=InvalidSpec", "externalsecret/wrong",
		"--timeout=5m")
	mistakes := kubectl(t, "-n", ns, "get", "externalsecret", "wrong", "-o", "jsonpath={.status.conditions[?(@.type=='Ready')].message}")
	if n := strings.Count(said, "Warning: "); n != 2 {
		t.Errorf("%d warnings:\n%s", n, said)
	}
	for _, mistake := range strings.Split(mistakes, "\n") {
		if !strings.Contains(said, "Warning: "+mistake+"\n") {
			t.Errorf("the condition says\n%s\nand kubectl apply\n%s", mistake, said)
		}
	}
	store := "apiVersion: alibabacloud.com/v1alpha1\nkind: SecretStore\nmetadata: {name: wrong, namespace: " + ns +
		"}\nspec: {KMS: {KMSAuth: {roleSessionExpiration: 1h}}}\n"
	if said := warned(store); !strings.Contains(said, `Warning: spec.KMS.KMSAuth.roleSessionExpiration: is "1h"`) {
		t.Error(said)
	}
	right := externalSecret(ns, "right", appOnly, "data:\n- {key: "+secretName("warned")+", name: x}\n")
	if said := applied(right); strings.Contains(said, "Warning") {
		t.Error(said)
	}
	kubectl(t, "-n", ns, "delete", "externalsecrets,secretstores", "--all", "--timeout=5m")
}
