//go:build e2e

package e2e

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// kms-sync makes Secrets of KMS secrets: as the ServiceAccounts of namespaces, and by the three authorisations of ack-secret-manager's
// guide. What it made outlives its removal.
//
// Values here are meant to be in etcd; none of them is one of the sentinels.
func TestSync(t *testing.T) {
	t.Parallel()
	system := namespace(t) // the controller runs as its ServiceAccount app, which the role e2e trusts
	c := controller{system: system, values: syncValues(t)}
	t.Cleanup(func() {
		for _, args := range [][]string{
			{"delete", "crd", "externalsecrets.alibabacloud.com", "secretstores.alibabacloud.com", "clustersecretstores.alibabacloud.com",
				"--ignore-not-found", "--wait=false"},
			{"delete", "clusterrole,clusterrolebinding,validatingadmissionpolicy,validatingadmissionpolicybinding",
				"-l", "app.kubernetes.io/name=kms-sync"},
		} {
			if out, err := tryKubectlAnyway(args...); err != nil && !t.Failed() {
				t.Errorf("remove kms-sync: %v\n%s", err, out)
			}
		}
	})
	served := namespace(t)
	c.helm(t, "install", "--set", "config.controllerNamespaces[0].names={"+served+"}")

	kept := namespace(t)
	t.Run("ServiceAccount", func(t *testing.T) { testSyncOfServiceAccount(t, kept) })
	t.Run("types", testSyncTypes)
	t.Run("restart", c.testRestart)
	t.Run("authorisations", func(t *testing.T) { c.testAuthorisations(t, served) })

	helm(t, "uninstall", "kms-sync", "--namespace", system, "--wait")
	if got := data(t, kept, "db")["password"]; got == "" {
		t.Error("the Secret went with helm uninstall")
	}
	if left := kubectl(t, "get", "crd", "-o", "name"); strings.Count(left, ".alibabacloud.com") != 3 {
		t.Errorf("after helm uninstall the custom resource definitions are\n%s", left)
	}
	// Without a controller a finalizer would keep the test's namespaces.
	kubectl(t, "-n", kept, "patch", "externalsecret", "db", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
}

// controller is kms-sync in the cluster.
type controller struct{ system, values string }

// syncValues writes the chart's values for the test cluster: the emulator's hosts and its certificate authority.
func syncValues(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(installDir(), "webhook", "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var webhook map[string]any
	if err := yaml.Unmarshal(text, &webhook); err != nil {
		t.Fatal(err)
	}
	values, err := json.Marshal(map[string]any{
		"command":        map[string]any{"region": "cn-hangzhou", "aliuid": account, "clusterId": "c0ffee", "pollingInterval": "10s"},
		"config":         map[string]any{"kms": webhook["kms"], "sts": webhook["sts"]},
		"serviceAccount": map[string]any{"create": false, "name": appOnly},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, values, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// helm installs or upgrades the chart and waits until the new pods are ready.
func (c controller) helm(t *testing.T, action string, args ...string) {
	t.Helper()
	helm(t, slices.Concat([]string{action, "kms-sync", "deploy/chart/kms-sync", "--namespace", c.system, "--wait", "--timeout=5m",
		"--values", c.values,
		"--set-file", `caFiles.emulator-ca\.pem=` + filepath.Join(installDir(), "webhook", "emulator-ca.pem")}, args)...)
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
func becomes(t *testing.T, ns, name, key, want string, limit time.Duration) {
	t.Helper()
	eventually(t, limit, func() error {
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
func testSyncOfServiceAccount(t *testing.T, ns string) {
	password, gone := secretName("password"), secretName("gone")
	first, second := "synced-"+rand.Text(), "synced-"+rand.Text()
	put(t, password, first)
	put(t, gone, "x")
	apply(t, externalSecret(ns, "db", appOnly, "data:\n- {key: "+password+", name: password}\n"))
	apply(t, externalSecret(ns, "gone", appOnly, "data:\n- {key: "+gone+", name: x}\n"))
	synced(t, ns, "db")
	if got := data(t, ns, "db"); got["password"] != first || len(got) != 1 {
		t.Errorf("the Secret has %d keys, and not the value that KMS has", len(got))
	}
	rotate(t, password, second)
	becomes(t, ns, "db", "password", second, patience)

	kubectl(t, "-n", ns, "patch", "secret", "db", "--type=merge", "-p",
		`{"data":{"password":"`+base64.StdEncoding.EncodeToString([]byte("changed by hand"))+`"}}`)
	becomes(t, ns, "db", "password", second, 8*time.Second)
	kubectl(t, "-n", ns, "delete", "secret", "db")
	becomes(t, ns, "db", "password", second, 8*time.Second)

	synced(t, ns, "gone")
	kubectl(t, "-n", ns, "delete", "externalsecret", "gone", "--timeout=30s")
	if out, err := tryKubectl(t.Context(), "", "-n", ns, "get", "secret", "gone"); err == nil {
		t.Errorf("the Secret outlives its ExternalSecret:\n%s", out)
	}

	// What cannot be read says which link is broken.
	apply(t, externalSecret(ns, "missing", appOnly, "data:\n- {key: "+secretName("missing")+", name: x}\n"))
	kubectl(t, "-n", ns, "wait", "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=NotFound", "externalsecret/missing",
		"--timeout=30s")
	kubectl(t, "-n", ns, "delete", "externalsecret", "missing", "--timeout=30s")
}

// testSyncTypes makes the Secrets that things other than pods read.
func testSyncTypes(t *testing.T) {
	ns := namespace(t)
	a := newAuthority(t)
	key, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := json.Marshal(map[string]string{
		"tls.crt": string(a.pem), "tls.key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
	})
	if err != nil {
		t.Fatal(err)
	}
	tls, registry := secretName("tls"), secretName("registry")
	docker := `{"auths":{"registry.example.com":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("user:"+rand.Text())) + `"}}}`
	put(t, tls, string(certificate))
	put(t, registry, docker)
	apply(t, externalSecret(ns, "tls", appOnly, "type: kubernetes.io/tls\ndataProcess:\n- extract: {key: "+tls+"}\n"))
	apply(t, externalSecret(ns, "registry", appOnly,
		"type: kubernetes.io/dockerconfigjson\ndata:\n- {key: "+registry+", name: .dockerconfigjson}\n"))
	for name, want := range map[string]string{"tls": "kubernetes.io/tls", "registry": "kubernetes.io/dockerconfigjson"} {
		synced(t, ns, name)
		if got := kubectl(t, "-n", ns, "get", "secret", name, "-o", "jsonpath={.type}"); got != want {
			t.Errorf("%s is of type %s", name, got)
		}
	}
	if got := data(t, ns, "tls"); got["tls.crt"] != string(a.pem) || len(got) != 2 {
		t.Error("the certificate is not the one that KMS has")
	}
	if data(t, ns, "registry")[".dockerconfigjson"] != docker {
		t.Error("the image pull secret is not the one that KMS has")
	}
	kubectl(t, "-n", ns, "delete", "externalsecrets", "--all", "--timeout=30s")
}

// testRestart replaces the controller while nothing is due.
func (c controller) testRestart(t *testing.T) {
	ns := namespace(t)
	name, want := secretName("rarely"), "synced-"+rand.Text()
	put(t, name, want)
	apply(t, externalSecret(ns, "rarely", appOnly, "rotationInterval: 1h\ndata:\n- {key: "+name+", name: x}\n"))
	synced(t, ns, "rarely")
	before := calls(t, "GetSecretValue", name)
	kubectl(t, "-n", c.system, "rollout", "restart", "deployment/kms-sync")
	kubectl(t, "-n", c.system, "rollout", "status", "deployment/kms-sync", "--timeout=2m")
	other := secretName("other")
	put(t, other, want)
	apply(t, externalSecret(ns, "after", appOnly, "data:\n- {key: "+other+", name: x}\n"))
	synced(t, ns, "after") // so the new replica works
	if after := calls(t, "GetSecretValue", name); before != 1 || after != before {
		t.Errorf("%d calls before a restart, %d after it", before, after)
	}
	if got := data(t, ns, "rarely")["x"]; got != want {
		t.Error("the Secret changed")
	}
	kubectl(t, "-n", ns, "delete", "externalsecrets", "--all", "--timeout=30s")
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
		kubectl(t, "-n", served, "wait", "--for=condition=BorrowedIdentity", "externalsecret/"+name, "--timeout=10s")
		apply(t, externalSecret(stranger, name, "", "data:\n- {key: "+secret+", name: x}\n"))
		kubectl(t, "-n", stranger, "wait", "--for=jsonpath={.status.conditions[?(@.type=='Ready')].reason}=Forbidden", "externalsecret/"+name,
			"--timeout=30s")
		kubectl(t, "-n", served, "delete", "externalsecret", name, "--timeout=30s")
	}
	kubectl(t, "-n", stranger, "delete", "externalsecrets", "--all", "--timeout=30s")
}
