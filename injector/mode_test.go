package injector_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestEnd: a pod that is to end does, whatever its mode and whatever sidecars are in the cluster, or its author hears that it will not.
func TestEnd(t *testing.T) {
	for _, c := range []struct {
		operator, restarts, annotations string
		containers                      string // of the pod, in the order in which they start
		said                            string
	}{
		{"", "OnFailure", `"mode":"sidecar"`, "kms-agent-init kms-agent job", ""},
		{"", "OnFailure", `"mode":"single"`, "kms-agent job", ""},
		{"", "Never", `"mode":"single"`, "kms-agent-init kms-agent job", "a native sidecar alone can never fail a pod"},
		{"", "Never", `"mode":"init"`, "kms-agent-init job", ""},
		{"plain-sidecar", "OnFailure", `"mode":"sidecar"`, "kms-agent-init job", "its files are not refreshed"},
		{"plain-sidecar", "Never", `"refresh-interval":"1m"`, "kms-agent-init job", "its files are not refreshed"},
		{"plain-sidecar", "Never", `"mode":"init"`, "kms-agent-init job", ""},
		{"plain-sidecar", "Always", `"mode":"sidecar"`, "kms-agent-init job kms-agent", ""},
		{"plain-sidecar", "Never", `"api":"true"`, "kms-agent-init job kms-agent", "the pod will not complete; remove kms.alibabacloud.com/api"},
	} {
		t.Run(strings.Join([]string{c.operator, c.restarts, c.annotations}, " "), func(t *testing.T) {
			in := administrator(t, c.operator)
			document := fmt.Sprintf(`{"metadata":{"annotations":{"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secret.db":"app/db"%s}},
				"spec":{"restartPolicy":%q,"securityContext":{"runAsUser":1000},"containers":[{"name":"job"}]}}`, prefixed(c.annotations), c.restarts)
			text, warnings, err := inject(in, []byte(document))
			if err != nil {
				t.Fatal(err)
			}
			p := injected{t: t}
			unmarshal(t, text, &p)
			var names []string
			for _, container := range slices.Concat(p.Spec.InitContainers, p.Spec.Containers) {
				names = append(names, container.Name)
			}
			if got := strings.Join(names, " "); got != c.containers {
				t.Errorf("the containers are %s, not %s", got, c.containers)
			}
			said := strings.Join(warnings, "; ")
			if !strings.Contains(said, c.said) || c.said == "" && said != "" {
				t.Errorf("warned %q", said)
			}
			twiceIsOnce(t, in, text)
		})
	}
}
