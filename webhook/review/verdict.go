package review

import (
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

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
