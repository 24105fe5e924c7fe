//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"testing"
)

// A Deployment mounts the Secret of an ExternalSecret. With the annotations that kubectl kms migrate prints, and without what it says to
// remove, it reads the same bytes from the same path, of a file that the injector writes, and goes on when the Secret is gone.
func testSyncMigration(t *testing.T) {
	ns, name, want := namespace(t), secretName("migration"), "two\nlines"
	put(t, name, want)
	apply(t, externalSecret(ns, "db", appOnly, "data:\n- {key: "+name+", name: password}\n"))
	synced(t, ns, "db")
	web := workload{name: "web", podSecurity: "runAsUser: 2000", spec: "volumes: [{name: db, secret: {secretName: db}}]",
		containers: container("app", "volumeMounts: [{name: db, mountPath: /etc/web/db, readOnly: true}]")}
	apply(t, web.unscaled(ns))
	kubectl(t, "-n", ns, "scale", "deployment", "web", "--replicas=1")
	rolledOut := func() {
		t.Helper()
		kubectl(t, "-n", ns, "rollout", "status", "deployment/web", "--timeout=5m")
		got := kubectl(t, "-n", ns, "exec", "deployment/web", "-c", "app", "--", "cat", "/etc/web/db/password")
		if got != want {
			t.Errorf("the file has %q, want %q", got, want)
		}
	}
	rolledOut()

	code, stdout, stderr := plugin(t, kubectl(t, "-n", ns, "get", "externalsecrets.alibabacloud.com,deployments", "-o", "yaml"), "migrate",
		"-f", "-", "-o", "json")
	var plans []struct {
		Workloads []struct {
			Annotations json.RawMessage
			Remove      []string
		}
	}
	if err := json.Unmarshal([]byte(stdout), &plans); err != nil || code != 0 || len(plans) != 1 || len(plans[0].Workloads) != 1 ||
		fmt.Sprint(plans[0].Workloads[0].Remove) != "[volume db and its volumeMounts]" {
		t.Fatalf("%d %v\n%s%s", code, err, stdout, stderr)
	}
	kubectl(t, "-n", ns, "patch", "deployment", "web", "-p", fmt.Sprintf(`{"spec": {"template": {"metadata": {"annotations": %s}, "spec": {
		"volumes": [{"name": "db", "$patch": "delete"}],
		"containers": [{"name": "app", "volumeMounts": [{"mountPath": "/etc/web/db", "$patch": "delete"}]}]}}}}`,
		plans[0].Workloads[0].Annotations))
	rolledOut()
	kubectl(t, "-n", ns, "delete", "externalsecret", "db", "--timeout=5m")
	if out, err := tryKubectl(t.Context(), "", "-n", ns, "get", "secret", "db"); err == nil {
		t.Errorf("the Secret is still there:\n%s", out)
	}
	kubectl(t, "-n", ns, "rollout", "restart", "deployment/web")
	rolledOut()
}
