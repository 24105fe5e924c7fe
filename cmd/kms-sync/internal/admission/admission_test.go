package admission

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

// ask sends a body as the API server does. What is answered is never a refusal: an AdmissionReview that allows, or no AdmissionReview,
// which failurePolicy Ignore takes for one.
func ask(t *testing.T, body []byte) (warnings []string, status int, text string) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler(logr.Discard(), new(atomic.Bool)).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return nil, w.Code, w.Body.String()
	}
	var got admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s", err, w.Body)
	}
	if !got.Response.Allowed || got.Response.Result != nil || got.Response.UID != "1-2" {
		t.Errorf("the answer is a refusal, or to another request: %s", w.Body)
	}
	return got.Response.Warnings, w.Code, w.Body.String()
}

func admissionReview(namespace, object string) []byte {
	return []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"1-2","operation":"UPDATE","namespace":"` +
		namespace + `","oldObject":{"kind":"ExternalSecret","spec":{}},"object":` + object + `}}`)
}

// Every mistake that the condition InvalidSpec names is a warning, in the same words, and there is no other: for each object of the field
// tables.
func TestTheControllersCheck(t *testing.T) {
	files, err := filepath.Glob("../../content/testdata/*/object.yaml")
	if err != nil || len(files) < 50 {
		t.Fatal(len(files), err)
	}
	mistaken := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var es v1alpha1.ExternalSecret
		if err := yaml.Unmarshal(text, &es); err != nil {
			t.Fatal(err)
		}
		es.Kind = "ExternalSecret"
		stored, err := json.Marshal(es)
		if err != nil {
			t.Fatal(err)
		}
		var want []string
		for _, m := range content.Check(&es) {
			want = append(want, m.String())
		}
		mistaken += min(len(want), 1)
		got, _, _ := ask(t, admissionReview(es.Namespace, string(stored)))
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
	if mistaken < 10 {
		t.Errorf("only %d objects have mistakes", mistaken)
	}
}

func TestStores(t *testing.T) {
	for name, c := range map[string]struct {
		object string
		want   []string
	}{
		"SecretStore": {`{"kind":"SecretStore","spec":{"KMS":{"KMSAuth":{"serviceAccountRef":{"name":"web"}}}}}`, nil},
		"another namespace's ServiceAccount": {
			`{"kind":"SecretStore","spec":{"KMS":{"KMSAuth":{"serviceAccountRef":{"name":"web","namespace":"x"}}}}}`,
			[]string{`spec.KMS.KMSAuth.serviceAccountRef.namespace: is "x", and a SecretStore may only name ServiceAccounts of its own; remove it`}},
		"ClusterSecretStore": {`{"kind":"ClusterSecretStore","spec":{"KMS":{"KMSAuth":{"roleSessionExpiration":"1h"}},` +
			`"conditions":[{"namespaceRegexes":["("]}]}}`, []string{
			`spec.KMS.KMSAuth.roleSessionExpiration: is "1h"; write seconds, 900 to 43200, and no more than the role's MaxSessionDuration`,
			"spec.conditions[0].namespaceRegexes[0]: the regular expression cannot be parsed: missing closing )",
		}},
		"no spec": {`{"kind":"SecretStore"}`,
			[]string{"spec: has no KMS; write KMS.KMSAuth.serviceAccountRef.name for the role of a ServiceAccount"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, _ := ask(t, admissionReview("shop", c.object))
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What cannot be checked is not refused either: it says why, in a few words, and takes memory in proportion.
func TestUnreadable(t *testing.T) {
	es := func(spec string) []byte { return admissionReview("shop", `{"kind":"ExternalSecret","spec":`+spec+`}`) }
	nested := func(n int, start, middle, end string) string {
		return strings.Repeat(start, n) + middle + strings.Repeat(end, n)
	}
	const none = "not checked: the object is no ExternalSecret"
	for name, c := range map[string]struct {
		body   []byte
		status int
		says   string
	}{
		"no JSON":           {[]byte("hello"), http.StatusBadRequest, "decode the AdmissionReview"},
		"no review":         {[]byte("{}"), http.StatusBadRequest, "has no request"},
		"another kind":      {admissionReview("shop", `{"kind":"Pod","spec":{}}`), http.StatusOK, none + ", SecretStore"},
		"no object":         {admissionReview("shop", `null`), http.StatusOK, none},
		"another type":      {es(`{"data":"x"}`), http.StatusOK, "not checked: decode the spec of the ExternalSecret: "},
		"deep":              {es(`{"data":` + nested(9000, "[", "", "]") + "}"), http.StatusOK, "not checked: decode the spec"},
		"too deep":          {es(nested(20000, `{"a":`, "1", "}")), http.StatusBadRequest, "decode the AdmissionReview"},
		"many entries":      {es(`{"data":[` + strings.Repeat("{},", 9000) + "{}]}"), http.StatusOK, "at most 1000 are allowed"},
		"very many entries": {es(`{"data":[` + strings.Repeat("{},", 90000) + "{}]}"), http.StatusBadRequest, "there are more than"},
		"many mistakes":     {es(`{"data":[{"key":"a","jmesPath":[` + strings.Repeat("{},", 9000) + "{}]}]}"), http.StatusOK, whole},
		"a long text":       {es(`{"provider":"` + strings.Repeat("x", 3<<20) + `"}`), http.StatusOK, "spec.provider"},
		"too long":          {es(`{"provider":"` + strings.Repeat("x", 7<<20) + `"}`), http.StatusBadRequest, "it is longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			warnings, status, text := ask(t, c.body)
			if status != c.status || !strings.Contains(text, c.says) {
				t.Errorf("status %d: %.500s", status, text)
			}
			bounded(t, warnings)
			if len(text) > 12<<10 {
				t.Errorf("an answer of %d bytes", len(text))
			}
			if peak, most := bounds.Peak(func() { ask(t, c.body) }), uint64(20*len(c.body)+32<<20); peak > most {
				t.Errorf("%d bytes take %d MB", len(c.body), peak>>20)
			}
		})
	}
}

// bounded holds warnings to what the API server passes on without cutting them itself.
func bounded(t *testing.T, warnings []string) {
	t.Helper()
	together, longest := 0, 0
	for _, w := range warnings {
		n := utf8.RuneCountInString(w)
		together, longest = together+n, max(longest, n)
	}
	if together > maxTogether || slices.Contains(warnings, whole) && longest > maxEach {
		t.Errorf("%d warnings of %d characters, the longest of %d", len(warnings), together, longest)
	}
}

// An object takes a turn only for as long as is in proportion to it, whatever it has many of.
func TestLargeObjects(t *testing.T) {
	repeated := func(n int, item func(i int) string) string {
		var items []string
		for i := range n {
			items = append(items, item(i))
		}
		return strings.Join(items, ",")
	}
	templates := func(i int) string { return fmt.Sprintf(`"%d":""`, i) }
	for name, spec := range map[string]string{
		"templates": `"data":[{"key":"a"}],"target":{"template":{"data":{` + repeated(1000, templates) + `}}}`,
		"too many":  `"data":[{"key":"a"}],"target":{"template":{"data":{` + repeated(60_000, templates) + `}}}`,
		"templates of text": `"data":[{"key":"a"}],"target":{"template":{"data":{` + repeated(300, func(i int) string {
			return fmt.Sprintf(`"%d":"{{ .a | b64enc | quote }}"`, i)
		}) + `}}}`,
		"expressions": `"data":[{"key":"a","jmesPath":[` + repeated(10_000, func(i int) string {
			return fmt.Sprintf(`{"path":"a.b[?c == 'd'].e | [0]","objectAlias":"%d"}`, i)
		}) + `]}]`,
		"rules": `"dataProcess":[` + repeated(100, func(int) string {
			rules := repeated(100, func(int) string { return `{"source":"(a|x{0,300})y","target":""}` })
			return `{"extract":{"key":"a"},"replaceRule":[` + rules + `]}`
		}) + `]`,
	} {
		t.Run(name, func(t *testing.T) {
			body := admissionReview("shop", `{"kind":"ExternalSecret","spec":{`+spec+`}}`)
			bounds.Review(t, body, func() {
				if warnings, status, text := ask(t, body); status != http.StatusOK || (len(warnings) > 0) != (name == "too many") {
					t.Errorf("%d %.300s", status, text)
				}
			})
		})
	}
}

func TestLongWarnings(t *testing.T) {
	var data []string
	for range 60 {
		data = append(data, fmt.Sprintf(`{"key":"a","name":%q}`, strings.Repeat("ä", 40)))
	}
	data = append(data, `{"key":"a","jmesPath":[{"path":"`+strings.Repeat("ä[", 900)+`","objectAlias":"x"}]}`)
	warnings, _, _ := ask(t, admissionReview("shop", `{"kind":"ExternalSecret","spec":{"data":[`+strings.Join(data, ",")+`]}}`))
	bounded(t, warnings)
	if n := len(warnings); n < 10 || warnings[n-1] != whole || !strings.HasPrefix(warnings[0], "spec.data[0].name: ") {
		t.Errorf("%d warnings: %q", n, warnings)
	}
}

// The process makes its certificate and the API server's trust in it, answers by it, and goes on for a while when it is told to stop.
func TestRun(t *testing.T) {
	const configurationPath = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/kms-sync"
	kube := fakekube.New(t)
	kube.Put(configurationPath, fakekube.Object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
		"webhooks": []any{fakekube.Object{"name": "kms-sync.alibabacloud.com", "clientConfig": fakekube.Object{}}}})
	o := Options{Namespace: "kms-sync", REST: kube.Config(), Log: logr.Discard(), Drain: 200 * time.Millisecond}
	for _, l := range []*net.Listener{&o.Admission, &o.Health} {
		var err error
		if *l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	url, probes := "https://"+o.Admission.Addr().String()+path, "http://"+o.Health.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, o) }()

	status := func(url string) int {
		response, err := http.Get(url)
		if err != nil {
			return 0
		}
		response.Body.Close()
		return response.StatusCode
	}
	for start := time.Now(); status(probes+"/readyz") != http.StatusOK; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			t.Fatal("it does not become ready")
		}
	}
	if got := status(probes + "/healthz"); got != http.StatusOK {
		t.Errorf("/healthz: %d", got)
	}
	of := kube.Get(configurationPath)["webhooks"].([]any)[0].(fakekube.Object)["clientConfig"].(fakekube.Object)["caBundle"]
	authorities, err := base64.StdEncoding.DecodeString(of.(string))
	if err != nil {
		t.Fatal(err)
	}
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(authorities)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: trusted, ServerName: "kms-sync-admission.kms-sync.svc"}}}
	call := func() (warnings []string, err error) {
		response, err := client.Post(url, "application/json", bytes.NewReader(admissionReview("shop", `{"kind":"ExternalSecret"}`)))
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		var got admissionv1.AdmissionReview
		err = json.NewDecoder(response.Body).Decode(&got)
		return got.Response.Warnings, err
	}
	if got, err := call(); err != nil || len(got) != 1 || !strings.HasPrefix(got[0], "spec: has neither data nor dataProcess") {
		t.Errorf("%q, %v", got, err)
	}
	if n := kube.Requests("GET /apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"); n > 0 {
		t.Errorf("%d requests are about MutatingWebhookConfigurations, which it is not allowed to read", n)
	}
	stop()
	if _, err := call(); err != nil {
		t.Errorf("a call just after the end: %v", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := call(); err == nil {
		t.Error("it still answers")
	}
}
