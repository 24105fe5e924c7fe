package review

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestAnswer decodes answers as the API server does.
func TestAnswer(t *testing.T) {
	jsonPatch := admissionv1.PatchTypeJSONPatch
	for name, c := range map[string]struct {
		verdict Verdict
		want    admissionv1.AdmissionResponse
	}{
		"skipped": {Verdict{Result: Skipped}, admissionv1.AdmissionResponse{Allowed: true}},
		"injected": {Verdict{Patch: []byte(`[{"op":"add"}]`)},
			admissionv1.AdmissionResponse{Allowed: true, Patch: []byte(`[{"op":"add"}]`), PatchType: &jsonPatch}},
		"explained": {
			Verdict{Warnings: []string{"one\n  line", `"quoted" \ é`}, Audit: map[string]string{"role": "acs:ram::1:role/<x>", "a": "\x00"}},
			admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{"one line", `"quoted" \ é`},
				AuditAnnotations: map[string]string{"role": "acs:ram::1:role/<x>", "a": "\x00"}},
		},
		"wrong": {Verdict{Err: errors.New("a\n\tb"), Code: 400}, admissionv1.AdmissionResponse{Result: &metav1.Status{
			Status: metav1.StatusFailure, Code: 400, Reason: metav1.StatusReasonBadRequest, Message: "a\n\tb"}}},
		"forbidden": {Verdict{Err: errors.New("no"), Code: 403}, admissionv1.AdmissionResponse{Result: &metav1.Status{
			Status: metav1.StatusFailure, Code: 403, Reason: metav1.StatusReasonForbidden, Message: "no"}}},
		"outage, of which the patch is none": {
			Verdict{Err: errors.New("x"), Code: 500, Patch: []byte("[]")},
			admissionv1.AdmissionResponse{Result: &metav1.Status{Status: metav1.StatusFailure, Code: 500, Reason: metav1.StatusReasonInternalError,
				Message: "x"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c.want.UID = "1-2-3"
			want := admissionv1.AdmissionReview{TypeMeta: metav1.TypeMeta{Kind: "AdmissionReview", APIVersion: "admission.k8s.io/v1"},
				Response: &c.want}
			var text bytes.Buffer
			c.verdict.encode(&text, "1-2-3")
			var got admissionv1.AdmissionReview
			if err := json.Unmarshal(text.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s", err, &text)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestPanic: a panic becomes an answer that quotes nothing of the pod, also in an advisory webhook.
func TestPanic(t *testing.T) {
	for _, advisory := range []bool{false, true} {
		var observed Verdict
		h := &Handler[struct{}]{
			Decide:  func(context.Context, *Request[struct{}]) Verdict { panic("a pod's content") },
			Observe: func(v Verdict, _ time.Duration) { observed = v }, Advisory: advisory, Log: logr.Discard(), Draining: new(atomic.Bool),
		}
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(`{"request":{"uid":"1","object":{}}}`))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		var got admissionv1.AdmissionReview
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		text := w.Body.String()
		if got.Response.Allowed != advisory || observed.Reason != Panic || !strings.Contains(text, "a bug") || strings.Contains(text, "content") {
			t.Errorf("advisory %v: %s", advisory, text)
		}
	}
}
