//go:build e2e

package e2e

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A rarely is an ExternalSecret that is read once and not due again while the test lasts, whatever becomes of the controller.
type rarely struct{ ns, secret, value string }

func startRare(t *testing.T) rarely {
	t.Helper()
	r := rarely{ns: namespace(t), secret: secretName("rare"), value: "read-once"}
	put(t, r.secret, r.value)
	apply(t, externalSecret(r.ns, "rare", appOnly, "rotationInterval: 1h\ndata:\n- {key: "+r.secret+", name: x}\n"))
	synced(t, r.ns, "rare")
	return r
}

// lasts checks that the Secret is as it was, after a controller that works has looked at it, and that KMS was called once.
func (r rarely) lasts(t *testing.T) {
	t.Helper()
	name := "after-" + strings.ToLower(rand.Text()[:8])
	secret := secretName(name)
	put(t, secret, "x")
	apply(t, externalSecret(r.ns, name, appOnly, "data:\n- {key: "+secret+", name: x}\n"))
	synced(t, r.ns, name)
	kubectl(t, "-n", r.ns, "delete", "externalsecret", name, "--timeout=5m")
	if got := data(t, r.ns, "rare")["x"]; got != r.value {
		t.Error("the Secret changed")
	}
	if n := calls(t, "GetSecretValue", r.secret); n != 1 {
		t.Errorf("%d calls for a secret that is due once", n)
	}
}

// testUpgrade has a newer image with changed values take over. On another cluster than the project's own it is the image that is there.
func (c controller) testUpgrade(t *testing.T, rare rarely) {
	tag := "dev"
	if own != nil {
		image, err := os.ReadFile(filepath.Join(repository, "dist/cluster-images/kms-sync.tar"))
		if err != nil {
			t.Fatal(err)
		}
		newer := filepath.Join(t.TempDir(), "kms-sync.tar")
		if err := os.WriteFile(newer, bytes.ReplaceAll(image, []byte("/kms-sync:dev"), []byte("/kms-sync:new")), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := own.run(t.Context(), os.Stdout, "load", newer); err != nil {
			t.Fatal(err)
		}
		tag = "new"
	}
	c.helm(t, "upgrade", "--set", "image.tag="+tag+",logLevel=debug,command.pollingInterval=30s")
	if images := kubectl(t, "-n", c.system, "get", "pods", "-l", "app.kubernetes.io/name=kms-sync", "--field-selector=status.phase=Running",
		"-o", "jsonpath={.items[*].spec.containers[*].image}"); !strings.Contains(images, "/kms-sync:"+tag) {
		t.Errorf("the images are %s", images)
	}
	rare.lasts(t)
}

// testRemoval removes the controller, which leaves definitions, objects and Secrets as they are, and installs it again.
func (c controller) testRemoval(t *testing.T, rare rarely) {
	left := func() string {
		return kubectl(t, "get", "crd", "externalsecrets.alibabacloud.com", "secretstores.alibabacloud.com",
			"clustersecretstores.alibabacloud.com", "-o", "jsonpath={.items[*].metadata.uid}") + kubectl(t, "-n", rare.ns, "get",
			"externalsecret/rare", "secret/rare", "-o", "jsonpath={.items[*].metadata['uid','resourceVersion']}")
	}
	before := left()
	helm(t, "uninstall", "kms-sync", "--namespace", c.system, "--wait")
	if after := left(); after != before {
		t.Errorf("helm uninstall leaves %s of %s", after, before)
	}
	c.helm(t, "install")
	rare.lasts(t)
	rotate(t, rare.secret, "read-again")
	kubectl(t, "-n", rare.ns, "annotate", "externalsecret", "rare", "kms.alibabacloud.com/refresh=now")
	becomes(t, rare.ns, "rare", "x", "read-again")
}
