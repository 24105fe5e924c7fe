package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

// TestFilesWaitForTheirTrust replaces the files before the configurations trust the new authority, as an administrator may.
func TestFilesWaitForTheirTrust(t *testing.T) {
	kube, dir := fakekube.New(t), t.TempDir()
	old, next := newAuthorityPair(t), newAuthorityPair(t)
	old.write(t, dir, serverName)
	configure(kube, old.ca)
	f := startFiles(t, kube, dir)
	eventually(t, "ready", f.Ready)
	first, _ := f.GetCertificate(nil)

	next.write(t, dir, serverName)
	eventually(t, "the files read again", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.newest == first {
			return errors.New("not yet")
		}
		return nil
	})
	if c, _ := f.GetCertificate(nil); c != first || f.Ready() != nil {
		t.Errorf("a certificate that no configuration trusts is served; ready: %v", f.Ready())
	}
	configure(kube, append(old.ca[:len(old.ca):len(old.ca)], next.ca...))
	eventually(t, "the new certificate", func() error {
		c, err := f.GetCertificate(nil)
		if err == nil && c == first {
			err = errors.New("not yet")
		}
		return err
	})
}

// TestFilesMayComeLate starts before cert-manager has issued the certificate.
func TestFilesMayComeLate(t *testing.T) {
	kube, dir := fakekube.New(t), t.TempDir()
	a := newAuthorityPair(t)
	configure(kube, a.ca)
	f := startFiles(t, kube, dir)
	if err := f.Ready(); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("ready without a certificate: %v", err)
	}
	a.write(t, dir, serverName)
	eventually(t, "ready", f.Ready)
}

// TestFilesHalfChanged replaces the files one after the other.
func TestFilesHalfChanged(t *testing.T) {
	a, dir := newAuthorityPair(t), t.TempDir()
	f := &Source{dir: dir}
	put := func(name string, content []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(when string, want, usable bool) {
		t.Helper()
		before := f.newest
		if err := f.readFiles(); (f.newest != before) != want || (err == nil) != usable {
			t.Errorf("%s: changed %v, %v", when, f.newest != before, err)
		}
	}
	read("nothing is there", false, false)
	certificate, key := a.issue(t, serverName, time.Now())
	put("tls.crt", certificate)
	read("the key is not there", false, false)
	put("tls.key", key)
	read("both are there", true, true)
	read("nothing has changed", false, true)
	first := f.newest
	certificate, key = a.issue(t, serverName, time.Now())
	put("tls.crt", certificate)
	read("the key is the one before", false, false)
	if f.newest != first {
		t.Error("the certificate before is no longer served")
	}
	put("tls.key", key)
	read("both have changed", true, true)
	if f.newest == first {
		t.Error("the certificate before is still served")
	}
}

// TestFilesSayWhyNotReady gives a certificate that the API server cannot accept.
func TestFilesSayWhyNotReady(t *testing.T) {
	a, b := newAuthorityPair(t), newAuthorityPair(t)
	for name, c := range map[string]struct {
		ca   []byte
		host string
		want string
	}{
		"no bundle":         {nil, serverName, "its caBundle has no certificate"},
		"another authority": {b.ca, serverName, "unknown authority"},
		"another name":      {a.ca, "kms-webhook", serverName},
	} {
		t.Run(name, func(t *testing.T) {
			kube, dir := fakekube.New(t), t.TempDir()
			a.write(t, dir, c.host)
			configure(kube, c.ca)
			f := startFiles(t, kube, dir)
			eventually(t, "the reason", func() error {
				if err := f.Ready(); err == nil || !strings.Contains(err.Error(), c.want) {
					return fmt.Errorf("want it to say %q: %w", c.want, err)
				}
				return nil
			})
			if strings.Contains(fmt.Sprint(f.Ready()), "just now") {
				t.Errorf("not the reason: %v", f.Ready())
			}
			configure(kube, a.ca)
			if c.host == serverName {
				eventually(t, "ready", f.Ready)
			}
		})
	}
}

// configure sets the caBundle of all webhooks.
func configure(kube *fakekube.Server, bundle []byte) { configureText(kube, encode(bundle)) }

func configureText(kube *fakekube.Server, text string) {
	hooks := func(names ...string) (all []any) {
		for _, name := range names {
			config := fakekube.Object{"service": fakekube.Object{"name": "kms-webhook", "namespace": "kms"}}
			if text != "" {
				config["caBundle"] = text
			}
			all = append(all, fakekube.Object{"name": name, "clientConfig": config})
		}
		return all
	}
	kube.Put(validatingPath, fakekube.Object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
		"webhooks": hooks("workloads", "cronjobs")})
	kube.Put(mutatingPath, fakekube.Object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
		"webhooks": hooks("pods")})
}

func startFiles(t *testing.T, kube *fakekube.Server, dir string) *Source {
	t.Helper()
	f, err := NewFiles(dir, options(t, kube))
	if err != nil {
		t.Fatal(err)
	}
	return startSource(t, f)
}

func startSource(t *testing.T, s *Source) *Source {
	t.Helper()
	s.settle = time.Second
	start(t, s)
	return s
}

func options(t *testing.T, kube *fakekube.Server) Options {
	return Options{REST: kube.Config(), Namespace: "kms", Service: "kms-webhook", Configuration: "kms-agent-injector", Log: testr.New(t)}
}

// start runs something until it is stopped or the test ends.
func start(t *testing.T, runner interface{ Run(context.Context) error }) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- runner.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// authorityPair is an authority that signs serving certificates.
type authorityPair struct {
	ca  []byte
	tls tls.Certificate
}

func newAuthorityPair(t *testing.T) authorityPair {
	t.Helper()
	ca, key := newTestAuthority(t)
	pair, err := tls.X509KeyPair(ca, key)
	if err != nil {
		t.Fatal(err)
	}
	return authorityPair{ca, pair}
}

// issue signs a serving certificate of one hour.
func (a authorityPair) issue(t *testing.T, host string, from time.Time) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: from, NotAfter: from.Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.tls.Leaf, private.Public(), a.tls.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

// write puts a new serving certificate into a folder, all files at once, as the kubelet does.
func (a authorityPair) write(t *testing.T, dir, host string) {
	t.Helper()
	certificate, key := a.issue(t, host, time.Now().Add(-time.Minute))
	version, err := os.MkdirTemp(dir, "..v")
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"ca.crt":  a.ca,
		"tls.crt": certificate,
		"tls.key": key,
	} {
		if err := os.WriteFile(filepath.Join(version, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name)); err != nil && !errors.Is(err, os.ErrExist) {
			t.Fatal(err)
		}
	}
	data, next := filepath.Join(dir, "..data"), filepath.Join(dir, "..next")
	old, err := os.Readlink(data)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(filepath.Base(version), next), os.Rename(next, data)); err != nil {
		t.Fatal(err)
	}
	if old != "" {
		if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
			t.Fatal(err)
		}
	}
}
