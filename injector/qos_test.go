package injector_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// TestClass: a warning says that the pod would lose the QoS class Guaranteed, and how to keep it.
func TestClass(t *testing.T) {
	const same = "resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 1, memory: 1Gi}}"
	const keep = `, kms.alibabacloud.com/agent-requests: "cpu=50m,memory=64Mi", kms.alibabacloud.com/agent-limits: "cpu=50m,memory=64Mi"`
	for _, c := range []struct {
		name, annotations, spec string
		warned                  bool
	}{
		{"equal", "", "containers: [{name: web, " + same + "}]", true},
		{"limits alone", "", "containers: [{name: web, resources: {limits: {cpu: 500m, memory: 1Gi}}}]", true},
		{"written in another way", "",
			`containers: [{name: web, resources: {limits: {cpu: "1", memory: 1Gi}, requests: {cpu: 1000m, memory: 1024Mi}}}]`, true},
		{"more than the class looks at", "", "containers: [{name: web, resources: {limits: {cpu: 1, memory: 1Gi, nvidia.com/gpu: 1}}}]", true},
		{"and an init container", "", "containers: [{name: web, " + same + "}], initContainers: [{name: migrate, " + same + "}]", true},
		{"an init container only", ", kms.alibabacloud.com/mode: init", "containers: [{name: web, " + same + "}]", true},
		{"an init container without", "", "containers: [{name: web, " + same + "}], initContainers: [{name: migrate}]", false},
		{"another container without", "", "containers: [{name: web, " + same + "}, {name: log, resources: {}}]", false},
		{"requests less", "", "containers: [{name: web, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 900m, memory: 1Gi}}}]", false},
		{"requests nothing", "", "containers: [{name: web, resources: {limits: {cpu: 1, memory: 1Gi}, requests: {cpu: 0, memory: 1Gi}}}]", false},
		{"no cpu", "", "containers: [{name: web, resources: {limits: {cpu: 0, memory: 1Gi}}}]", false},
		{"memory alone", "", "containers: [{name: web, resources: {limits: {memory: 1Gi}, requests: {memory: 1Gi}}}]", false},
		{"no limits", "", "containers: [{name: web, resources: {limits: null, requests: {cpu: 1, memory: 1Gi}}}]", false},
		{"nothing", "", "containers: [{name: web}]", false},
		{"the pod's own", "", same + ", containers: [{name: web, " + same + "}]", false},
		{"the pod's own nothing", "", "resources: {}, containers: [{name: web, " + same + "}]", false},
		{"as advised", keep, "containers: [{name: web, " + same + "}]", false},
		{"as much as by default", `, kms.alibabacloud.com/agent-limits: "cpu=10m,memory=24Mi"`, "containers: [{name: web, " + same + "}]", false},
		{"half of the advice", `, kms.alibabacloud.com/agent-limits: "cpu=50m,memory=64Mi"`, "containers: [{name: web, " + same + "}]", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := fmt.Sprintf(`{metadata: {annotations: {kms.alibabacloud.com/inject: "true", kms.alibabacloud.com/secret.db: app/db%s}}, `+
				`spec: {%s}}`, c.annotations, c.spec)
			document, err := yaml.YAMLToJSON([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			injected, warnings, err := inject(administrator(t, ""), document)
			if err != nil {
				t.Fatal(err)
			}
			i := slices.IndexFunc(warnings, func(w string) bool { return strings.Contains(w, "QoS class Guaranteed") })
			if (i >= 0) != c.warned {
				t.Errorf("%q", warnings)
			}
			for _, advice := range strings.Split(keep, ", ")[1:] {
				if advice = strings.ReplaceAll(advice, `"`, ""); i >= 0 && !strings.Contains(warnings[i], advice) {
					t.Errorf("%q does not say %s", warnings[i], advice)
				}
			}
			if c.annotations != keep {
				return
			}
			var pod corev1.Pod
			unmarshal(t, injected, &pod)
			for _, agent := range pod.Spec.InitContainers {
				if r := agent.Resources; len(r.Limits) != 2 || !r.Limits.Cpu().Equal(*r.Requests.Cpu()) ||
					!r.Limits.Memory().Equal(*r.Requests.Memory()) {
					t.Errorf("%s has %v", agent.Name, r)
				}
			}
		})
	}
}
