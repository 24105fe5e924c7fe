package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestComplaint(t *testing.T) {
	// answer makes a webhook of what it says to the pod's annotations.
	answer := func(decide func(path string, wrong bool, r *admissionv1.AdmissionResponse)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var review admissionv1.AdmissionReview
			var pod struct{ Metadata metav1.ObjectMeta }
			if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
				t.Errorf("%s was sent %v", r.URL.Path, err)
				return
			}
			if err := json.Unmarshal(review.Request.Object.Raw, &pod); err != nil {
				t.Error(err)
			}
			review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID}
			decide(r.URL.Path, pod.Metadata.Annotations["kms.alibabacloud.com/secrt.db"] != "", review.Response)
			if err := json.NewEncoder(w).Encode(review); err != nil {
				t.Error(err)
			}
		}
	}
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		err     string
	}{
		"refuses": {answer(func(path string, wrong bool, r *admissionv1.AdmissionResponse) {
			if wrong && path == "/mutate-pods" {
				r.Result = &metav1.Status{Message: "did you mean kms.alibabacloud.com/secret.db?"}
			}
		}), ""},
		"warns, where nothing is injected": {answer(func(path string, wrong bool, r *admissionv1.AdmissionResponse) {
			r.Allowed = true
			if wrong && path == "/validate-pods" {
				r.Warnings = []string{"nothing will be injected", "did you mean kms.alibabacloud.com/secret.db?"}
			}
		}), ""},
		"allows": {answer(func(_ string, _ bool, r *admissionv1.AdmissionResponse) { r.Allowed = true }), "does not complain"},
		"refuses all": {answer(func(_ string, _ bool, r *admissionv1.AdmissionResponse) { r.Result = &metav1.Status{Message: "closed"} }),
			"closed"},
		"another's answer": {answer(func(_ string, _ bool, r *admissionv1.AdmissionResponse) { r.UID = "other" }),
			"something else than was asked"},
		"not a webhook": {func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no such page", http.StatusNotFound) },
			"status 404 Not Found and no AdmissionReview"},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(c.handler)
			defer server.Close()
			authority := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
			said, err := complaint(t.Context(), server.URL, "/mutate-pods", authority)
			if c.err == "" && (err != nil || !strings.Contains(said, cure)) {
				t.Errorf("said %q, %v", said, err)
			}
			if c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("said %q, %v; want an error with %q", said, err, c.err)
			}
		})
	}
}

func TestComplaintTrustsTheCABundleOnly(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it logs clients that do not trust it
	server.StartTLS()
	defer server.Close()
	for bundle, want := range map[string]string{"": "has no caBundle", stranger(t): "unknown authority"} {
		if _, err := complaint(t.Context(), server.URL, "/mutate-pods", []byte(bundle)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

// stranger is an authority that has signed nothing.
func stranger(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func TestProbeReadsTheConfiguration(t *testing.T) {
	const found = `{"apiVersion":"admissionregistration.k8s.io/v1","kind":"MutatingWebhookConfiguration",` +
		`"metadata":{"name":"kms-agent-injector"},"webhooks":`
	for webhooks, want := range map[string]string{
		"":   "read MutatingWebhookConfiguration kms-agent-injector, without which the API server does not call the webhook",
		"[]": "names no Service with a port and a path",
		`[{"clientConfig":{"service":{"name":"kms-webhook","namespace":"kms","port":443,"path":"/mutate-pods"}}}]`: "has no caBundle yet, so " +
			"the API server does not trust the webhook; see kubectl -n kms get pods",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			if webhooks == "" || r.URL.Path != "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kms-agent-injector" {
				http.NotFound(w, r)
				return
			}
			io.WriteString(w, found+webhooks+"}") //nolint:errcheck // the client will say
		}))
		kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
		if err := os.WriteFile(kubeconfig, []byte(strings.Replace(cluster, "http://127.0.0.1:1", server.URL, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		if err := probe(t.Context(), []string{"--kubeconfig", kubeconfig}, &out); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("with %q: %v, want an error with %q", webhooks, err, want)
		}
		if out.Len() > 0 {
			t.Errorf("with %q it says %q", webhooks, &out)
		}
		server.Close()
	}
}
