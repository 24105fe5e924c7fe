//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"strings"
	"sync"
	"testing"
)

// TestLabelAndCreateInOneBreath: a pod that is made right after its namespace was labelled is injected, though the webhook's cache may
// not have the label yet.
func TestLabelAndCreateInOneBreath(t *testing.T) {
	const times, atOnce = 50, 5
	prefix := "e2e-" + strings.ToLower(rand.Text()[:8])
	t.Cleanup(func() {
		if _, err := tryKubectl(context.WithoutCancel(t.Context()), "", "delete", "namespace", "-l", "e2e="+prefix, "--wait=false"); err != nil {
			t.Log(err)
		}
	})
	document := func(i int, label string) string {
		return fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata:
  name: %[1]s-%[2]d
  labels: {e2e: %[1]s%[3]s}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: app
  namespace: %[1]s-%[2]d
  annotations: {ack.alibabacloud.com/role-arn: "%[4]s"}
`, prefix, i, label, role)
	}
	all := ""
	for i := range times {
		all += document(i, "") + "---"
	}
	apply(t, all)
	var group sync.WaitGroup
	places := make(chan struct{}, atOnce)
	for i := range times {
		group.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			namespace := fmt.Sprintf("%s-%d", prefix, i)
			pod := workload{name: "app", annotations: []string{"inject: true", "secret.db: e2e/none"},
				spec: `nodeSelector: {e2e/nowhere: "true"}`}.pod(namespace)
			if _, err := tryKubectl(t.Context(), document(i, `, kms.alibabacloud.com/injection: enabled`)+"---\n"+pod, "apply", "-f",
				"-"); err != nil {
				t.Error(err)
				return
			}
			containers, err := tryKubectl(t.Context(), "", "-n", namespace, "get", "pods", "-o", "jsonpath={.items[*].spec.initContainers[*].name}")
			if err != nil || !strings.Contains(containers, "kms-agent") {
				t.Errorf("%s: a pod was made with the init containers %q, %v", namespace, containers, err)
			}
		})
	}
	group.Wait()
}
