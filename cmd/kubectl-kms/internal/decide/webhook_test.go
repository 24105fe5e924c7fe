package decide_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	"k8s.io/client-go/rest"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/decide"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

const (
	testdata  = "../../../../injector/testdata"
	namespace = "shop"
	version   = "v1.2.3"
)

var account = map[string]string{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"}

// TestMain sets controller-runtime's logger, which all webhooks of the process share, before the first of them starts.
func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// A running webhook and this package come to the same decision, byte for byte, on every golden pod of the injector.
func TestAsTheWebhook(t *testing.T) {
	var files []string
	for _, folder := range []string{testdata, filepath.Join(testdata, "pods")} {
		found, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
		if err != nil || len(found) == 0 {
			t.Fatal(folder, err)
		}
		files = append(files, found...)
	}
	cases := map[string][]string{} // by the operator's document
	for _, file := range files {
		name := strings.TrimSuffix(file, ".yaml")
		if strings.HasSuffix(name, ".golden") || strings.HasSuffix(name, "operator") {
			continue
		}
		operator := name + ".operator.yaml"
		if _, err := os.Stat(operator); errors.Is(err, fs.ErrNotExist) {
			operator = filepath.Join(testdata, "operator.yaml")
		}
		cases[operator] = append(cases[operator], file)
	}
	for operator, pods := range cases {
		t.Run(filepath.Base(operator), func(t *testing.T) {
			t.Parallel()
			review, world := start(t, operator), world(t, operator)
			for _, file := range pods {
				text, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				pod, err := yaml.YAMLToJSON(text)
				if err != nil {
					t.Fatal(err)
				}
				theirs := review(t, pod)
				ours, err := world.Pod(t.Context(), namespace, pod)
				if err != nil {
					t.Fatalf("%s: %v", file, err)
				}
				refused := ours.Refused()
				if theirs.Allowed != (refused == nil) {
					t.Errorf("%s: the webhook says %+v, and here it is %v", file, theirs.Result, refused)
				}
				if refused != nil && theirs.Result != nil && !strings.Contains(theirs.Result.Message, firstMistake(ours)) {
					t.Errorf("%s: the webhook says\n%s\nand here it is\n%s", file, theirs.Result.Message, refused)
				}
				if refused == nil && !bytes.Equal(theirs.Patch, ours.Patch) {
					t.Errorf("%s: the webhook's patch is\n%s\nand here it is\n%s", file, theirs.Patch, ours.Patch)
				}
			}
		})
	}
}

func firstMistake(v decide.Verdict) string {
	if len(v.Mistakes) > 0 {
		return v.Mistakes[0].Problem
	}
	return v.Unmet.Error()
}

// world is that of the plugin, with the ServiceAccounts that kubernetes has.
func world(t *testing.T, operator string) decide.World {
	t.Helper()
	document, err := os.ReadFile(operator)
	if err != nil {
		t.Fatal(err)
	}
	policy, err := config.ReadInjector(document)
	if err != nil {
		t.Fatal(err)
	}
	in, err := injector.New(policy.WithNativeSidecars(true), version)
	if err != nil {
		t.Fatal(err)
	}
	w := decide.Nowhere(in)
	w.ServiceAccount = func(context.Context, string, string) (map[string]string, error) { return account, nil }
	return w
}

// kubernetes is an API server in which every ServiceAccount has the same role and nothing ever changes.
func kubernetes(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	var answer any = map[string]any{"kind": "List", "apiVersion": "v1", "metadata": map[string]any{"resourceVersion": "1"}, "items": []any{}}
	switch {
	case r.URL.Path == "/version":
		answer = map[string]any{"major": "1", "minor": "36", "gitVersion": "v1.36.3"}
	case r.URL.Query().Has("watch"):
		if r.URL.Path == "/api/v1/namespaces" {
			fmt.Fprintf(w, `{"type":"ADDED","object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"name":%q,"resourceVersion":"1","labels":{%q:%q}}}}`+"\n",
				namespace, config.NamespaceLabel, config.NamespaceLabelValue)
		}
		fmt.Fprintln(w, `{"type":"BOOKMARK","object":{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":{"resourceVersion":"1","annotations":{"k8s.io/initial-events-end":"true"}}}}`)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return
	case strings.Contains(r.URL.Path, "/serviceaccounts/"), strings.HasPrefix(r.URL.Path, "/api/v1/namespaces/"):
		answer = map[string]any{"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
			"metadata": map[string]any{"name": name, "annotations": account}}
	}
	json.NewEncoder(w).Encode(answer)
}

// start runs a webhook and returns how to ask it.
func start(t *testing.T, operator string) func(*testing.T, []byte) *admissionv1.AdmissionResponse {
	t.Helper()
	kube := httptest.NewServer(http.HandlerFunc(kubernetes))
	t.Cleanup(func() {
		kube.CloseClientConnections()
		kube.Close()
	})
	o := webhook.Options{
		ConfigFile: operator, Version: version, Admission: listen(t), Metrics: listen(t), Health: listen(t),
		REST: &rest.Config{Host: kube.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json", AcceptContentTypes: "application/json"}}, Certificate: newCertificate(t), Log: logr.Discard(),
		Checks: config.Checks{Key: render.CheckKey, Template: render.CheckTemplate},
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} //nolint:gosec // a test's own server
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- webhook.Run(ctx, o) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	ready(t, "http://"+o.Health.Addr().String()+"/readyz", done)
	return func(t *testing.T, pod []byte) *admissionv1.AdmissionResponse {
		t.Helper()
		body := fmt.Sprintf(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","operation":"CREATE","namespace":%q,"object":%s}}`, namespace, pod)
		r, err := client.Post(fmt.Sprintf("https://%s%s", o.Admission.Addr(), webhook.MutatePath), "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Response == nil {
			t.Fatalf("%s: %v", r.Status, err)
		}
		return review.Response
	}
}

func ready(t *testing.T, url string, ended chan error) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if r, err := http.Get(url); err == nil {
			r.Body.Close()
			if r.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatal(err)
		case <-limit:
			t.Fatal("the webhook is not ready")
		case <-tick.C:
		}
	}
}

// certificate is a server certificate for the webhook; nobody checks it here.
type certificate struct{ tls.Certificate }

func newCertificate(t *testing.T) *certificate {
	t.Helper()
	server := httptest.NewTLSServer(nil)
	defer server.Close()
	c := server.TLS.Certificates[0]
	leaf, err := x509.ParseCertificate(c.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	c.Leaf = leaf
	return &certificate{c}
}

func (c *certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &c.Certificate, nil
}

func (c *certificate) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func (c *certificate) Ready() error { return nil }

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}
