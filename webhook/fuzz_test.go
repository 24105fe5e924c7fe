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
	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	kubejson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// FuzzReview sends any bytes as an AdmissionReview to both handlers. The answer is 400 for what is none, else an AdmissionReview
// for the same uid, whose patch, if it has one, applies to the object.
func FuzzReview(f *testing.F) {
	const head = `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1-2","operation":"CREATE","namespace":"shop","object":`
	for _, text := range []string{
		``, `null`, `{}`, `{"request":null}`, `{"request":{}}`, `{"request":{"uid":""}}`, `{"request":{"uid":1}}`, `[]`, `{"request":{"uid":"a","uid":"b"}}`,
		`{"request":{"object":{},"uid":"a"}} x`, strings.Repeat(`{"request":`, 200), head + `null}}`, head + `{"metadata":{"annotations":null},"spec":null}}}`,
		head + `{"spec":{"template":{"metadata":{"annotations":{"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secret.db":"app/db"}}}}},"oldObject":null}}`,
		head + `{"spec":{"jobTemplate":{"spec":{"template":{"metadata":{"annotations":{"kms.alibabacloud.com/mode":"init"}}}}}}}}}`,
		head + `{"metadata":{"annotations":{"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secret.db":"app/db"}},"spec":{"containers":[{"name":"web"},null]}}}}`,
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
	}
	judge := permissive(f)
	mutate := &admission[injector.Pod]{read: injector.ReadPod, decide: judge.pod, observe: func(verdict, time.Duration) {}, log: logr.Discard(), draining: new(atomic.Bool)}
	validate := &admission[workload]{read: readWorkload, decide: judge.workload, observe: mutate.observe, advisory: true, log: logr.Discard(), draining: mutate.draining}
	f.Fuzz(func(t *testing.T, body []byte) {
		answered(t, mutate, body)
		answered(t, validate, body)
	})
}

func answered(t *testing.T, handler http.Handler, body []byte) {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	if w.Code == http.StatusBadRequest {
		return
	}
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &review); w.Code != http.StatusOK || err != nil || review.Response == nil {
		t.Fatalf("%q: %d %v: %s", body, w.Code, err, w.Body)
	}
	response := review.Response
	if response.Result != nil && strings.Contains(response.Result.Message, "a bug") || strings.Contains(strings.Join(response.Warnings, " "), "a bug") {
		t.Fatalf("%q: %s", body, w.Body)
	}
	var asked map[string]any
	strict, err := kubejson.UnmarshalStrict(body, &asked)
	if err != nil {
		t.Fatalf("%q is no JSON, but was answered: %v", body, err)
	}
	for _, e := range strict {
		if strings.Contains(e.Error(), "duplicate field") {
			return // which of the two it is for, nobody knows
		}
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
