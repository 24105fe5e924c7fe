//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Other webhooks come before ours and after it, by their configurations' names, and are called again when another one changed
// the pod. The agent's identity stays its own, nothing is there twice, and a container that came late has no files unless it is named.
func TestOtherWebhooks(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	otherWebhook(t, ns)
	name, want := secretName("otherwebhook"), value()
	put(t, name, want)
	orders := []string{"identity-before", "identity-after", "mesh-before", "mesh-after"}
	var pods strings.Builder
	for _, order := range orders {
		p := workload{name: order, annotations: []string{"inject: true", "secret.f: " + name}}.pod(ns)
		pods.WriteString("---\n" + strings.Replace(p, "labels: {", "labels: {otherwebhook: "+order+", ", 1))
	}
	apply(t, pods.String())
	kubectl(t, "-n", ns, "wait", "--for=condition=Ready", "pod", "-l", "otherwebhook in ("+strings.Join(orders, ",")+")", "--timeout=5m")
	for _, order := range orders {
		var pod corev1.Pod
		if err := json.Unmarshal([]byte(kubectl(t, "-n", ns, "get", "pod", order, "-o", "json")), &pod); err != nil {
			t.Fatal(err)
		}
		if got := in(t, ns, order, "app", "cat", dir+"/f"); got != want {
			t.Errorf("%s: the file does not hold the secret's value", order)
		}
		inits := namesOf(pod.Spec.InitContainers)
		for _, c := range pod.Spec.InitContainers {
			if got := envOf(c)["ALIBABA_CLOUD_ROLE_ARN"]; strings.HasPrefix(c.Name, "kms-agent") && got != role {
				t.Errorf("%s: %s is %q", order, c.Name, got)
			}
		}
		app := envOf(pod.Spec.Containers[0])["ALIBABA_CLOUD_ROLE_ARN"]
		if strings.HasPrefix(order, "identity") {
			if !strings.HasSuffix(app, "of-the-other-webhook") || inits != "kms-agent-init kms-agent" {
				t.Errorf("%s: the application is %q; init containers %s", order, app, inits)
			}
			continue
		}
		// Ours stand first of what is there when we are called: behind a proxy that comes later, before one that came earlier.
		if app != "" || inits != map[string]string{"mesh-before": "kms-agent-init kms-agent mesh-proxy",
			"mesh-after": "mesh-proxy kms-agent-init kms-agent"}[order] {
			t.Errorf("%s: the application is %q; init containers %s", order, app, inits)
		}
		if order == "mesh-after" {
			if mounts := pod.Spec.InitContainers[0].VolumeMounts; slices.ContainsFunc(mounts,
				func(m corev1.VolumeMount) bool { return m.Name == "kms-secrets" }) {
				t.Errorf("%s: the proxy has the files, and no annotation names it: %v", order, mounts)
			}
			continue
		}
		if got := in(t, ns, order, "mesh-proxy", "cat", dir+"/f"); got != want {
			t.Errorf("%s: the proxy has no file with the secret's value", order)
		}
	}
}

// A webhook that writes annotations of ours has to come before us: what it asks for is then in the pod. After us it is too late, and
// the pod does not start without.
func TestAnnotationsOfOtherWebhooks(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	otherWebhook(t, ns)
	pod := func(order string) string {
		p := workload{name: order, annotations: []string{"inject: true", "secret.f: e2e/early"}}.pod(ns)
		return strings.Replace(p, "labels: {", "labels: {otherwebhook: "+order+", ", 1)
	}
	out, err := tryKubectl(t.Context(), pod("annotations-before"), "create", "--dry-run=server", "-o",
		"jsonpath={.spec.initContainers[0].env[0].value}", "-f", "-")
	if err != nil || !strings.Contains(out, `"secret":"e2e/late"`) || !strings.Contains(out, `"secret":"e2e/early"`) {
		t.Errorf("before: the agent gets %s, %v", out, err)
	}
	message := refused(t, pod("annotations-after"))
	if want := "kms.alibabacloud.com/secret.late: this annotation was written after the agent was injected"; !strings.Contains(message, want) {
		t.Errorf("after: %q is not in the message:\n%s", want, message)
	}
}

func namesOf(containers []corev1.Container) string {
	var names []string
	for _, c := range containers {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

func envOf(c corev1.Container) map[string]string {
	env := map[string]string{}
	for _, e := range c.Env {
		env[e.Name] = e.Value
	}
	return env
}

// otherWebhook runs test/otherwebhook in a namespace and registers it, before and after our own webhook, for the namespace's pods whose
// label says so.
func otherWebhook(t *testing.T, ns string) {
	t.Helper()
	certificate, key := selfSigned(t, "otherwebhook."+ns+".svc")
	kubectlIn := func(what, manifests string) {
		if _, err := tryKubectl(t.Context(), manifests, "apply", "-f", "-"); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	kubectlIn("the other webhook", fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: otherwebhook, namespace: %[1]s}
type: kubernetes.io/tls
stringData:
  tls.crt: %[2]q
  tls.key: %[3]q
---
apiVersion: v1
kind: Service
metadata: {name: otherwebhook, namespace: %[1]s}
spec: {selector: {app: otherwebhook}, ports: [{port: 443, targetPort: 8443}]}
---
apiVersion: v1
kind: Pod
metadata: {name: otherwebhook, namespace: %[1]s, labels: {app: otherwebhook}}
spec:
  automountServiceAccountToken: false
  terminationGracePeriodSeconds: 0
  securityContext: {runAsNonRoot: true, runAsUser: 65532, fsGroup: 65532, seccompProfile: {type: RuntimeDefault}}
  containers:
  - name: otherwebhook
    image: kms-agent-injector/otherwebhook:dev
    imagePullPolicy: IfNotPresent
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
    readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1}
    volumeMounts: [{name: tls, mountPath: /tls, readOnly: true}]
  volumes:
  - {name: tls, secret: {secretName: otherwebhook, defaultMode: 0440}}
`, ns, certificate, key))
	ready(t, ns, "otherwebhook")
	for _, order := range []string{"before", "after"} {
		name := map[string]string{"before": "a-", "after": "z-"}[order] + "otherwebhook-" + ns
		t.Cleanup(func() {
			//nolint:errcheck // it serves this namespace only
			exec.Command(kubectlPath, "--kubeconfig", kubeconfig, "delete", "mutatingwebhookconfiguration", name).Run()
		})
		configuration := "apiVersion: admissionregistration.k8s.io/v1\nkind: MutatingWebhookConfiguration\nmetadata: {name: " + name +
			"}\nwebhooks:\n"
		for _, kind := range []string{"identity", "mesh", "annotations"} {
			configuration += fmt.Sprintf(`- name: %[1]s.%[2]s.example.com
  clientConfig: {service: {name: otherwebhook, namespace: %[3]s, path: /%[1]s}, caBundle: %[4]s}
  rules: [{apiGroups: [""], apiVersions: [v1], resources: [pods], operations: [CREATE]}]
  failurePolicy: Fail
  reinvocationPolicy: IfNeeded
  sideEffects: None
  admissionReviewVersions: [v1]
  namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: %[3]s}}
  objectSelector: {matchLabels: {otherwebhook: %[1]s-%[2]s}}
`, kind, order, ns, base64.StdEncoding.EncodeToString([]byte(certificate)))
		}
		kubectlIn("the other webhook's configuration", configuration)
	}
	// A registration takes the API server a moment to notice.
	eventually(t, patience, func() error {
		for _, order := range []string{"before", "after"} {
			probe := strings.Replace(workload{name: "probe"}.pod(ns), "labels: {", "labels: {otherwebhook: mesh-"+order+", ", 1)
			out, err := tryKubectl(t.Context(), probe, "create", "--dry-run=server", "-o", "jsonpath={.spec.initContainers[*].name}", "-f", "-")
			if err != nil || out != "mesh-proxy" {
				return fmt.Errorf("no mesh-proxy yet: %q, %v", out, err)
			}
		}
		return nil
	})
}

// selfSigned is a certificate for one host that is its own authority, and its key, in PEM form.
func selfSigned(t *testing.T, host string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text}))
}
