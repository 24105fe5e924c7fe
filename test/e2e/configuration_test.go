//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// configuration is the webhook's.
func configuration(t testing.TB) string {
	t.Helper()
	return kubectl(t, "-n", webhookNamespace, "get", "configmap", "kms-webhook", "-o", `jsonpath={.data.config\.yaml}`)
}

func patchConfiguration(t testing.TB, document string, flags ...string) {
	t.Helper()
	kubectl(t, append(configurationPatch(t, document), flags...)...)
}

func configurationPatch(t testing.TB, document string) []string {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"data": map[string]string{"config.yaml": document}})
	if err != nil {
		t.Fatal(err)
	}
	return []string{"-n", webhookNamespace, "patch", "configmap", "kms-webhook", "--type=merge", "-p", string(patch)}
}

// reconfigured returns when all replicas follow a document.
func reconfigured(t *testing.T, document string) {
	t.Helper()
	reloads := measured(t, reloadMetric)
	patchConfiguration(t, document)
	for pod := range reloads {
		nudgePod(t, pod)
	}
	eventually(t, patience, func() error {
		for pod, at := range measured(t, reloadMetric) {
			if at == reloads[pod] {
				nudgePod(t, pod)
				return errNotYet
			}
		}
		return nil
	})
}

// A mistake in the webhook's configuration is refused when it is applied, with what to write; and a replica that meets one says it where
// people look.
func TestBrokenConfigurationIsRefused(t *testing.T) {
	t.Parallel()
	now := configuration(t)
	const mistake = `there is no field "regoin"; did you mean "region"?`
	out, err := tryKubectl(t.Context(), "", append(configurationPatch(t, now+"\nregoin: x\n"), "--dry-run=server")...)
	if err == nil || !strings.Contains(err.Error(), mistake) {
		t.Errorf("want %s: %v%s", mistake, err, out)
	}
	patchConfiguration(t, now+"\n# a comment\n", "--dry-run=server")
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte("regoin: x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, stdout, stderr := plugin(t, "", "validate", "--config", file); code != 1 || !strings.Contains(stdout, mistake) {
		t.Errorf("kubectl kms validate --config: %d %s%s", code, stdout, stderr)
	}

	// The same pod as the Deployment's, with a broken configuration.
	ns := namespace(t)
	var deployment appsv1.Deployment
	text := kubectl(t, "-n", webhookNamespace, "get", "deployment", "kms-webhook", "-o", "json")
	if err := json.Unmarshal([]byte(text), &deployment); err != nil {
		t.Fatal(err)
	}
	pod := corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: "webhook", Namespace: ns}, Spec: deployment.Spec.Template.Spec,
	}
	pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount, pod.Spec.PriorityClassName = "", "", ""
	pod.Spec.TopologySpreadConstraints = nil
	manifest, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	kubectl(t, "-n", ns, "create", "configmap", "kms-webhook", "--from-file="+file)
	apply(t, string(manifest))
	eventually(t, patience, func() error {
		c := status(t, ns, "webhook").container("kms-webhook")
		for _, state := range []containerState{c.State, c.LastState} {
			if state.Terminated != nil && strings.Contains(state.Terminated.Message, mistake) {
				return nil
			}
		}
		return fmt.Errorf("the container's states are %+v", c)
	})
}
