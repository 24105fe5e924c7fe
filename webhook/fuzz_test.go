package webhook

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	kubernetes "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// FuzzReview sends any bytes as an AdmissionReview to a handler that has to answer about a pod, to one that only advises, and to the
// one that advises about workloads. The answer is 400 for what is none, else an AdmissionReview for the same uid, whose patch, if it
// has one, applies to the object.
func FuzzReview(f *testing.F) {
	const head = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview",` +
		`"request":{"uid":"1-2","operation":"CREATE","namespace":"shop","object":`
	for _, text := range []string{
		``, `null`, `{}`, `{"request":null}`, `{"request":{}}`, `{"request":{"uid":""}}`, `{"request":{"uid":1}}`, `[]`,
		`{"request":{"uid":"a","uid":"b"}}`,
		`{"request":{"object":{},"uid":"a"}} x`, strings.Repeat(`{"request":`, 200), head + `null}}`, head +
			`{"metadata":{"annotations":null},"spec":null}}}`,
		head + `{"spec":{"template":{"metadata":{"annotations":{"kms.alibabacloud.com/inject":"true",` +
			`"kms.alibabacloud.com/secret.db":"app/db"}}}}},"oldObject":null}}`,
		head + `{"spec":{"jobTemplate":{"spec":{"template":{"metadata":{"annotations":{"kms.alibabacloud.com/mode":"init"}}}}}}}}}`,
		head + `{"metadata":{"annotations":{"kms.alibabacloud.com/mode":"init"},"deletionTimestamp":"2026-01-01T00:00:00Z"},"spec":{` +
			`"template":null,"jobTemplate":{"metadata":{"annotations":null,"deletionTimestamp":null},"spec":null}}},` +
			`"oldObject":{"spec":{"template":{}}}}}`,
		head + strings.Repeat(`{"spec":{"jobTemplate":`, 40) + `{}` + strings.Repeat(`}}`, 40) + `}}`,
		head + `{"metadata":{"annotations":{"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secret.db":"app/db"}},` +
			`"spec":{"containers":[{"name":"web"},null]}}}}`,
		"\xef\xbb\xbf{}", `{"request":{"uid":"\ud800\u0000","object":{"metadata":{"annotations":{"kms.alibabacloud.com/\u0000":"x"}}}}}`,
	} {
		f.Add([]byte(text))
	}
	pods, err := filepath.Glob("../injector/testdata/*.yaml")
	if err != nil || len(pods) == 0 {
		f.Fatal(pods, err)
	}
	for _, file := range pods {
		if strings.Contains(file, ".golden.") || strings.Contains(file, "operator") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		pod, err := yaml.YAMLToJSON(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(head + string(pod) + `}}`))
		f.Add([]byte(head + `{"spec":{"template":` + string(pod) + `}}}}`))
	}
	a, err := permissive(f.TempDir())
	if err != nil {
		f.Fatal(err)
	}
	mutate := &review.Handler[injector.Pod]{
		Decide: a.mutatePod, Observe: func(review.Verdict, time.Duration) {}, Log: logr.Discard(), Draining: new(atomic.Bool),
	}
	bare := *mutate
	bare.Advisory, bare.Decide = true, a.validateBarePod
	validate := review.Handler[workload]{
		Decide: a.validateWorkload, Observe: mutate.Observe, Advisory: true, Log: mutate.Log, Draining: mutate.Draining,
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		answered(t, mutate, body)
		answered(t, &bare, body)
		answered(t, &validate, body)
	})
}

func answered(t *testing.T, handler http.Handler, body []byte) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	bounds.Allocations(t, len(body), func() { handler.ServeHTTP(w, r) })
	if w.Code == http.StatusBadRequest {
		return
	}
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &answer); w.Code != http.StatusOK || err != nil || answer.Response == nil {
		t.Fatalf("%q: %d %v: %s", body, w.Code, err, w.Body)
	}
	response := answer.Response
	if response.Result != nil && strings.Contains(response.Result.Message, "a bug") ||
		strings.Contains(strings.Join(response.Warnings, " "), "a bug") {
		t.Fatalf("%q: %s", body, w.Body)
	}
	var asked map[string]any
	if err := kubernetes.Unmarshal(body, &asked); err != nil {
		t.Fatalf("%q is no JSON, but was answered: %v", body, err)
	}
	if !jsontext.Value(body).IsValid(jsontext.AllowInvalidUTF8(true)) {
		return // something is there twice, so that the answer may be for either
	}
	request := asked["request"].(map[string]any)
	if string(response.UID) != request["uid"] {
		t.Fatalf("%q: the answer is for %q", body, response.UID)
	}
	if response.Patch == nil {
		return
	}
	object, err := json.Marshal(request["object"])
	if err != nil {
		t.Fatal(err)
	}
	patch, err := jsonpatch.DecodePatch(response.Patch)
	if err != nil {
		t.Fatalf("%q: %v: %s", body, err, response.Patch)
	}
	if _, err := patch.Apply(object); err != nil {
		t.Fatalf("%q: %v: %s", body, err, response.Patch)
	}
}
