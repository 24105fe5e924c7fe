package review

import (
	"errors"
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// A Request is what an AdmissionReview of admission.k8s.io/v1 asks, with the object decoded as T. Of the bytes that came nothing is kept
// but what T keeps.
type Request[T any] struct {
	UID       string `json:"uid"`
	Operation string `json:"operation"`
	Namespace string `json:"namespace"`
	DryRun    bool   `json:"dryRun"`
	Object    T      `json:"object"`
	OldObject T      `json:"oldObject"`
	Source    string `json:"-"` // address of the caller, without the port
}

// A textKeeper is an object that keeps parts of the text that it was decoded from, until the request is answered.
type textKeeper interface{ KeepTexts(document []byte) }

// maxNamespace is the length of a namespace's name at the most: a DNS label.
const maxNamespace = 63

// decodeReview decodes an AdmissionReview. The request is never nil.
func decodeReview[T any](text []byte) (*Request[T], error) {
	var review struct {
		Request Request[T] `json:"request"`
	}
	req := &review.Request
	err := kubejson.Limit(text)
	if err == nil {
		err = kubejson.Unmarshal(text, &review)
	}
	if err != nil {
		return &Request[T]{}, fmt.Errorf("decode the AdmissionReview: %w", err)
	}
	if req.UID == "" {
		return req, errors.New("the AdmissionReview has no request")
	}
	if len(req.Namespace) > maxNamespace {
		req.Namespace = ""
		return req, fmt.Errorf("the namespace of the AdmissionReview has more than %d characters", maxNamespace)
	}
	for _, object := range []any{&req.Object, &req.OldObject} {
		if k, ok := object.(textKeeper); ok {
			k.KeepTexts(text)
		}
	}
	return req, nil
}
