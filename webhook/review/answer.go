// Package review is the HTTP handler that reads AdmissionReviews and answers them, whatever bytes it gets; what it says is decided
// elsewhere. It is apart from package webhook, which talks to Kubernetes, so that it builds quickly where it is fuzzed.
package review

import (
	"bytes"
	"encoding/base64"
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
		response.Patch, response.PatchType = []byte(patchHole), new(admissionv1.PatchTypeJSONPatch)
	}
	for _, w := range v.Warnings {
		response.Warnings = append(response.Warnings, OneLine(w))
	}
	text, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{Kind: "AdmissionReview", APIVersion: admissionv1.SchemeGroupVersion.String()}, Response: response,
	})
	if err != nil {
		panic(err) // nothing in it cannot be encoded
	}
	before, after, _ := bytes.Cut(text, []byte(encodedHole))
	to.Write(before)
	if len(v.Patch) > 0 && v.Err == nil {
		to.Grow(base64.StdEncoding.EncodedLen(len(v.Patch)) + len(encodedHole) + len(after))
		to.WriteString(`"patch":"`)
		to.Write(base64.StdEncoding.AppendEncode(to.AvailableBuffer(), v.Patch))
		to.WriteByte('"')
	}
	to.Write(after)
}

// A patch may be long: it is encoded in its place, where patchHole is in the rest of the answer. No string in JSON has encodedHole in it.
const (
	patchHole   = "<patch>"
	encodedHole = `"patch":"PHBhdGNoPg=="`
)

// OneLine returns a text without line breaks: they are control characters, and the API server drops a warning that has any. Nor has it
// characters that change how those beside them look.
func OneLine(text string) string {
	unseen := func(r rune) bool {
		return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
	}
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
