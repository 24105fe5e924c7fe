package webhook_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/certificate"
)

const configuration = `
accountID: "1234567890123456"
clusterID: c0ffee
region: cn-hangzhou
agent: {image: "registry.example/kms-agent:v1"}
allow: {secrets: ["app/*"], identities: [node-role]}
`

// A fixture is a running webhook, its API server and a client that trusts it.
type fixture struct {
	kube         *fakekube.Server
	client       *http.Client
	url          string
	health       string
	metrics      string
	config       string // file
	stop         func()
	done         chan error
	certificates string // folder
}

func start(t *testing.T, change ...func(*fixture, *webhook.Options)) *fixture {
	t.Helper()
	f := &fixture{kube: fakekube.New(t), certificates: t.TempDir(), config: filepath.Join(t.TempDir(), "config.yaml"),
		done: make(chan error, 1)}
	write(t, f.config, configuration)
	f.namespace("shop", map[string]any{"kms.alibabacloud.com/injection": "enabled"})
	roots := writeCertificate(t, f.certificates)
	serving, err := certificate.NewFiles(f.certificates,
		certificate.Options{REST: f.kube.Config(), Configuration: "kms-agent-injector", Log: testr.New(t)})
	if err != nil {
		t.Fatal(err)
	}
	o := webhook.Options{
		ConfigFile: f.config, Admission: listen(t), Metrics: listen(t), Health: listen(t),
		Version: "v1.2.3", REST: f.kube.Config(), Certificate: serving, Log: testr.New(t),
	}
	for _, c := range change {
		c(f, &o)
	}
	f.url, f.metrics, f.health = "https://"+o.Admission.Addr().String(), "http://"+o.Metrics.Addr().String()+"/metrics",
		"http://"+o.Health.Addr().String()
	f.client = &http.Client{Timeout: time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64, TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "kms-webhook.kms.svc",
			CurvePreferences: quick}}}

	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	go func() { f.done <- webhook.Run(ctx, o) }()
	t.Cleanup(func() {
		f.client.CloseIdleConnections() // a server waits 5 s for connections that are not used yet
		stop()
		if err := <-f.done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return f
}

// ready waits until the webhook says that it is.
func (f *fixture) ready(t *testing.T) *fixture {
	t.Helper()
	eventually(t, "ready", func() error {
		select {
		case err := <-f.done:
			f.done <- nil
			t.Fatalf("Run: %v", err)
		default:
		}
		return getOK(f.health + "/readyz")
	})
	return f
}

// review sends an object for admission as the API server does.
func (f *fixture) review(t *testing.T, path, operation string, object, old any) *admissionv1.AdmissionResponse {
	t.Helper()
	response, err := f.post(path, marshal(t, map[string]any{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"request": map[string]any{
			"uid": "11111111-2222-3333-4444-555555555555", "operation": operation, "namespace": "shop", "object": object, "oldObject": old,
			"dryRun": false,
			"kind":   map[string]any{"group": "", "version": "v1", "kind": "Pod"}, "userInfo": map[string]any{"username": "a-user"},
		},
	}))
	if err != nil {
		t.Fatal(err)
	}
	return response
}

func (f *fixture) post(path string, body []byte) (*admissionv1.AdmissionResponse, error) {
	r, err := f.client.Post(f.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", r.Status, text)
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(text, &review); err != nil {
		return nil, err
	}
	if review.APIVersion != "admission.k8s.io/v1" || review.Kind != "AdmissionReview" || review.Response == nil ||
		review.Response.UID != "11111111-2222-3333-4444-555555555555" {
		return nil, fmt.Errorf("not the answer to the question: %s", text)
	}
	return review.Response, nil
}

func (f *fixture) account(name string, annotations map[string]any) {
	f.kube.Put("/api/v1/namespaces/shop/serviceaccounts/"+name, fakekube.Object{
		"apiVersion": "v1", "kind": "ServiceAccount", "metadata": fakekube.Object{"annotations": annotations}})
}

// TestStory is a webhook's life: not ready, ready, told to stop, gone.
func TestStory(t *testing.T) {
	f := start(t, func(_ *fixture, o *webhook.Options) { o.Drain = time.Second })
	f.ready(t)
	if err := getOK(f.health + "/healthz"); err != nil {
		t.Error(err)
	}
	f.stop()
	eventually(t, "not ready any more", func() error {
		if getOK(f.health+"/readyz") == nil {
			return errors.New("still ready")
		}
		return nil
	})
	// The API server has not noticed yet: it gets its answer, on a connection that it will not use again.
	r, err := f.client.Post(f.url+webhook.MutatePath, "application/json",
		bytes.NewReader(marshal(t, map[string]any{"request": map[string]any{"uid": "1", "object": map[string]any{}}})))
	if err != nil {
		t.Fatal(err)
	}
	r.Body.Close()
	if r.StatusCode != http.StatusOK || !r.Close {
		t.Errorf("while stopping: %s, closed %v", r.Status, r.Close)
	}
	err = <-f.done
	f.done <- err
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.client.Get(f.url); err == nil {
		t.Error("it still listens")
	}
}

func TestNotReadyWithoutServiceAccounts(t *testing.T) {
	f := start(t, func(f *fixture, _ *webhook.Options) {
		f.kube.Break(func(string, string) int { return http.StatusInternalServerError })
	})
	eventually(t, "listening", func() error { return getOK(f.health + "/healthz") })
	eventually(t, "a first attempt", func() error {
		if f.kube.Requests("GET /api/v1/serviceaccounts") == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	if getOK(f.health+"/readyz") == nil {
		t.Error("ready without having read the ServiceAccounts")
	}
	f.kube.Break(nil)
	f.ready(t)
}

func TestFollowsCertificateAndPolicy(t *testing.T) {
	f := start(t).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})

	// Another authority signs the next certificate; a client that trusts only that one gets in.
	f.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = writeCertificate(t, f.certificates)
	f.client.CloseIdleConnections()
	eventually(t, "the new certificate", func() error {
		r, err := f.client.Get(f.url)
		if err == nil {
			r.Body.Close()
		}
		return err
	})
	eventually(t, "its expiry in the metrics", func() error { return metricIs(f, "kms_webhook_certificate_expiry_timestamp_seconds 1.") })

	write(t, f.config, "region: nowhere is a region\n") // broken: the last good one stays
	allowed := pod("web", map[string]any{"secret.x": "app/x"})
	refused := pod("web", map[string]any{"secret.x": "other/x"})
	if r := f.review(t, webhook.MutatePath, "CREATE", allowed, nil); !r.Allowed {
		t.Errorf("refused: %s", r.Result.Message)
	}
	write(t, f.config, strings.Replace(configuration, "app/*", "other/*", 1))
	eventually(t, "the new policy", func() error {
		if r := f.review(t, webhook.MutatePath, "CREATE", refused, nil); !r.Allowed {
			return errors.New(r.Result.Message)
		}
		return nil
	})
}

func pod(account string, annotations map[string]any) map[string]any {
	all := map[string]any{"kms.alibabacloud.com/inject": "true"}
	for key, value := range annotations {
		if value == nil {
			delete(all, "kms.alibabacloud.com/"+key)
			continue
		}
		all["kms.alibabacloud.com/"+key] = value
	}
	return map[string]any{
		"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"generateName": "web-", "annotations": all},
		"spec": map[string]any{"serviceAccountName": account, "securityContext": map[string]any{"runAsUser": 1000},
			"containers": []any{map[string]any{"name": "web", "image": "web", "command": []any{"web"}}}},
	}
}

func metricIs(f *fixture, wanted string) error {
	r, err := http.Get(f.metrics)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if !strings.Contains(string(text), wanted) {
		return fmt.Errorf("the metrics lack %s", wanted)
	}
	return nil
}

func getOK(url string) error {
	r, err := http.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return nil
}

// writeCertificate makes an authority and puts a certificate that it signed into a folder.
func writeCertificate(t testing.TB, dir string) *x509.CertPool {
	t.Helper()
	caKey, key := newKey(t), newKey(t)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), DNSNames: []string{"kms-webhook.kms.svc"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	write(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	write(t, filepath.Join(dir, "ca.crt"), string(authority))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	return roots
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func marshal(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func eventually(t *testing.T, what string, ok func() error) {
	t.Helper()
	deadline, tick := time.After(2*time.Minute), time.NewTicker(20*time.Millisecond)
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
