package review

import (
	"bytes"
	"encoding/json"
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
	case v.Patch != nil:
		response.Patch, response.PatchType = v.Patch, new(admissionv1.PatchTypeJSONPatch)
	}
	for _, w := range v.Warnings {
		response.Warnings = append(response.Warnings, OneLine(w))
	}
	err := json.NewEncoder(to).Encode(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{Kind: "AdmissionReview", APIVersion: admissionv1.SchemeGroupVersion.String()}, Response: response,
	})
	if err != nil {
		panic(err) // nothing in it cannot be encoded
	}
}

// OneLine is a text without line breaks: they are control characters, and the API server drops a warning that has any. Nor has it
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
