package certificate

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"

	"github.com/kms-agent-injector/kms-agent-injector/webhook/internal/fakekube"
)

const (
	secretPath     = "/api/v1/namespaces/kms/secrets/kms-webhook-ca"
	mutatingPath   = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kms-agent-injector"
	validatingPath = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/kms-agent-injector"
	serverName     = "kms-webhook.kms.svc"
)

// TestReplicasShareOneAuthority starts two replicas and installs the configurations after them, as an installer may.
func TestReplicasShareOneAuthority(t *testing.T) {
	kube := fakekube.New(t)
	a, b := start(t, kube), start(t, kube)
	eventually(t, "ready without configurations", func() error { return firstError(a.Ready(), b.Ready()) })
	installConfigurations(kube)
	for _, s := range []*SelfSigned{a, b} {
		eventually(t, "trusted", func() error { return trustedByAll(kube, s) })
		eventually(t, "ready", s.Ready)
	}
	if n := kube.Requests("POST /api/v1/namespaces/kms/secrets"); n > 2 {
		t.Errorf("the authority was made %d times", n)
	}
	// What we do not know about the configurations is still there.
	webhook := kube.Get(mutatingPath)["webhooks"].([]any)[0].(fakekube.Object)
	if webhook["aFieldOfTomorrow"] != "kept" || webhook["clientConfig"].(fakekube.Object)["service"] == nil {
		t.Errorf("the patch lost something: %v", webhook)
	}
	// Whoever empties a bundle gets it back.
	installConfigurations(kube)
	eventually(t, "trusted again", func() error { return firstError(trustedByAll(kube, a), trustedByAll(kube, b)) })
	// Without their Secret they agree on another authority.
	kube.Delete(secretPath)
	eventually(t, "one new authority", func() error {
		for _, s := range []*SelfSigned{a, b} {
			ca, err := authorityOf(kube)
			if err != nil {
				return err
			}
			c, err := s.GetCertificate(nil)
			if err != nil {
				return err
			}
			if err := verify(ca, c, serverName, time.Now()); err != nil {
				return fmt.Errorf("not signed by the authority in the Secret: %w", err)
			}
		}
		return firstError(trustedByAll(kube, a), trustedByAll(kube, b), a.Ready(), b.Ready())
	})
}

// TestRotationDropsNoRequest replaces the authority while a client, which sees the configurations late, keeps connecting.
func TestRotationDropsNoRequest(t *testing.T) {
	kube := fakekube.New(t)
	installConfigurations(kube)
	s := start(t, kube)
	eventually(t, "ready", s.Ready)
	eventually(t, "trusted", func() error { return trustedByAll(kube, s) })
	first, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}

	connecting := connect(t, kube, serve(t, s))
	ca, key := newAuthority(t)
	kube.Put(secretPath, fakekube.Object{"apiVersion": "v1", "kind": "Secret", "data": fakekube.Object{
		"tls.crt": encode(ca), "ca.crt": encode(ca), "tls.key": encode(key)}})
	eventually(t, "both authorities in the bundle", func() error {
		if n := len(parse(bundleOf(kube, mutatingPath, 0))); n != 2 {
			return fmt.Errorf("the bundle has %d certificates", n)
		}
		return nil
	})
	eventually(t, "the new certificate", func() error {
		if now, _ := s.GetCertificate(nil); now == first {
			return fmt.Errorf("still the old certificate")
		}
		return s.Ready()
	})
	connecting.end(t)
}

func start(t *testing.T, kube *fakekube.Server) *SelfSigned {
	t.Helper()
	s, err := NewSelfSigned(Options{
		REST: kube.Config(), Namespace: "kms", Service: "kms-webhook", Secret: "kms-webhook-ca", Configuration: "kms-agent-injector", Log: testr.New(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	s.handover.settle = time.Second
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func serve(t *testing.T, s interface {
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
}) string {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{GetCertificate: s.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func(conn net.Conn) {
				conn.(*tls.Conn).Handshake() //nolint:errcheck // the client's side is what counts
				conn.Close()
			}(conn)
		}
	}()
	return listener.Addr().String()
}

func installConfigurations(kube *fakekube.Server) {
	hook := func(name string) any {
		return fakekube.Object{"name": name, "aFieldOfTomorrow": "kept", "clientConfig": fakekube.Object{"service": fakekube.Object{"name": "kms-webhook", "namespace": "kms"}}}
	}
	kube.Put(mutatingPath, fakekube.Object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "webhooks": []any{hook("pods")}})
	kube.Put(validatingPath, fakekube.Object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration", "webhooks": []any{hook("workloads"), hook("cronjobs")}})
}

func trustedByAll(kube *fakekube.Server, s *SelfSigned) error {
	c, err := s.GetCertificate(nil)
	if err != nil {
		return err
	}
	for _, at := range []struct {
		path string
		i    int
	}{{mutatingPath, 0}, {validatingPath, 0}, {validatingPath, 1}} {
		if err := verify(bundleOf(kube, at.path, at.i), c, serverName, time.Now()); err != nil {
			return fmt.Errorf("webhook %d of %s: %w", at.i, at.path, err)
		}
	}
	return nil
}

func authorityOf(kube *fakekube.Server) ([]byte, error) {
	secret := kube.Get(secretPath)
	if secret == nil {
		return nil, fmt.Errorf("there is no Secret")
	}
	return base64.StdEncoding.DecodeString(secret["data"].(fakekube.Object)["ca.crt"].(string))
}

func bundleOf(kube *fakekube.Server, path string, i int) []byte {
	config := kube.Get(path)["webhooks"].([]any)[i].(fakekube.Object)["clientConfig"].(fakekube.Object)
	text, _ := config["caBundle"].(string)
	bundle, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	return bundle
}

// newAuthority is a certificate and its key as the library writes them, valid for an hour.
func newAuthority(t *testing.T) (ca, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
}

func encode(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline, tick := time.After(2*time.Minute), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
