package command

import (
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// A developer may read a namespace, and neither the webhook's configuration, nor the MutatingWebhookConfiguration, nor exec into pods. Of a
// pod that is well nothing is said to be broken then, nor said as if it were known.
func TestDoctorForADeveloper(t *testing.T) {
	text, err := os.ReadFile("../../../../injector/testdata/api.golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := yaml.Unmarshal([]byte(strings.ReplaceAll(string(text), "cn-hangzhou", "cn-beijing")), &pod); err != nil {
		t.Fatal(err)
	}
	pod.TypeMeta = metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}
	pod.Namespace, pod.Name, pod.Spec.ServiceAccountName = "shop", "well", "web"
	pod.Status.Phase = corev1.PodRunning
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{
		{Name: agentconfig.InitContainerName, Ready: true, State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Message: `{"fetched":"2026-01-01T00:00:00Z","secrets":[]}`, // months ago, as the sidecar's values are not
		}}},
		{Name: agentconfig.ContainerName, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
	}
	server := shop()
	server.Objects["/api/v1/namespaces/shop/pods/well"] = pod
	server.Objects["/api/v1/namespaces/shop/serviceaccounts/web"] = object{"metadata": object{"annotations": object{
		"pod-identity.alibabacloud.com/role-name": "shop"}}}
	server.Forbids = map[string]string{
		"/api/v1/namespaces/shop/pods/well/exec": `pods "well" is forbidden: User "dev" cannot create resource "pods/exec" ` +
			`in API group "" in the namespace "shop"`,
	}
	for _, path := range []string{
		"/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kms-agent-injector",
		"/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings/kms-agent-injector",
		"/apis/discovery.k8s.io/v1/namespaces/kms-agent-injector/endpointslices",
		"/apis/apps/v1/namespaces/kms-agent-injector/deployments/kms-webhook",
	} {
		server.Forbids[path] = "it is forbidden"
	}
	code, stdout, stderr := run(t, "", "--server", server.Start(t), "--cache-dir", t.TempDir(), "-n", "shop", "doctor", "well")
	if code != 2 || strings.Contains(stdout, "✗") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	for _, want := range []string{
		"✓ certificate   the API server reaches the webhook and accepts its certificate\n",
		"? configuration the webhook's configuration could not be read: ",
		"assumes acs:ram::1234567890123456:role/shop\n",
		"? sts           the agent cannot be asked: you are not allowed to create pods/exec in namespace shop\n",
		"? files         the agent does not say, as above\n",
		`"acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee"`,
		`"oidc:iss": "<the cluster's issuer>"`,
		`"acs:kms:cn-beijing:1234567890123456:secret/app/prod/db"`,
	} {
		if !strings.Contains(stdout, want) {
			t.Errorf("it does not say %q:\n%s", want, stdout)
		}
	}
}

// What only the webhook's configuration says stands in angle brackets in what there is to paste, and is no other account's.
func TestPlaceholders(t *testing.T) {
	server := shop()
	server.Objects["/api/v1/namespaces/shop/serviceaccounts/web"] = object{"metadata": object{}}
	_, stdout, stderr := run(t, deployment, "--server", server.Start(t), "validate", "-f", "-")
	if want := "ack.alibabacloud.com/role-arn=acs:ram::<account>:role/<role>"; !strings.Contains(stdout, want) {
		t.Errorf("it does not say %s:\n%s%s", want, stdout, stderr)
	}
}
