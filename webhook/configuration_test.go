package webhook_test

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// Applying an invalid configuration of the webhook fails, with an error that says what to write, before the webhook reads it.
func TestConfigurationIsChecked(t *testing.T) {
	f := start(t, func(_ *fixture, o *webhook.Options) {
		o.ConfigMap = types.NamespacedName{Namespace: "kms", Name: "kms-webhook"}
	}).ready(t)
	const other = "agent: {image: \"registry.example/kms-agent:v2\"}\n"
	const withCA, typing = configuration + "kms: {caFile: ca.pem}\n", `there is no field "regoin"; did you mean "region"?`
	quantity := strings.Replace(configuration, "}", ", requests: {memory: 1Gi}}", 1)
	for name, c := range map[string]struct {
		namespace, of, document, file string
		refused, warned               string
	}{
		"right":                      {"kms", "kms-webhook", configuration, "", "", ""},
		"a typing error":             {"kms", "kms-webhook", configuration + "regoin: x\n", "", typing, ""},
		"two mistakes":               {"kms", "kms-webhook", "region: x\nnetwork: vcp\n", "", `did you mean "vpc"?`, ""},
		"nothing":                    {"kms", "kms-webhook", "", "", "accountID: is missing", ""},
		"a quantity":                 {"kms", "kms-webhook", quantity, "", "no pod would be valid", ""},
		"no such file":               {"kms", "kms-webhook", withCA, "", "the ConfigMap has no key ca.pem", ""},
		"no certificate":             {"kms", "kms-webhook", withCA, "no PEM", "has no certificate in PEM form", ""},
		"a file elsewhere":           {"kms", "kms-webhook", configuration + "kms: {caFile: /etc/passwd}\n", "", "", ""},
		"another ConfigMap":          {"kms", "other", "regoin: x\n", "", "", ""},
		"another namespace":          {"shop", "kms-webhook", "regoin: x\n", "", "", ""},
		"of another version":         {"kms", "kms-webhook", other + "new: field\n", "", "", "another version of the webhook"},
		"right, of another version":  {"kms", "kms-webhook", strings.Replace(configuration, "agent:v1", "agent:v2", 1), "", "", ""},
		"too long to be looked into": {"kms", "kms-webhook", "#" + strings.Repeat("x", 64<<10), "", "", "is not checked"},
	} {
		t.Run(name, func(t *testing.T) {
			data := map[string]any{"config.yaml": c.document}
			if c.file != "" {
				data["ca.pem"] = c.file
			}
			object := map[string]any{"metadata": map[string]any{"name": c.of, "namespace": c.namespace}, "data": data}
			said, allowed := f.ask(t, webhook.ConfigPath, c.namespace, object, true)
			quoted := func(text string) string { return strings.ReplaceAll(text, `"`, `\"`) }
			if allowed != (c.refused == "") || !strings.Contains(said, quoted(c.refused)) || !strings.Contains(said, quoted(c.warned)) {
				t.Errorf("allowed %v: %s", allowed, said)
			}
			if c.refused == "" && c.warned == "" && strings.Contains(said, "warnings") {
				t.Errorf("there is a warning: %s", said)
			}
		})
	}
}
