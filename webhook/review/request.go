package review

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// A Request is what an AdmissionReview of admission.k8s.io/v1 asks.
type Request struct {
	UID       string `json:"uid"`
	Operation string `json:"operation"`
	Namespace string `json:"namespace"`
	DryRun    bool   `json:"dryRun"`
	Source    string `json:"-"` // address of the caller, without the port

	// JSON, which is good until the request is answered; nil for none.
	Object, OldObject []byte `json:"-"`
}

// A span is where in the review a value is.
type span struct{ start, end int64 }

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (s *span) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	value, err := dec.ReadValue()
	s.end = dec.InputOffset()
	s.start = s.end - int64(len(value))
	return err
}

// maxNamespace is the length of a namespace's name at the most: a DNS label.
const maxNamespace = 63

// decodeReview decodes an AdmissionReview.
func decodeReview(text []byte) (*Request, error) {
	var review struct {
		Request struct {
			Request
			Object    span `json:"object"`
			OldObject span `json:"oldObject"`
		} `json:"request"`
	}
	req := &review.Request.Request
	if err := kubejson.Unmarshal(text, &review); err != nil {
		return &Request{}, fmt.Errorf("decode the AdmissionReview: %w", err)
	}
	req.Object = text[review.Request.Object.start:review.Request.Object.end]
	req.OldObject = text[review.Request.OldObject.start:review.Request.OldObject.end]
	if req.UID == "" {
		return req, errors.New("the AdmissionReview has no request")
	}
	if len(req.Namespace) > maxNamespace {
		req.Namespace = ""
		return req, fmt.Errorf("the namespace of the AdmissionReview has more than %d characters", maxNamespace)
	}
	return req, nil
}
