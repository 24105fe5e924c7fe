package webhook

import (
	"cmp"
	"errors"
	"net/http"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// Reasons, by result, besides those of package review.
const (
	reasonNew         = "new"       // injected: for the first time
	reasonAgain       = "again"     // injected: what another webhook added since got its share
	reasonNotAsked    = "not-asked" // skipped: inject is "false", or there is no annotation of ours
	reasonMirror      = "mirror-pod"
	reasonComplete    = "already-injected" // skipped: the pod has all that it needs
	reasonValid       = "valid"            // of a workload
	reasonNotLabelled = "not-labelled"     // in a namespace that has not opted in, or is excluded
	reasonAnnotations = "annotations"      // denied: an annotation is wrong
	reasonPolicy      = "policy"           // denied: the operator does not allow it
	reasonRole        = "role"             // denied: no role, or none that is allowed
	reasonPod         = "pod"              // denied: the pod's own content is in the way
	reasonKube        = "kubernetes"       // error: the API server could not be asked
	reasonInternal    = "internal"
)

func skipped(reason string) review.Verdict {
	return review.Verdict{Result: review.Skipped, Reason: reason}
}

func denied(reason string, err error) review.Verdict {
	code := int32(http.StatusForbidden)
	if reason == reasonAnnotations || reason == reasonPod {
		code = http.StatusBadRequest
	}
	return review.Verdict{Result: review.Denied, Reason: reason, Err: err, Code: code}
}

// refusals are all that speaks against a pod, so that its author hears of it at once.
type refusals struct {
	reason   string // of the first; "" for none
	mistakes config.Mistakes
	other    error
}

func (r *refusals) add(reason string, err error) {
	if err == nil {
		return
	}
	r.reason = cmp.Or(r.reason, reason)
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		r.mistakes = append(r.mistakes, mistakes...)
		return
	}
	r.other = errors.Join(r.other, err)
}

func (r refusals) verdict() review.Verdict {
	err := r.other
	if len(r.mistakes) > 0 {
		err = errors.Join(r.mistakes, r.other)
	}
	return denied(r.reason, err)
}
