//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The authorities of KMS and STS come from a ConfigMap of the pod's namespace: agents follow it without a restart, and one that is missing
// is named by the pod that needs it, which starts when it comes.
func TestAuthorityOfAConfigMap(t *testing.T) {
	before := configuration(t)
	changed := regexp.MustCompile(`(?m)^  caFile: .*$`).ReplaceAllString(before, "  caConfigMap: {name: cloud-ca}")
	if strings.Count(changed, "caConfigMap") != 2 {
		t.Fatalf("the configuration is not as expected:\n%s", before)
	}
	right, err := os.ReadFile(filepath.Join(installDir(), "webhook", "emulator-ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	wrong := newAuthority(t).pem
	authority := func(ns string, certificates ...[]byte) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "ca.crt")
		var text []byte
		for _, c := range certificates {
			text = append(text, c...)
		}
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		manifest := kubectl(t, "-n", ns, "create", "configmap", "cloud-ca", "--from-file="+file, "--dry-run=client", "-o", "yaml")
		apply(t, manifest)
	}
	ns, without, name := namespace(t), namespace(t), secretName("authority")
	put(t, name, value())
	authority(ns, right)
	pod := workload{name: "web", podSecurity: "runAsUser: 2000",
		annotations: []string{"inject: true", "refresh-interval: 10s", "secret.f: " + name}}
	reconfigured(t, changed)
	apply(t, pod.pod(ns))
	apply(t, pod.pod(without))
	reconfigured(t, before) // the two pods stay as they are

	ready(t, ns, "web")
	config := kubectl(t, "-n", ns, "get", "pod", "web", "-o", `jsonpath={.spec.initContainers[*].env[?(@.name=="KMS_AGENT_CONFIG")].value}`)
	if strings.Contains(config, "CERTIFICATE") || strings.Count(config, `"caConfigMap":"cloud-ca/ca.crt"`) != 4 {
		t.Errorf("the agents are told %s", config)
	}
	message := whyNot(t, without, "web")
	if want := "the ConfigMap cloud-ca of the namespace " + without +
		", which sts.caConfigMap of the webhook's configuration names, does not exist, or has no key ca.crt"; !strings.Contains(message, want) {
		t.Errorf("want %q:\n%s", want, message)
	}
	authority(without, right)

	nudge := func(ns string) { // else the kubelet looks within a minute
		kubectl(t, "-n", ns, "annotate", "pod", "web", "--overwrite", "example.com/nudge="+time.Now().Format("150405.000"))
	}
	metrics := func() string {
		return kubectl(t, "get", "--raw", "/api/v1/namespaces/"+ns+"/pods/web:2026/proxy/metrics")
	}
	authority(ns, wrong)
	eventually(t, patience, func() error {
		nudge(ns)
		if !regexp.MustCompile(`kms_agent_refresh_total\{result="failure",code="[^"]*"\} [1-9]`).MatchString(metrics()) {
			return errors.New("a stranger's authority certifies KMS")
		}
		return nil
	})
	want := value()
	rotate(t, name, want)
	authority(ns, wrong, right)
	eventually(t, patience, func() error {
		nudge(ns)
		if got := in(t, ns, "web", "app", "cat", "/var/run/kms/secrets/f"); got != want {
			return errors.New("the agent does not follow the ConfigMap")
		}
		return nil
	})
	if c := status(t, ns, "web").container("kms-agent"); c.RestartCount != 0 || !c.Ready {
		t.Errorf("the agent was restarted: %+v", c)
	}
	eventually(t, patience, func() error { // the kubelet looks again at the volume of a pod that starts
		nudge(without)
		if s := status(t, without, "web"); s.Status.Phase != "Running" {
			return fmt.Errorf("the pod is %s", s.Status.Phase)
		}
		return nil
	})
}
