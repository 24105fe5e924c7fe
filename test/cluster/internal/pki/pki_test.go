package pki

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"os"
	"path/filepath"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestIssuedCertificateIsTrusted(t *testing.T) {
	authority, err := NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Issue("system:node:n", []string{"system:nodes"}, "localhost", "10.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority.PEM)
	for _, host := range []string{"localhost", "10.0.0.1"} {
		for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
			if _, err := loaded.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{use}}); err != nil {
				t.Errorf("%s: %v", host, err)
			}
		}
	}
	if got := loaded.Leaf.Subject; got.CommonName != "system:node:n" || len(got.Organization) != 1 || got.Organization[0] != "system:nodes" {
		t.Errorf("user and groups: %v", got)
	}
}

func TestKubeconfig(t *testing.T) {
	pair := Pair{Cert: []byte("certificate"), Key: []byte("key")}
	var got struct {
		CurrentContext string `yaml:"current-context"`
		Clusters       []struct {
			Cluster struct {
				Server    string
				Authority string `yaml:"certificate-authority-data"`
			}
		}
		Users []struct {
			User struct {
				Cert string `yaml:"client-certificate-data"`
				Key  string `yaml:"client-key-data"`
			}
		}
	}
	if err := yaml.Unmarshal(Kubeconfig("name", "https://127.0.0.1:1", []byte("authority"), pair), &got); err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	if got.CurrentContext != "name" || got.Clusters[0].Cluster.Server != "https://127.0.0.1:1" ||
		got.Clusters[0].Cluster.Authority != b64([]byte("authority")) ||
		got.Users[0].User.Cert != b64(pair.Cert) || got.Users[0].User.Key != b64(pair.Key) {
		t.Errorf("kubeconfig: %+v", got)
	}
}

func TestKeysAreTheirOwnersOnly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if err := Write(dir, map[string][]byte{"ca.key": nil}); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "ca.key"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %o", path, info.Mode(), err, want)
		}
	}
}
