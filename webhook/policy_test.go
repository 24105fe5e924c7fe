package webhook

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr/funcr"
	"github.com/go-logr/logr/testr"
)

const document = "{accountID: '1', clusterID: c, region: cn-hangzhou, agent: {image: agent}, kms: {caFile: ca.pem}}"

// TestPolicyFollowsItsFiles changes the document and its CA file, breaks them, and mends them.
func TestPolicyFollowsItsFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		file, ca := filepath.Join(dir, "config.yaml"), filepath.Join(dir, "ca.pem")
		first, second := certificatePEM(t), certificatePEM(t)
		put(t, file, document)
		put(t, ca, first)
		var said []string
		log := funcr.New(func(_, args string) { said = append(said, args) }, funcr.Options{})
		p, err := loadPolicy(file, "v1", log)
		if err != nil {
			t.Fatal(err)
		}
		go p.watch(t.Context()) //nolint:errcheck // it returns nil
		bundle := func() string { return p.now.Load().Policy().KMS.CABundle }
		pass := func() {
			<-time.After(2 * policyInterval)
			synctest.Wait()
		}
		if bundle() != first {
			t.Fatalf("the bundle is %s", bundle())
		}
		kept := p.now.Load()
		if pass(); p.now.Load() != kept {
			t.Error("nothing changed, but it was loaded again")
		}
		put(t, ca, second)
		if pass(); bundle() != second {
			t.Errorf("the bundle is still %s", bundle())
		}
		put(t, ca, "rubbish")
		pass()
		put(t, file, "regoin: x")
		pass()
		pass()
		if bundle() != second || len(said) != 3 || !strings.Contains(said[2], "regoin") {
			t.Errorf("after breaking it: %s, said %q", bundle(), said)
		}
		put(t, ca, first)
		put(t, file, document)
		if pass(); bundle() != first {
			t.Errorf("after mending it: %s", bundle())
		}
	})
}

func TestCAFileOfMoreThanCertificates(t *testing.T) {
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := certificatePEM(t)
	put(t, filepath.Join(dir, "config.yaml"), document)
	put(t, filepath.Join(dir, "ca.pem"), "a comment\n"+string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))+certificate)
	p, err := loadPolicy(filepath.Join(dir, "config.yaml"), "v1", testr.New(t))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.now.Load().Policy().KMS.CABundle; got != certificate {
		t.Errorf("pods would get\n%s", got)
	}
}

func TestPolicyThatCannotBeUsed(t *testing.T) {
	for name, c := range map[string]struct{ document, ca, message string }{
		"not there":      {"", "", "read the webhook's configuration"},
		"wrong":          {"accountID: x", "", "accountID"},
		"no CA file":     {document, "", "kms.caFile"},
		"no certificate": {document, "x", "has no certificate"},
		"broken":         {document, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "ca.pem"},
		"requests > limits": {"{accountID: '1', clusterID: c, region: cn-hangzhou, agent: {image: agent, requests: {memory: 1Gi}}}", "",
			"agent.requests.memory: 1Gi"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if c.document != "" {
				put(t, filepath.Join(dir, "config.yaml"), c.document)
			}
			if c.ca != "" {
				put(t, filepath.Join(dir, "ca.pem"), c.ca)
			}
			if _, err := loadPolicy(filepath.Join(dir, "config.yaml"), "v1", testr.New(t)); err == nil || !strings.Contains(err.Error(), c.message) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func certificatePEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func put(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}
