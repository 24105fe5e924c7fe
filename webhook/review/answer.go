// Package review is the HTTP handler that reads AdmissionReviews and answers them, whatever bytes it gets; what it says is decided
// elsewhere. It is apart from package webhook, which talks to Kubernetes, so that it builds quickly where it is fuzzed.
package review

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// encode writes the AdmissionReview that says the verdict.
func (v Verdict) encode(to *bytes.Buffer, uid string) {
	response := &admissionv1.AdmissionResponse{UID: types.UID(uid), Allowed: v.Err == nil, AuditAnnotations: v.Audit}
	switch {
	case v.Err != nil:
		response.Result = &metav1.Status{
			Status: metav1.StatusFailure, Message: v.Err.Error(), Reason: statusReasons[v.Code], Code: v.Code,
		}
	case len(v.Patch) > 0:
		response.Patch, response.PatchType = v.Patch, new(admissionv1.PatchTypeJSONPatch)
	}
	for _, w := range v.Warnings {
		response.Warnings = append(response.Warnings, OneLine(w))
	}
	if err := json.NewEncoder(to).Encode(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{Kind: "AdmissionReview", APIVersion: admissionv1.SchemeGroupVersion.String()}, Response: response,
	}); err != nil {
		panic(err) // nothing in it cannot be encoded
	}
}

// OneLine returns a text without line breaks: they are control characters, and the API server drops a warning that has any. Nor has it
// characters that change how those beside them look.
func OneLine(text string) string {
	unseen := func(r rune) bool { return !unicode.IsGraphic(r) }
	if !strings.ContainsFunc(text, unseen) {
		return text
	}
	return strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || unseen(r) }), " ")
}

// A Verdict is what a request ends in. Result and reason are labels of a metric: both are from fixed sets.
type Verdict struct {
	Result, Reason string
	Patch          []byte
	Warnings       []string
	Audit          map[string]string
	Err            error // for the person whose request is not allowed
	Code           int32 // HTTP status that goes with Err
}

// The results.
const (
	Injected = "injected"
	Skipped  = "skipped"
	Denied   = "denied"
	Errored  = "error"
)

// The reasons of Errored that are found here.
const (
	BadReview = "bad-review" // not an AdmissionReview
	Busy      = "busy"       // too many long requests at the same time
	Panic     = "panic"
)

// Failed is no answer to what was asked: the API server's caller should try again.
func Failed(reason string, err error) Verdict {
	return Verdict{Result: Errored, Reason: reason, Err: fmt.Errorf("kms-agent-injector: %w", err), Code: http.StatusInternalServerError}
}

var statusReasons = map[int32]metav1.StatusReason{
	http.StatusBadRequest:          metav1.StatusReasonBadRequest,
	http.StatusForbidden:           metav1.StatusReasonForbidden,
	http.StatusInternalServerError: metav1.StatusReasonInternalError,
}

// advice turns an error into a warning, for webhooks that only advise.
func (v Verdict) advice() Verdict {
	if v.Result != Errored {
		return v
	}
	return Verdict{Result: v.Result, Reason: v.Reason, Warnings: append(v.Warnings, "not checked: "+v.Err.Error())}
}
