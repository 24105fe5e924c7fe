//go:build e2e

package e2e

import (
	"encoding/base64"
	"fmt"
	"maps"
	"testing"
)

// originalCRD is a definition as ack-secret-manager's chart installs it: of Helm's release, and without what kms-sync says in the status.
const originalCRD = `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: %[1]ss.alibabacloud.com
  labels: {app.kubernetes.io/managed-by: Helm}
  annotations: {meta.helm.sh/release-name: ack-secret-manager, meta.helm.sh/release-namespace: kube-system}
spec:
  group: alibabacloud.com
  names: {kind: %[2]s, listKind: %[2]sList, plural: %[1]ss, singular: %[1]s}
  scope: Namespaced
  versions:
  - name: v1alpha1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec: {type: object, x-kubernetes-preserve-unknown-fields: true}
          status:
            type: object
            properties:
              dataSyncResults: {type: array, items: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// originalObjects are a store, and an ExternalSecret with a template, that ack-secret-manager has worked on.
const originalObjects = `
apiVersion: alibabacloud.com/v1alpha1
kind: SecretStore
metadata: {name: kms, namespace: %[1]s, finalizers: [finalizer.ack.secrets-manager.alibabacloud.com]}
spec: {KMS: {KMSAuth: {serviceAccountRef: {name: app}}}}
---
apiVersion: alibabacloud.com/v1alpha1
kind: ExternalSecret
metadata: {name: db, namespace: %[1]s, finalizers: [finalizer.ack.secrets-manager.alibabacloud.com]}
spec:
  provider: kms
  data: [{key: %[2]s, name: password, secretStoreRef: {name: kms}}]
  target:
    template:
      mergePolicy: Merge
      data: {dsn: "mysql://shop:{{ .password }}@db"}
`

const originalSecret = `
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: %s, annotations: {ack-alibabacloud.com/managed-keys: "dsn,password"}}
stringData: {password: first, dsn: "mysql://shop:first@db"}
`

// A leftBehind is what ack-secret-manager leaves in a cluster: its definitions, and objects with a Secret, which has a key of another
// writer besides.
type leftBehind struct{ ns, secret, uid string }

// leaveBehind makes it, while no controller runs.
func leaveBehind(t *testing.T) leftBehind {
	t.Helper()
	l := leftBehind{ns: namespace(t), secret: secretName("left")}
	put(t, l.secret, "first")
	apply(t, fmt.Sprintf(originalCRD, "externalsecret", "ExternalSecret")+fmt.Sprintf(originalCRD, "secretstore", "SecretStore"))
	kubectl(t, "wait", "--for=condition=Established", "crd/externalsecrets.alibabacloud.com", "crd/secretstores.alibabacloud.com")
	apply(t, fmt.Sprintf(originalObjects, l.ns, l.secret))
	kubectl(t, "-n", l.ns, "patch", "externalsecret", "db", "--subresource=status", "--type=merge", "-p",
		`{"status":{"dataSyncResults":[{"ExternalSecretKey":"","status":"Succeeded","synchronizationTime":"2026-01-01T00:00:00Z"}]}}`)
	manifest := fmt.Sprintf(originalSecret, l.ns)
	if _, err := tryKubectl(t.Context(), manifest, "create", "--field-manager=ack-secret-manager", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	kubectl(t, "-n", l.ns, "patch", "secret", "db", "--field-manager=another", "-p",
		`{"data":{"foreign":"`+base64.StdEncoding.EncodeToString([]byte("kept"))+`"}}`)
	l.uid = kubectl(t, "-n", l.ns, "get", "secret", "db", "-o", "jsonpath={.metadata.uid}")
	return l
}

// testAdoption follows the object from then on: the Secret is the same, follows a rotation, and keeps the key that is not the object's,
// also when the object is deleted.
func (l leftBehind) testAdoption(t *testing.T) {
	holds := func(want map[string]string) {
		t.Helper()
		if got := data(t, l.ns, "db"); !maps.Equal(got, want) {
			t.Errorf("the Secret has %q, want %q", got, want)
		}
		if uid := kubectl(t, "-n", l.ns, "get", "secret", "db", "-o", "jsonpath={.metadata.uid}"); uid != l.uid {
			t.Error("the Secret is another one")
		}
	}
	synced(t, l.ns, "db")
	holds(map[string]string{"password": "first", "dsn": "mysql://shop:first@db", "foreign": "kept"})
	rotate(t, l.secret, "second")
	becomes(t, l.ns, "db", "password", "second")
	holds(map[string]string{"password": "second", "dsn": "mysql://shop:second@db", "foreign": "kept"})
	kubectl(t, "-n", l.ns, "delete", "externalsecret/db", "secretstore/kms", "--timeout=5m")
	holds(map[string]string{"foreign": "kept"})
}
