//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
)

// kms-sync makes Secrets of KMS secrets: as the ServiceAccounts of namespaces, and by the three authorisations of ack-secret-manager's
// guide. It takes over what ack-secret-manager left behind, and what it made outlives its removal.
//
// Values here are meant to be in etcd; none of them is one of the sentinels.
func TestSync(t *testing.T) {
	t.Parallel()
	system := namespace(t) // the controller runs as its ServiceAccount app, which the role e2e trusts
	c := controller{system: system}
	t.Cleanup(func() {
		for _, args := range [][]string{
			{"delete", "crd", "externalsecrets.alibabacloud.com", "secretstores.alibabacloud.com", "clustersecretstores.alibabacloud.com",
				"--ignore-not-found", "--wait=false"},
			{"delete", "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding,validatingwebhookconfiguration",
				"-l", "app.kubernetes.io/name=kms-sync"},
		} {
			if out, err := tryKubectlAnyway(args...); err != nil && !t.Failed() {
				t.Errorf("remove kms-sync: %v\n%s", err, out)
			}
		}
	})
	left, served := leaveBehind(t), namespace(t)
	c.helm(t, "install", "--take-ownership", "--force-conflicts", "--set", "config.controllerNamespaces[0].names={"+served+"}")
	rare := startRare(t)

	t.Run("uses", func(t *testing.T) {
		for name, test := range map[string]func(*testing.T){
			"ServiceAccount": testSyncOfServiceAccount, "certificate": testSyncCertificate, "registry": testSyncRegistry,
			"adoption": left.testAdoption, "diagnosis": c.testDiagnosis, "migration": testSyncMigration,
			"warnings": testSyncWarnings,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); test(t) })
		}
	})
	t.Run("authorisations", func(t *testing.T) { c.testAuthorisations(t, served) })
	t.Run("upgrade", func(t *testing.T) { c.testUpgrade(t, rare) })
	t.Run("namespaces", func(t *testing.T) { c.testWatchedNamespaces(t, rare) })
	t.Run("removal", func(t *testing.T) { c.testRemoval(t, rare) })
	t.Run("memory", c.testMemory)

	kubectl(t, "-n", rare.ns, "delete", "externalsecret", "rare", "--timeout=5m") // else its finalizer would keep the namespace
	helm(t, "uninstall", "kms-sync", "--namespace", system, "--wait")
}

// controller is kms-sync in the cluster.
type controller struct{ system string }

// helm installs or upgrades the chart and waits until the new pods are ready, and those before them have ended.
func (c controller) helm(t *testing.T, action string, args ...string) {
	t.Helper()
	helm(t, slices.Concat([]string{action, "kms-sync", "deploy/chart/kms-sync", "--namespace", c.system, "--wait", "--timeout=5m",
		"--values", filepath.Join(installDir(), "kms-sync", "values.yaml"),
		"--set", "command.pollingInterval=10s,serviceAccount.create=false,serviceAccount.name=" + appOnly}, args)...)
	c.settled(t)
}

// settled waits until no pod of the controller is ending.
func (c controller) settled(t *testing.T) {
	t.Helper()
	eventually(t, patience, func() error {
		if ending := kubectl(t, "-n", c.system, "get", "pods", "-o", "jsonpath={.items[*].metadata.deletionTimestamp}"); ending != "" {
			return errNotYet
		}
		return nil
	})
}

// synced waits until an ExternalSecret is ready.
func synced(t *testing.T, ns, name string) {
	t.Helper()
	if _, err := tryKubectl(t.Context(), "", "-n", ns, "wait", "--for=condition=Ready", "externalsecret/"+name, "--timeout=5m"); err != nil {
		describe, _ := tryKubectl(t.Context(), "", "-n", ns, "describe", "externalsecret", name)
		t.Fatalf("%v\n%s", err, describe)
	}
}

// data returns the content of a Secret.
func data(t *testing.T, ns, name string) map[string]string {
	t.Helper()
	var s struct{ Data map[string][]byte }
	if err := json.Unmarshal([]byte(kubectl(t, "-n", ns, "get", "secret", name, "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for key, value := range s.Data {
		texts[key] = string(value)
	}
	return texts
}

// becomes waits until a key of a Secret has a value.
func becomes(t *testing.T, ns, name, key, want string) {
	t.Helper()
	eventually(t, patience, func() error {
		out, err := tryKubectl(t.Context(), "", "-n", ns, "get", "secret", name, "-o", "json")
		var s struct{ Data map[string][]byte }
		if err != nil || json.Unmarshal([]byte(out), &s) != nil || string(s.Data[key]) != want {
			return fmt.Errorf("the key %s of the Secret %s does not have the value yet (%v)", key, name, err)
		}
		return nil
	})
}

// externalSecret is a manifest; as is the identity: the ServiceAccount of an annotation, or nothing.
func externalSecret(ns, name, serviceAccount, spec string) string {
	annotations := ""
	if serviceAccount != "" {
		annotations = "\n  annotations: {kms.alibabacloud.com/service-account: " + serviceAccount + "}"
	}
	return fmt.Sprintf("apiVersion: alibabacloud.com/v1alpha1\nkind: ExternalSecret\nmetadata:\n  name: %s\n  namespace: %s%s\nspec:\n%s",
		name, ns, annotations, block(spec, "  "))
}

// testSyncOfServiceAccount follows one object from its creation: rotated, its Secret changed and deleted by others; and deletes another.
func testSyncOfServiceAccount(t *testing.T) {
	ns, password, still := namespace(t), secretName("password"), secretName("still")
	first, second := "synced-"+rand.Text(), "synced-"+rand.Text()
	put(t, password, first)
	put(t, still, "x")
	apply(t, externalSecret(ns, "db", appOnly, "data:\n- {key: "+password+", name: password}\n"))
	apply(t, externalSecret(ns, "still", appOnly, "rotationInterval: 1h\ndata:\n- {key: "+still+", name: x}\n"))
	synced(t, ns, "db")
	if got := data(t, ns, "db"); got["password"] != first || len(got) != 1 {
		t.Errorf("the Secret has %d keys, and not the value that KMS has", len(got))
	}
	rotate(t, password, second)
	becomes(t, ns, "db", "password", second)

	// What others do to a Secret is repaired at once, not when the next refresh is due.
	synced(t, ns, "still")
	kubectl(t, "-n", ns, "patch", "secret", "still", "--type=merge", "-p",
		`{"data":{"x":"`+base64.StdEncoding.EncodeToString([]byte("changed by hand"))+`"}}`)
	becomes(t, ns, "still", "x", "x")
	kubectl(t, "-n", ns, "delete", "secret", "still")
	becomes(t, ns, "still", "x", "x")

	kubectl(t, "-n", ns, "delete", "externalsecret", "still", "--timeout=5m")
	if out, err := tryKubectl(t.Context(), "", "-n", ns, "get", "secret", "still"); err == nil {
		t.Errorf("the Secret outlives its ExternalSecret:\n%s", out)
	}

	// What cannot be read says which link is broken.
	apply(t, externalSecret(ns, "missing", appOnly, "data:\n- {key: "+secretName("missing")+", name: x}\n"))
	kubectl(t, "-n", ns, "wait", "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=NotFound", "externalsecret/missing",
		"--timeout=5m")
	kubectl(t, "-n", ns, "delete", "externalsecrets", "--all", "--timeout=5m")
}

// testAuthorisations has the controller read as itself, by each of the three ways of ack-secret-manager's guide, in the one namespace
// that the administrator lists, and in no other.
func (c controller) testAuthorisations(t *testing.T, served string) {
	kubectl(t, "-n", c.system, "create", "secret", "generic", "alibaba-credentials",
		"--from-literal=id=LTAI-of-the-e2e-user", "--from-literal=secret=not-a-real-secret", "--from-literal=rolesessionname=e2e",
		"--from-literal=rolearn="+role, "--from-literal=oidcproviderarn=acs:ram::"+account+":oidc-provider/ack-rrsa-c0ffee",
		"--from-literal=keyrolearn=acs:ram::"+account+":role/by-key")
	from := func(name, key string) string {
		return "envVarsFromSecret." + name + ".secretKeyRef=alibaba-credentials,envVarsFromSecret." + name + ".key=" + key
	}
	ways := map[string][]string{
		"rrsa": {"--set", "rrsa.enable=true", "--set", from("ALICLOUD_ROLE_ARN", "rolearn"),
			"--set", from("ALICLOUD_OIDC_PROVIDER_ARN", "oidcproviderarn")},
		"access-key": {"--set", from("ACCESS_KEY_ID", "id"), "--set", from("SECRET_ACCESS_KEY", "secret"),
			"--set", from("ALICLOUD_ROLE_ARN", "keyrolearn"), "--set", from("ALICLOUD_ROLE_SESSION_NAME", "rolesessionname")},
	}
	if own != nil { // the nodes of another cluster have a metadata service of their own
		ways["node-role"] = []string{"--set", "command.enableWorkerRole=true"}
	}
	stranger := namespace(t)
	for name, args := range ways {
		c.helm(t, "upgrade", append(args, "--set", "replicaCount=1", "--set", "config.controllerNamespaces[0].names={"+served+"}")...)
		secret, want := secretName(name), "synced-"+rand.Text()
		put(t, secret, want)
		apply(t, externalSecret(served, name, "", "data:\n- {key: "+secret+", name: x}\n"))
		synced(t, served, name)
		if got := data(t, served, name)["x"]; got != want {
			t.Errorf("%s: the Secret does not have the value", name)
		}
		kubectl(t, "-n", served, "wait", "--for=condition=BorrowedIdentity", "externalsecret/"+name, "--timeout=5m")
		apply(t, externalSecret(stranger, name, "", "data:\n- {key: "+secret+", name: x}\n"))
		kubectl(t, "-n", stranger, "wait", "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=Forbidden", "externalsecret/"+name,
			"--timeout=5m")
		kubectl(t, "-n", served, "delete", "externalsecret", name, "--timeout=5m")
	}
	kubectl(t, "-n", stranger, "delete", "externalsecrets", "--all", "--timeout=5m")
}
