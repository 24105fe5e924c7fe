package webhook

import (
	"net/http"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// Reasons, by result, besides those of packages review and, of denials, injector.
const (
	reasonNew         = "new"       // injected: for the first time
	reasonAgain       = "again"     // injected: what another webhook added since got its share
	reasonNotAsked    = "not-asked" // skipped: inject is "false", or there is no annotation of ours
	reasonMirror      = "mirror-pod"
	reasonComplete    = "already-injected" // skipped: the pod has all that it needs
	reasonValid       = "valid"            // of a workload
	reasonNotLabelled = "not-labelled"     // in a namespace that has not opted in, or is excluded

	reasonConfiguration = "configuration" // denied, or not checked: the webhook's own configuration

	reasonKube = "kubernetes" // error: the API server could not be asked
)

func skipped(reason string) review.Verdict {
	return review.Verdict{Result: review.Skipped, Reason: reason}
}

func denied(reason injector.Reason, err error) review.Verdict {
	code := int32(http.StatusForbidden)
	if reason == injector.WrongAnnotations || reason == injector.Conflict {
		code = http.StatusBadRequest
	}
	return review.Verdict{Result: review.Denied, Reason: string(reason), Err: err, Code: code}
}
