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
			kubectl(t, "-n", ns, "create", "secret", "generic", "access-key", "--from-literal=id=LTAI-of-the-e2e-user", "--from-literal=secret=not-a-secret-of-anybody")
			kubectl(t, "-n", ns, "create", "secret", "generic", "client-key",
				"--from-file="+filepath.Join(installDir(), "client-key", "clientKey"), "--from-file="+filepath.Join(installDir(), "client-key", "password"))
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

// What the operator does not allow in a namespace is refused.
func TestIdentityNotAllowed(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	message := refused(t, workload{name: "web", annotations: []string{"inject: true", "secret.f: x", "identity: node-role"}}.pod(ns))
	if !strings.Contains(message, "node-role") || !strings.Contains(message, "kms.alibabacloud.com/identity") {
		t.Errorf("the message does not name the identity: %s", message)
	}
}
