package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

const (
	authorityPath  = "/api/v1/namespaces/kms/secrets/kms-webhook-ca"
	servingPath    = "/api/v1/namespaces/kms/secrets/kms-webhook-tls"
	mutatingPath   = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kms-agent-injector"
	validatingPath = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/kms-agent-injector"
	serverName     = "kms-webhook.kms.svc"
)

// TestReplicasShareOneCertificate starts two keepers and two replicas, and installs the configurations after them, as an installer may.
func TestReplicasShareOneCertificate(t *testing.T) {
	kube := fakekube.New(t)
	a, b := startSecret(t, kube), startSecret(t, kube)
	if err := a.Ready(); err == nil || !strings.Contains(err.Error(), "kms-webhook-tls") {
		t.Errorf("ready without a certificate: %v", err)
	}
	keepers := []startedKeeper{startKeeper(t, kube), startKeeper(t, kube)}
	eventually(t, "ready without configurations", func() error { return errors.Join(a.Ready(), b.Ready()) })
	installConfigurations(kube)
	settled := func() error {
		return errors.Join(a.Ready(), b.Ready(), trustedByAll(kube, a), trustedByAll(kube, b), servedIsSigned(kube, a), servedIsSigned(kube, b),
			keepers[0].Check(t.Context()), keepers[1].Check(t.Context()))
	}
	eventually(t, "trusted", settled)
	// What we do not know about the configurations is still there.
	webhook := kube.Get(mutatingPath)["webhooks"].([]any)[0].(fakekube.Object)
	if webhook["aFieldOfTomorrow"] != "kept" || webhook["clientConfig"].(fakekube.Object)["service"] == nil {
		t.Errorf("the patch lost something: %v", webhook)
	}
	// The keeper fills a bundle that was emptied.
	installConfigurations(kube)
	eventually(t, "trusted again", settled)
	// Without one of the Secrets, and without both, there is another certificate, the same for both.
	own := fakekube.Object{"app.kubernetes.io/managed-by": "Helm"}
	for _, path := range []string{servingPath, authorityPath} {
		secret := kube.Get(path)
		secret["metadata"].(fakekube.Object)["labels"] = own
		kube.Put(path, secret)
	}
	eventually(t, "labelled", settled)
	for _, deleted := range [][]string{{servingPath}, {authorityPath}, {authorityPath, servingPath}} {
		before, _ := a.GetCertificate(nil)
		for _, path := range deleted {
			kube.Delete(path)
		}
		eventually(t, fmt.Sprintf("another certificate without %v", deleted), func() error {
			fromA, _ := a.GetCertificate(nil)
			fromB, _ := b.GetCertificate(nil)
			if fromA == before || !fromA.Leaf.Equal(fromB.Leaf) {
				return errors.New("the certificate before, or not the same one")
			}
			return settled()
		})
		for _, path := range deleted {
			if labels := kube.Get(path)["metadata"].(fakekube.Object)["labels"]; !reflect.DeepEqual(labels, own) {
				t.Errorf("%s came back with the labels %v", path, labels)
			}
		}
	}
}

// TestKeepersRace lets many begin at once. None may overwrite what another one's certificate hangs on.
func TestKeepersRace(t *testing.T) {
	kube := fakekube.New(t)
	installConfigurations(kube)
	var keepers []startedKeeper
	for range 8 {
		keepers = append(keepers, startKeeper(t, kube))
	}
	eventually(t, "nothing to do", func() (err error) {
		for _, k := range keepers {
			err = errors.Join(err, k.Check(t.Context()))
		}
		return err
	})
	authority, serving := kube.Get(authorityPath), kube.Get(servingPath)
	if n := len(parse(bundleOf(kube, mutatingPath, 0))); n != 1 {
		t.Errorf("%d authorities were trusted", n)
	}
	for _, k := range keepers {
		if err := k.keep(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if !reflect.DeepEqual(authority, kube.Get(authorityPath)) || !reflect.DeepEqual(serving, kube.Get(servingPath)) {
		t.Error("what was written did not stay")
	}
}

// TestSourceOnlyReads grants the listener's requests what its ServiceAccount may, and no more; and has no keeper when it starts again.
func TestSourceOnlyReads(t *testing.T) {
	kube := fakekube.New(t)
	installConfigurations(kube)
	keeper := startKeeper(t, kube)
	eventually(t, "a certificate", func() error { return keeper.Check(t.Context()) })
	keeper.stop()
	var mu sync.Mutex
	var refused []string
	kube.Break(func(method, path string) int {
		if method == http.MethodGet && !strings.HasPrefix(path, authorityPath) {
			return 0
		}
		mu.Lock()
		defer mu.Unlock()
		refused = append(refused, method+" "+path)
		return http.StatusForbidden
	})
	s := startSecret(t, kube)
	eventually(t, "ready", s.Ready)
	if err := errors.Join(trustedByAll(kube, s), servedIsSigned(kube, s)); err != nil {
		t.Error(err)
	}
	mu.Lock()
	defer mu.Unlock()
	if len(refused) > 0 {
		t.Errorf("what listens asks for more than to read: %v", refused)
	}
}

// TestKeeperRenewsEarly finds an authority and a certificate of different ages.
func TestKeeperRenewsEarly(t *testing.T) {
	born := time.Now()
	authority, err := newAuthority(commonName, born)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := sign(authority, serverName, born)
	if err != nil {
		t.Fatal(err)
	}
	const day = 24 * time.Hour
	for _, c := range []struct {
		after              time.Duration
		authority, serving bool // still sound
	}{
		{-2 * time.Hour, false, false},  // made by a clock that was ahead
		{-30 * time.Minute, true, true}, // to a clock that is behind
		{0, true, true}, {4 * day, true, true}, {5 * day, true, false}, {8 * day, true, false}, {243 * day, true, false},
		{244 * day, false, false},
	} {
		now := born.Add(c.after)
		if err := soundAuthority(authority, now); (err == nil) != c.authority {
			t.Errorf("after %s: the authority: %v", c.after, err)
		}
		if err := soundServing(serving, authority["ca.crt"], serverName, now); (err == nil) != c.serving {
			t.Errorf("after %s: the certificate: %v", c.after, err)
		}
	}
	if err := soundServing(serving, authority["ca.crt"], "another.kms.svc", born); err == nil {
		t.Error("a certificate for another name is sound")
	}
	late, err := sign(authority, serverName, born.Add(362*day))
	if err != nil {
		t.Fatal(err)
	}
	if end := parse(late["tls.crt"])[0].NotAfter; !end.Equal(parse(authority["ca.crt"])[0].NotAfter) {
		t.Errorf("the certificate outlives its authority, until %s", end)
	}
	for name, data := range map[string]map[string][]byte{
		"a certificate that is none": serving, "without a key": {"tls.crt": authority["tls.crt"], "ca.crt": authority["ca.crt"]}, "nothing": nil,
		"rubbish":             {"tls.crt": []byte("x"), "tls.key": []byte("y"), "ca.crt": []byte("x")},
		"with another ca.crt": {"tls.crt": authority["tls.crt"], "tls.key": authority["tls.key"]},
	} {
		if soundAuthority(data, born) == nil {
			t.Errorf("as an authority, %s is sound", name)
		}
	}
}

// TestRotationDropsNoRequest replaces the authority while a client, which sees the configurations late, keeps connecting.
func TestRotationDropsNoRequest(t *testing.T) {
	kube := fakekube.New(t)
	installConfigurations(kube)
	startKeeper(t, kube)
	s := startSecret(t, kube)
	eventually(t, "trusted", func() error { return errors.Join(s.Ready(), trustedByAll(kube, s)) })
	first, err := s.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}

	connecting := connect(t, kube, serve(t, s))
	ca, key := newTestAuthority(t)
	kube.Put(authorityPath, fakekube.Object{"apiVersion": "v1", "kind": "Secret", "data": fakekube.Object{
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

// startSecret starts what listens.
func startSecret(t *testing.T, kube *fakekube.Server) *Source {
	t.Helper()
	s, err := NewSecret(options(t, kube))
	if err != nil {
		t.Fatal(err)
	}
	return startSource(t, s)
}

type startedKeeper struct {
	*Keeper
	stop func()
}

func startKeeper(t *testing.T, kube *fakekube.Server) startedKeeper {
	t.Helper()
	k, err := NewSelfSigned(options(t, kube))
	if err != nil {
		t.Fatal(err)
	}
	return startedKeeper{k, start(t, k)}
}

func serve(t *testing.T, s *Source) string {
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
		return fakekube.Object{"name": name, "aFieldOfTomorrow": "kept",
			"clientConfig": fakekube.Object{"service": fakekube.Object{"name": "kms-webhook", "namespace": "kms"}}}
	}
	kube.Put(mutatingPath, fakekube.Object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
		"webhooks": []any{hook("pods")}})
	kube.Put(validatingPath, fakekube.Object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
		"webhooks": []any{hook("workloads"), hook("cronjobs")}})
}

func trustedByAll(kube *fakekube.Server, s *Source) error {
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

// servedIsSigned wants what is served to be of the authority in the Secret.
func servedIsSigned(kube *fakekube.Server, s *Source) error {
	c, err := s.GetCertificate(nil)
	if err != nil {
		return err
	}
	data, _ := kube.Get(authorityPath)["data"].(fakekube.Object)
	text, _ := data["ca.crt"].(string)
	ca, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	return verify(ca, c, serverName, time.Now())
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

// newTestAuthority is a certificate and its key as the library writes them, valid for an hour.
func newTestAuthority(t *testing.T) (ca, key []byte) {
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
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
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
