//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const shopServer = `- name: shop
  image: kms-agent-injector/otherwebhook:dev
  imagePullPolicy: IfNotPresent
  securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
  readinessProbe: {tcpSocket: {port: 8443}, periodSeconds: 1}
  volumeMounts: [{name: tls, mountPath: /tls}]
`

// A server has its certificate in a Secret, clients trust it, and after a rotation in KMS it serves the new one.
func testSyncCertificate(t *testing.T) {
	ns, name, host := namespace(t), secretName("certificate"), "shop.example.com"
	first, firstKey := selfSigned(t, host)
	second, secondKey := selfSigned(t, host)
	pair := func(certificate, key string) string {
		text, err := json.Marshal(map[string]string{"tls.crt": certificate, "tls.key": key})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	put(t, name, pair(first, firstKey))
	// The pod waits for the Secret that it mounts.
	apply(t, workload{name: "shop", spec: "volumes: [{name: tls, secret: {secretName: shop-tls}}]", containers: shopServer}.pod(ns))
	apply(t, externalSecret(ns, "shop-tls", appOnly, "type: kubernetes.io/tls\ndataProcess:\n- extract: {key: "+name+"}\n"))
	ready(t, ns, "shop")
	address := forwarded(t, ns, "shop", "8443")
	eventually(t, patience, func() error { return trusts(address, host, first) })
	if err := trusts(address, host, second); err == nil {
		t.Error("a client trusts a certificate that it does not know")
	}
	rotate(t, name, pair(second, secondKey))
	eventually(t, patience, func() error { return trusts(address, host, second) })
	kubectl(t, "-n", ns, "delete", "externalsecrets", "--all", "--timeout=5m")
}

// trusts reports whether a client that trusts one authority accepts a server.
func trusts(address, host, authority string) error {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(authority)) {
		return errors.New("the authority is not in PEM form")
	}
	dialer := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: host, MinVersion: tls.VersionTLS13}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	connection, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}

// forwarded returns a local address behind which a port of a pod is, until the test ends.
func forwarded(t *testing.T, ns, pod, port string) string {
	t.Helper()
	forward := exec.CommandContext(t.Context(), kubectlPath, "--kubeconfig", kubeconfig, "-n", ns, "port-forward", "pod/"+pod, ":"+port)
	out, err := forward.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := forward.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forward.Wait() }) //nolint:errcheck // the test's context has ended it
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("kubectl port-forward says nothing")
	}
	address, _, _ := strings.Cut(strings.TrimPrefix(lines.Text(), "Forwarding from "), " ")
	go func() {
		for lines.Scan() { // a line for each connection, which kubectl waits to be read
		}
	}()
	return address
}
