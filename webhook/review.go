package webhook

import (
	"errors"
	"fmt"
	"net/http"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// A request is what an AdmissionReview of admission.k8s.io/v1 asks, with the object read as T: a pod of 100 kB is gone through once,
// and what no decision needs is never made into Go values.
type request[T any] struct {
	UID       string
	Operation string
	Namespace string
	DryRun    bool
	Object    T
	OldObject T
}

// readReview reads an AdmissionReview. There may be a part of the request beside an error.
func readReview[T any](text []byte, readObject func(*rawjson.Reader) T) (req request[T], err error) {
	r := rawjson.NewReader(text)
	for name := range r.Members {
		if string(name) == "request" {
			req = readRequest(r, readObject)
		}
	}
	if err := r.End(); err != nil {
		return req, fmt.Errorf("decode the AdmissionReview: %w", err)
	}
	if req.UID == "" {
		return req, errors.New("the AdmissionReview has no request")
	}
	return req, nil
}

func readRequest[T any](r *rawjson.Reader, readObject func(*rawjson.Reader) T) (req request[T]) {
	for name := range r.Members {
		switch string(name) {
		case "uid":
			req.UID = r.Text()
		case "operation":
			req.Operation = r.Text()
		case "namespace":
			req.Namespace = r.Text()
		case "dryRun":
			req.DryRun = r.Bool()
		case "object":
			req.Object = readObject(r)
		case "oldObject":
			req.OldObject = readObject(r)
		}
	}
	return req
}

// A verdict is what a request ends in. Result and reason are labels of a metric: both are from the fixed sets below.
type verdict struct {
	result, reason string
	patch          []byte
	warnings       []string
	audit          map[string]string
	err            error // for the person whose request is not allowed
	code           int32 // HTTP status that goes with err
}

const (
	resultInjected = "injected"
	resultSkipped  = "skipped"
	resultDenied   = "denied"
	resultError    = "error"
)

// Reasons, by result.
const (
	reasonNew         = "new"       // injected: for the first time
	reasonAgain       = "again"     // injected: what another webhook added since got its share
	reasonNotAsked    = "not-asked" // skipped: inject is "false", or there is no annotation of ours
	reasonMirror      = "mirror-pod"
	reasonComplete    = "already-injected" // skipped: the pod has all that it needs
	reasonValid       = "valid"            // of a workload
	reasonNotLabelled = "not-labelled"     // of a workload, or a pod that nobody controls, in a namespace that has not opted in
	reasonAnnotations = "annotations"      // denied: an annotation is wrong
	reasonPolicy      = "policy"           // denied: the operator does not allow it
	reasonRole        = "role"             // denied: no role, or none that is allowed
	reasonPod         = "pod"              // denied: the pod's own content is in the way
	reasonKube        = "kubernetes"       // error: the API server could not be asked
	reasonBadReview   = "bad-review"       // error: not an AdmissionReview
	reasonPanic       = "panic"
	reasonInternal    = "internal"
)

func skipped(reason string) verdict { return verdict{result: resultSkipped, reason: reason} }

func denied(reason string, err error) verdict {
	code := int32(http.StatusForbidden)
	if reason == reasonAnnotations || reason == reasonPod {
		code = http.StatusBadRequest
	}
	return verdict{result: resultDenied, reason: reason, err: err, code: code}
}

// failed is no answer to what was asked: the API server's caller should try again.
func failed(reason string, err error) verdict {
	return verdict{result: resultError, reason: reason, err: fmt.Errorf("kms-agent-injector: %w", err), code: http.StatusInternalServerError}
}

var statusReasons = map[int32]metav1.StatusReason{
	http.StatusBadRequest:          metav1.StatusReasonBadRequest,
	http.StatusForbidden:           metav1.StatusReasonForbidden,
	http.StatusInternalServerError: metav1.StatusReasonInternalError,
}

// advice is the verdict of somebody who is asked for advice only: what he cannot answer he lets pass.
func (v verdict) advice() verdict {
	if v.result != resultError {
		return v
	}
	return verdict{result: v.result, reason: v.reason, warnings: append(v.warnings, "not checked: "+v.err.Error())}
}
