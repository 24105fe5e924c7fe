//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// What can be known at admission is refused there, by a message that names what to change.
func TestDenials(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: roleless, namespace: "+ns+"}\n")
	for name, c := range map[string]struct {
		workload
		want []string
	}{
		"unknown annotation": {workload{annotations: []string{"inject: true", "secret.a: x", "refresh-intervall: 1m"}},
			[]string{"did you mean kms.alibabacloud.com/refresh-interval?"}},
		"malformed YAML": {workload{annotations: []string{"inject: true", "secret.a: {name: x"}},
			[]string{"kms.alibabacloud.com/secret.a", "not YAML"}},
		"two for one file": {workload{annotations: []string{"inject: true", "secret.a: {name: x, path: f}", "secret.b: {name: y, path: f}"}},
			[]string{"secret.b", "secret.a writes too"}},
		"a path that leaves": {workload{annotations: []string{"inject: true", "secret.a: {name: x, path: ../../etc/passwd}"}},
			[]string{"leaves the mount path"}},
		"no inject": {workload{annotations: []string{"secret.a: x"}}, []string{"kms.alibabacloud.com/inject"}},
		"bad JMESPath": {workload{annotations: []string{"inject: true", "secret.a: {name: x, format: env, keys: {A: 'b[['}}"}},
			[]string{"JMESPath"}},
		"no role": {workload{serviceAccount: "roleless", annotations: []string{"inject: true", "secret.a: x"}},
			[]string{"roleless", "ack.alibabacloud.com/role-arn", "kubectl annotate serviceaccount"}},
		"another account": {workload{annotations: []string{"inject: true", "secret.a: x", "role-arn: acs:ram::666:role/e2e"}},
			[]string{"acs:ram::666:role/e2e"}},
		"the node's network": {workload{spec: "hostNetwork: true", annotations: []string{"inject: true", "api: true"}},
			[]string{"kms.alibabacloud.com/api-socket"}},
		"a signal alone": {workload{annotations: []string{"inject: true", "secret.a: x", "on-change: signal:HUP:nginx"}},
			[]string{"shareProcessNamespace"}},
		"a bad template": {workload{annotations: []string{"inject: true",
			"secret.a: {format: template, name: x, template: '{{ env \"HOME\" }}'}"}}, []string{"secret.a", "env"}},
		"no such container": {workload{annotations: []string{"inject: true", "secret.a: x", "containers: missing"}}, []string{"missing", "app"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.name = "p"
			message := refused(t, c.pod(ns))
			for _, want := range c.want {
				if !strings.Contains(message, want) {
					t.Errorf("%q is not in the message:\n%s", want, message)
				}
			}
			if name == "no role" {
				return // the ServiceAccount may get its role after the Deployment
			}
			// kubectl apply of a Deployment shows the same error, which is not only in an event of its ReplicaSet.
			deployment := "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: p\n  namespace: " + ns +
				"\nspec:\n  selector: {matchLabels: {app: p}}\n  template:\n" + c.body(ns, "    ")
			message = refused(t, deployment)
			if !strings.Contains(message, c.want[0]) {
				t.Errorf("Deployment: %q is not in the message:\n%s", c.want[0], message)
			}
		})
	}
}

// What only STS and KMS know is in the init container's termination message.
func TestInitSaysWhy(t *testing.T) {
	t.Parallel()
	known := secretName("known")
	put(t, known, `{"password": "`+value()+`"}`)
	for name, c := range map[string]struct {
		serviceAccount, secret string
		want                   []string
	}{
		"another ServiceAccount": {"stranger", known, []string{"AuthenticationFail.NoPermission", "oidc:sub", ":stranger"}},
		"unknown secret":         {"app", secretName("unknown"), []string{"Forbidden.ResourceNotFound", "unknown"}},
		"a secret without tag":   {"app", "e2e/untagged", []string{"Forbidden.NoPermission", "e2e/untagged", "kms:GetSecretValue"}},
		"a key that is missing":  {"app", known, []string{"nokey"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			apply(t, "apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: stranger, namespace: "+ns+", annotations: "+
				"{ack.alibabacloud.com/role-arn: '"+role+"'}}\n")
			secret := "secret.f: " + c.secret
			switch name {
			case "a secret without tag":
				cloud(t, value(), "put-secret", c.secret, "--value-stdin")
			case "a key that is missing":
				secret = "secret.f: {name: " + c.secret + ", format: env, keys: {A: nokey}}"
			}
			apply(t, workload{name: "p", serviceAccount: c.serviceAccount, annotations: []string{"inject: true", secret}}.pod(ns))
			message := whyNot(t, ns, "p")
			for _, want := range c.want {
				if !strings.Contains(message, want) {
					t.Errorf("%q is not in the termination message:\n%s", want, message)
				}
			}
			eventually(t, patience, func() error { // the container that is there may have started just now
				if logs := kubectl(t, "-n", ns, "logs", "p", "-c", "kms-agent-init"); !strings.Contains(logs, c.want[0]) {
					return fmt.Errorf("%q is not in the log: %s", c.want[0], logs)
				}
				return nil
			})
		})
	}
}

// A pod that asked for nothing is left alone, in a namespace that opted in too; and so is one that said no.
func TestNotInjected(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	for name, annotations := range map[string][]string{"asked-nothing": {}, "said-no": {"inject: false", "secret.a: x"}} {
		apply(t, workload{name: name, annotations: annotations}.pod(ns))
		if volumes := kubectl(t, "-n", ns, "get", "pod", name, "-o", "jsonpath={.spec.volumes[*].name}"); strings.Contains(volumes, "kms-") {
			t.Errorf("%s: injected: it has the volumes %s", name, volumes)
		}
	}
}
