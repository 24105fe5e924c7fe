//go:build e2e

package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/docs"
)

// Each way to install and to get certificates, one after the other: changed, gone back, and its certificates rotated while pods
// are created; and taken away again with everything that it brought. In the end the cluster is as it was.
func TestInstallations(t *testing.T) {
	t.Cleanup(func() {
		for _, args := range [][]string{{"apply", "-k", filepath.Join(installDir(), "webhook")},
			{"-n", webhookNamespace, "rollout", "status", "deployment/kms-webhook", "--timeout=5m"}} {
			if out, err := tryKubectlAnyway(args...); err != nil {
				t.Errorf("install again: %v\n%s", err, out)
			}
		}
	})
	kubectl(t, "delete", "-k", filepath.Join(installDir(), "webhook"), "--wait=true", "--timeout=5m")
	nothingLeft(t)
	kubectl(t, "create", "namespace", webhookNamespace)
	t.Run("self-signed", testChart)
	t.Run("undivided", testUndivided)
	t.Run("files", testCertificateFiles)
	t.Run("cert-manager", testCertManager)
	t.Run("namespace first", testNamespaceFirst)
}

func testChart(t *testing.T) {
	chart(t, "install")
	helm(t, "test", "kms-agent-injector", "--namespace", webhookNamespace, "--logs", "--timeout=5m")
	l := startLoad(t)
	l.during("helm upgrade: another pod template")
	chart(t, "upgrade", "--set", "logLevel=debug", "--set", "podLabels.team=platform")
	serving(t)
	l.during("helm upgrade: another webhook's configuration")
	chart(t, "upgrade", "--set", "agent.metricsPort=0")
	l.during("helm rollback to the first")
	helm(t, "rollback", "kms-agent-injector", "1", "--namespace", webhookNamespace, "--wait", "--timeout=5m")
	serving(t)
	l.end(t, 100)
	uninstall(t)
	nothingLeft(t)
}

func testCertificateFiles(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	dir := t.TempDir()
	bundle := filepath.Join(dir, "ca.crt")
	values := []string{"--set", "certificates.mode=files", "--set", "certificates.files.secretName=own-tls", "--set-file",
		"certificates.files.caBundle=" + bundle}
	write := func(pem ...[]byte) {
		if err := os.WriteFile(bundle, bytes.Join(pem, nil), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(old.pem)
	old.issue(t)
	chart(t, "install", values...)
	l := startLoad(t)

	l.during("another certificate of the same authority")
	rotated(t, func() { old.issue(t) })
	l.during("a certificate that is not trusted yet, then its authority")
	first := expiries(t)
	next.issue(t)
	nudge(t)
	write(old.pem, next.pem)
	chart(t, "upgrade", values...)
	renewed(t, first)
	l.during("only the new authority")
	write(next.pem)
	chart(t, "upgrade", values...)
	l.end(t, 100)

	// In another order, and when nothing runs any more.
	kubectl(t, "-n", webhookNamespace, "delete", "deployment/kms-webhook", "clusterrole/kms-webhook")
	uninstall(t)
	kubectl(t, "-n", webhookNamespace, "delete", "secret", "own-tls") // the administrator's own
	nothingLeft(t)
}

func testCertManager(t *testing.T) {
	if own == nil {
		t.Skip("cert-manager is built and loaded into the project's own cluster only")
	}
	var printed strings.Builder
	if err := own.run(t.Context(), &printed, "cert-manager"); err != nil {
		t.Fatal(err)
	}
	folder := strings.TrimSpace(printed.String())
	image := func(of, name string) []string {
		return []string{"--set", of + "image.repository=" + "localhost/kms-cluster/cert-manager-" + name, "--set", of + "image.tag=dev"}
	}
	helm(t, slices.Concat([]string{"install", "cert-manager", folder, "--namespace", "cert-manager", "--create-namespace", "--wait",
		"--timeout=5m",
		"--set", "crds.enabled=true,startupapicheck.enabled=false,livenessProbe.enabled=false,prometheus.enabled=false"},
		image("", "controller"), image("webhook.", "webhook"), image("cainjector.", "cainjector"))...)
	t.Cleanup(func() { helm(t, "uninstall", "cert-manager", "--namespace", "cert-manager", "--wait") })
	chart(t, "install", "--set", "certificates.mode=cert-manager")
	l := startLoad(t)
	l.during("cert-manager renews the certificate")
	rotated(t, func() { renew(t, "kms-webhook") })
	l.during("cert-manager makes another authority")
	authority := caBundle(t)
	kubectl(t, "-n", webhookNamespace, "delete", "secret", "kms-webhook-ca")
	kubectl(t, "-n", webhookNamespace, "wait", "certificate/kms-webhook-ca", "--for=condition=Ready", "--timeout=5m")
	rotated(t, func() { renew(t, "kms-webhook") })
	if now := caBundle(t); len(now) <= len(authority) || !strings.Contains(now, authority) {
		t.Errorf("the caBundle has not both authorities:\n%s\nbefore:\n%s", now, authority)
	}
	l.during("helm upgrade")
	chart(t, "upgrade", "--set", "certificates.mode=cert-manager", "--set", "logLevel=debug")
	serving(t)
	l.end(t, 100)
	uninstall(t)
	nothingLeft(t)

	// And by kubectl alone.
	dir := filepath.Join(t.TempDir(), "install")
	install := exec.CommandContext(t.Context(), "go", "run", "./test/install", "-dir", dir, "-issuer", "https://issuer.example.com",
		"-manifests", "deploy/manifests/cert-manager")
	install.Dir = repository
	if out, err := install.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	kubectl(t, "apply", "-k", filepath.Join(dir, "webhook"))
	serving(t)
	startLoad(t).end(t, 20)
	kubectl(t, "delete", "-k", filepath.Join(dir, "webhook"), "--timeout=5m")
	nothingLeft(t)
}

// After a deletion of the namespace, and of Helm's record of the release with it, the rest is removed by the commands that
// docs/operations.md has for that.
func testNamespaceFirst(t *testing.T) {
	kubectl(t, "delete", "namespace", webhookNamespace, "--ignore-not-found")
	kubectl(t, "create", "namespace", webhookNamespace)
	chart(t, "install")
	kubectl(t, "delete", "namespace", webhookNamespace, "--timeout=5m")
	pages, err := docs.Read(repository)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		for _, b := range p.Blocks {
			if p.File != "docs/operations.md" || !strings.HasPrefix(b.Text, "kubectl delete mutatingwebhookconfiguration,") {
				continue
			}
			for _, command := range b.Commands() {
				kubectl(t, strings.Fields(command)[1:]...)
			}
		}
	}
	nothingLeft(t)
}

// renew asks cert-manager to issue a certificate now, as `cmctl renew` does.
func renew(t *testing.T, certificate string) {
	t.Helper()
	condition := fmt.Sprintf(`[{"op":"add","path":"/status/conditions/-","value":{"type":"Issuing","status":"True",`+
		`"reason":"ManuallyTriggered","message":"renewed by the test","lastTransitionTime":%q}}]`, time.Now().UTC().Format(time.RFC3339))
	kubectl(t, "-n", webhookNamespace, "patch", "certificate", certificate, "--subresource=status", "--type=json", "-p", condition)
}

// rotated waits until each replica serves another certificate than before something is done.
func rotated(t *testing.T, do func()) {
	t.Helper()
	before := expiries(t)
	do()
	renewed(t, before)
}

func renewed(t *testing.T, before map[string]string) {
	t.Helper()
	eventually(t, patience, func() error {
		nudge(t)
		for pod, expiry := range expiries(t) {
			if before[pod] == expiry {
				return fmt.Errorf("%s still serves its old certificate", pod)
			}
		}
		return nil
	})
}

// nudge has the kubelet look at the webhook's volumes now; by itself it does once a minute.
func nudge(t *testing.T) {
	t.Helper()
	for _, pod := range webhookPods(t) {
		nudgePod(t, pod)
	}
}

func nudgePod(t *testing.T, pod string) {
	t.Helper()
	kubectl(t, "-n", webhookNamespace, "annotate", "pod", pod, "--overwrite", "example.com/nudge="+time.Now().Format("150405.000"))
}

// chart installs or upgrades the chart, with the webhook's configuration of the test cluster.
func chart(t *testing.T, action string, args ...string) {
	t.Helper()
	dir := filepath.Join(installDir(), "webhook")
	helm(t, slices.Concat([]string{action, "kms-agent-injector", "deploy/chart/kms-agent-injector", "--namespace", webhookNamespace, "--wait",
		"--timeout=5m",
		"--values", filepath.Join(dir, "config.yaml"), "--set-file", `caFiles.emulator-ca\.pem=` + filepath.Join(dir, "emulator-ca.pem")},
		args)...)
}

func uninstall(t *testing.T) {
	t.Helper()
	helm(t, "uninstall", "kms-agent-injector", "--namespace", webhookNamespace)
}

// tryKubectlAnyway is for what is done after a test.
func tryKubectlAnyway(args ...string) (string, error) {
	out, err := exec.Command(kubectlPath, append([]string{"--kubeconfig", kubeconfig}, args...)...).CombinedOutput()
	return string(out), err
}

// nothingLeft waits until nothing of an installation is in the cluster, of whatever kind the API server has.
func nothingLeft(t *testing.T) {
	t.Helper()
	all := strings.Join(strings.Fields(kubectl(t, "api-resources", "--namespaced=false", "--verbs=list", "-o", "name")), ",")
	inside := slices.DeleteFunc(strings.Fields(kubectl(t, "api-resources", "--namespaced=true", "--verbs=list", "-o", "name")),
		func(kind string) bool {
			return strings.HasPrefix(kind, "events") || strings.HasSuffix(kind, "metrics.k8s.io")
		})
	eventually(t, patience, func() error {
		var left []string
		for _, name := range strings.Fields(kubectl(t, "get", all, "-o", "name")) {
			if strings.Contains(name, "kms-agent-injector") && name != "namespace/"+webhookNamespace || strings.Contains(name, "kms-webhook") {
				left = append(left, name)
			}
		}
		for _, name := range strings.Fields(kubectl(t, "-n", webhookNamespace, "get", strings.Join(inside, ","), "-o", "name")) {
			if name != "configmap/kube-root-ca.crt" && name != "serviceaccount/default" {
				left = append(left, name)
			}
		}
		if len(left) > 0 {
			return fmt.Errorf("there still are %s", strings.Join(left, ", "))
		}
		return nil
	})
}

// authority is an administrator's own.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	pem         []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "an administrator's own " + rand.Text()}, IsCA: true,
		BasicConstraintsValid: true,
		NotBefore:             time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	key, der := sign(t, template, nil)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue puts a new serving certificate into the Secret that the chart's values name.
func (a authority) issue(t *testing.T) {
	t.Helper()
	name := "kms-webhook." + webhookNamespace + ".svc"
	key, der := sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name}, NotBefore: time.Now().Add(-time.Minute),
		NotAfter:    time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, &a)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
		"metadata": map[string]any{"name": "own-tls", "namespace": webhookNamespace},
		"data": map[string][]byte{
			"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	apply(t, string(secret))
}

// sign makes a key and a certificate for it, signed by an authority or by itself.
func sign(t *testing.T, template *x509.Certificate, by *authority) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}
