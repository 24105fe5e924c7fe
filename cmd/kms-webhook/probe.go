package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	admissionregistrationclient "k8s.io/client-go/kubernetes/typed/admissionregistration/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/internal/incluster"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// probeTimeout is the limit for the whole probe; the API server waits five seconds for the webhook.
const probeTimeout = 15 * time.Second

// mistyped is a pod that the webhook must complain of, whatever the administrator allows, and mistyped's cure what it must say.
const (
	mistyped = `{"apiVersion":"v1","kind":"Pod","metadata":{"generateName":"probe-","annotations":` +
		`{"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secrt.db":"app/db"}},"spec":{"containers":[{"name":"app","image":"app"}]}}`
	cure = "did you mean kms.alibabacloud.com/secret.db?"
)

// probe calls the webhook as the API server does, where its configuration says that it is and trusting what the configuration
// trusts, with a pod that is wrong. It is what helm test runs.
func probe(ctx context.Context, args []string, out io.Writer) error {
	flags := flag.NewFlagSet("kms-webhook probe", flag.ContinueOnError)
	kubeconfig := flags.String("kubeconfig", "", "file that says how to reach the API server (default: as a pod)")
	if err := flags.Parse(args); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	called, err := registered(ctx, *kubeconfig)
	if err != nil {
		return err
	}
	service := called.Service
	url := fmt.Sprintf("https://%s.%s.svc:%d", service.Name, service.Namespace, *service.Port)
	said, err := complaint(ctx, url, *service.Path, called.CABundle)
	if err != nil {
		return fmt.Errorf("call the webhook as the API server does: %w; see kubectl -n %s get pods, and their logs", err, service.Namespace)
	}
	fmt.Fprintf(out, "%s has a certificate that the API server trusts, and complains of a mistyped annotation:\n%s\n", url+*service.Path, said)
	return nil
}

// registered returns the address at which the API server calls the webhook for pods.
func registered(ctx context.Context, kubeconfig string) (called admissionregistrationv1.WebhookClientConfig, err error) {
	to, err := incluster.APIServer(kubeconfig)
	if err != nil {
		return called, err
	}
	c, err := admissionregistrationclient.NewForConfig(to)
	if err != nil {
		return called, fmt.Errorf("reach the API server: %w", err)
	}
	found, err := c.MutatingWebhookConfigurations().Get(ctx, configuration, metav1.GetOptions{})
	if err != nil {
		return called, fmt.Errorf("read MutatingWebhookConfiguration %s, without which the API server does not call the webhook: %w",
			configuration, err)
	}
	if len(found.Webhooks) > 0 {
		called = found.Webhooks[0].ClientConfig
	}
	if s := called.Service; s == nil || s.Port == nil || s.Path == nil {
		return called, fmt.Errorf("MutatingWebhookConfiguration %s names no Service with a port and a path; install the chart again",
			configuration)
	}
	return called, nil
}

// complaint is what the webhook at url says to the mistyped pod. Where the pod's namespace did not opt in, as is usual, nothing is
// refused, but the author of such a pod is warned.
func complaint(ctx context.Context, url, path string, authorities []byte) (string, error) {
	response, err := ask(ctx, url+path, authorities)
	if err != nil {
		return "", err
	}
	if response.Allowed {
		path = webhook.BarePodsPath
		if response, err = ask(ctx, url+path, authorities); err != nil {
			return "", err
		}
	}
	said := strings.Join(response.Warnings, "\n")
	if response.Result != nil {
		said += response.Result.Message
	}
	if !strings.Contains(said, cure) {
		return "", fmt.Errorf("%s does not complain of a pod's annotation kms.alibabacloud.com/secrt.db; its answer is %v", url+path, response)
	}
	return said, nil
}

// ask sends a pod with a mistyped annotation.
func ask(ctx context.Context, url string, authorities []byte) (*admissionv1.AdmissionResponse, error) {
	trusted := x509.NewCertPool()
	if !trusted.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("MutatingWebhookConfiguration %s has no caBundle yet, so the API server does not trust the webhook", configuration)
	}
	const uid = "probe"
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: uid, Operation: admissionv1.Create, Namespace: metav1.NamespaceDefault, DryRun: new(true),
			Kind: metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}, Resource: metav1.GroupVersionResource{Version: "v1", Resource: "pods"},
			Object: runtime.RawExtension{Raw: []byte(mistyped)},
		},
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	// by no proxy
	direct := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, MinVersion: tls.VersionTLS12}}}
	answer, err := direct.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(io.LimitReader(answer.Body, 1<<20)).Decode(&review); err != nil {
		return nil, fmt.Errorf("%s answers with status %s and no AdmissionReview: %w", url, answer.Status, err)
	}
	if review.Response == nil || review.Response.UID != uid {
		return nil, errors.New(url + " answers something else than was asked")
	}
	return review.Response, nil
}
