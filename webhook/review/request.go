package review

import (
	"errors"
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// A Request is what an AdmissionReview of admission.k8s.io/v1 asks, with the object read as T: a pod of 100 kB is gone through once,
// and what no decision needs is never made into Go values.
type Request[T any] struct {
	UID       string
	Operation string
	Namespace string
	DryRun    bool
	Source    string // address of the caller, without the port
	Object    T
	OldObject T

	Room []byte // for Verdict.Patch: the Handler uses these bytes again when it has answered
}

// maxNamespace is the length of a namespace's name at the most: a DNS label.
const maxNamespace = 63

// readReview reads an AdmissionReview. There may be a part of the request beside an error.
func readReview[T any](text string, readObject func(*rawjson.Reader) T) (req Request[T], err error) {
	r := rawjson.NewReader(text)
	for name := range r.Members {
		if name == "request" {
			req = readRequest(r, readObject)
		}
	}
	if err := r.End(); err != nil {
		return req, fmt.Errorf("decode the AdmissionReview: %w", err)
	}
	if req.UID == "" {
		return req, errors.New("the AdmissionReview has no request")
	}
	if len(req.Namespace) > maxNamespace {
		req.Namespace = ""
		return req, fmt.Errorf("the namespace of the AdmissionReview has more than %d characters", maxNamespace)
	}
	return req, nil
}

func readRequest[T any](r *rawjson.Reader, readObject func(*rawjson.Reader) T) (req Request[T]) {
	for name := range r.Members {
		switch name {
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
