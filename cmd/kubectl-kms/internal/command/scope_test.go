package command

import (
	"os"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

const webhooks = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kms-agent-injector"

// withWebhook is shop with a webhook, which leaves kube-system out, and with the ServiceAccount web in each of its namespaces.
func withWebhook(t *testing.T) *fakekube.Server {
	t.Helper()
	policy, err := os.ReadFile(operator)
	if err != nil {
		t.Fatal(err)
	}
	server := shop()
	server.Forbids = map[string]string{}
	server.Objects[webhooks] = object{"webhooks": []any{object{
		"clientConfig": object{"service": object{"namespace": "kms-agent-injector", "name": "kms-webhook"}},
		"namespaceSelector": object{"matchLabels": object{"kms.alibabacloud.com/injection": "enabled"}, "matchExpressions": []any{
			object{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": []any{"kube-system"}}}},
	}}}
	server.Objects["/apis/apps/v1/namespaces/kms-agent-injector/deployments/kms-webhook"] = object{"spec": object{"template": object{
		"spec": object{"volumes": []any{object{"name": "config", "configMap": object{"name": "kms-webhook"}}}}}}}
	server.Objects["/api/v1/namespaces/kms-agent-injector/configmaps/kms-webhook"] = object{"data": object{"config.yaml": string(policy)}}
	for _, namespace := range []string{"shop", "kube-system", "plain"} {
		labels := object{"kms.alibabacloud.com/injection": "enabled"}
		if namespace == "plain" {
			labels = nil
		}
		server.Objects["/api/v1/namespaces/"+namespace] = object{"metadata": object{"name": namespace, "labels": labels}}
		server.Objects["/api/v1/namespaces/"+namespace+"/serviceaccounts/web"] = object{"metadata": object{"annotations": object{
			"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"}}}
	}
	return server
}

// Manifests are held to the namespaces in which the cluster calls its webhook; what it does not show is said not to be checked.
func TestScope(t *testing.T) {
	for name, c := range map[string]struct {
		namespace string
		forbids   string // path
		out, err  string // what validate says there
	}{
		"in scope":     {"shop", "", "0 mistakes, 0 warnings\n", ""},
		"left out":     {"kube-system", "", "the webhook's namespaceSelector leaves namespace kube-system out, whatever its label says", ""},
		"not labelled": {"plain", "", "namespace plain does not have the label kms.alibabacloud.com/injection=enabled", ""},
		"labels that are not shown": {"shop", "/api/v1/namespaces/shop",
			"whether namespace shop has the label kms.alibabacloud.com/injection=enabled, without which nothing is injected in it, " +
				"was not checked: ", ""},
		"a webhook that is not shown": {"shop", webhooks, "0 warnings\n",
			"Note: whether the webhook's namespaceSelector leaves namespaces out was not checked: "},
	} {
		t.Run(name, func(t *testing.T) {
			server := withWebhook(t)
			if c.forbids != "" {
				server.Forbids[c.forbids] = "it is forbidden"
			}
			address := server.Start(t)
			manifest := strings.ReplaceAll(deployment, "namespace: shop", "namespace: "+c.namespace)
			code, stdout, stderr := run(t, manifest, "--server", address, "validate", "-f", "-")
			if code != 0 || !strings.Contains(stdout, c.out) || !strings.Contains(stderr, c.err) || c.err == "" && stderr != "" {
				t.Errorf("validate: exit code %d\n%s%s", code, stdout, stderr)
			}
			code, stdout, stderr = run(t, manifest, "--server", address, "inject", "-f", "-")
			said := c.err != "" && strings.Contains(stderr, c.err) || strings.Contains(stderr, "Warning: "+c.out)
			if said = said || name == "in scope" && stderr == ""; code != 0 || !strings.Contains(stdout, "kms.alibabacloud.com/injected") || !said {
				t.Errorf("inject: exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}

// As kubectl apply leaves them, ServiceAccounts and namespaces keep what others wrote into them, and lose what an earlier manifest did.
func TestAppliedOver(t *testing.T) {
	const sa = "kind: ServiceAccount\nmetadata: {name: web, namespace: shop"
	server := withWebhook(t)
	server.Objects["/api/v1/namespaces/shop/serviceaccounts/applied"] = object{"metadata": object{"annotations": object{
		"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop",
		"kubectl.kubernetes.io/last-applied-configuration": `{"metadata": {"annotations": {"ack.alibabacloud.com/role-arn": ` +
			`"acs:ram::1234567890123456:role/shop"}}}`,
	}}}
	address := server.Start(t)
	for name, c := range map[string]struct{ manifest, says string }{
		"an annotation that the manifest does not have": {sa + "}\n---\n" + deployment, "0 mistakes, 0 warnings\n"},
		"an annotation of both": {sa + ", annotations: {ack.alibabacloud.com/role-arn: 'acs:ram::1:role/b'}}\n---\n" + deployment,
			"its pods will be refused"},
		"an annotation that an earlier manifest had": {strings.NewReplacer("name: web", "name: applied", "Name: web", "Name: applied").Replace(
			sa + "}\n---\n" + deployment), "its pods will be refused until this is put right: no RAM role is set for ServiceAccount shop/applied"},
		"a label that the manifest does not have": {"kind: Namespace\nmetadata: {name: shop}\n---\n" + deployment, "0 mistakes, 0 warnings\n"},
		"a label of both": {"kind: Namespace\nmetadata: {name: shop, labels: {kms.alibabacloud.com/injection: disabled}}\n---\n" + deployment,
			"namespace shop does not have the label"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := run(t, c.manifest, "--server", address, "validate", "-f", "-")
			if code != 0 || !strings.Contains(stdout, c.says) {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
	if code, stdout, stderr := run(t, sa+"}\n---\n"+deployment, "--server", address, "inject", "-f", "-"); code != 0 ||
		!strings.Contains(stdout, "acs:ram::1234567890123456:role/shop") {
		t.Errorf("inject: exit code %d\n%s%s", code, stdout, stderr)
	}
}
