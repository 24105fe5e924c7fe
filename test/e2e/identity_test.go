//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

const instanceHost = "kst-e2e0123456789.cryptoservice.kms.aliyuncs.com"

// Every identity gets its secret by the gateway that goes with it.
func TestIdentities(t *testing.T) {
	t.Parallel()
	for name, annotations := range map[string][]string{
		"rrsa on the instance": {"endpoint: " + instanceHost},
		"access key":           {"identity: access-key:access-key"},
		"client key":           {"identity: client-key:client-key", "endpoint: " + instanceHost},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			kubectl(t, "-n", ns, "create", "secret", "generic", "access-key", "--from-literal=id=LTAI-of-the-e2e-user",
				"--from-literal=secret=not-a-real-secret")
			kubectl(t, "-n", ns, "create", "secret", "generic", "client-key",
				"--from-file="+filepath.Join(installDir(), "client-key", "clientKey"),
				"--from-file="+filepath.Join(installDir(), "client-key", "password"))
			secret, want := secretName("identity"), value()
			put(t, secret, want)
			apply(t, workload{name: "web", annotations: append([]string{"inject: true", "secret.f: " + secret}, annotations...)}.pod(ns))
			ready(t, ns, "web")
			if got := in(t, ns, "web", "app", "cat", dir+"/f"); got != want {
				t.Error("the file does not hold the secret's value")
			}
		})
	}
}

// The node's role comes from the metadata service, at the address where every ECS instance has it.
func TestNodeRole(t *testing.T) {
	t.Parallel()
	if own == nil {
		t.Skip("the nodes of this cluster have a metadata service of their own, with a role that the emulator does not know")
	}
	ns := namespace(t, `node-role: "true"`)
	name, want := secretName("node"), value()
	put(t, name, want)
	apply(t, workload{name: "web", annotations: []string{"inject: true", "identity: node-role", "secret.f: " + name}}.pod(ns))
	ready(t, ns, "web")
	if got := in(t, ns, "web", "app", "cat", dir+"/f"); got != want {
		t.Error("the file does not hold the secret's value")
	}
	if got := calls(t, "GetNodeCredentials", ""); got == 0 {
		t.Error("no request reached the metadata service")
	}
	if got := kubectl(t, "-n", ns, "get", "pod", "web", "-o", "jsonpath={.spec.volumes[*].name}"); strings.Contains(got, "rrsa-oidc-token") {
		t.Errorf("the pod has a token for another identity: %s", got)
	}
}

// A secret of another account is read as a role there, which the pod's role assumes.
func TestSecondRole(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	own, want := secretName("own"), value()
	put(t, own, want)
	apply(t, workload{name: "web", annotations: []string{
		"inject: true", "secret.own: " + own,
		"secret.ca: {name: acs:kms:cn-hangzhou:6543210987654321:secret/shared/ca, roleArn: acs:ram::6543210987654321:role/shared}",
	}}.pod(ns))
	ready(t, ns, "web")
	if got := in(t, ns, "web", "app", "cat", dir+"/ca"); got != "the other account's" {
		t.Errorf("the other account's secret: got %q", got)
	}
	if got := in(t, ns, "web", "app", "cat", dir+"/own"); got != want {
		t.Error("the own secret's file does not hold its value")
	}
}

// What the administrator does not allow in a namespace is refused.
func TestIdentityNotAllowed(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	message := refused(t, workload{name: "web", annotations: []string{"inject: true", "secret.f: x", "identity: node-role"}}.pod(ns))
	if !strings.Contains(message, "node-role") || !strings.Contains(message, "kms.alibabacloud.com/identity") {
		t.Errorf("the message does not name the identity: %s", message)
	}
}
