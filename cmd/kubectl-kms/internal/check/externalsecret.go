package check

import (
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// Late reports whether kms-sync should have looked at an ExternalSecret and has not: it does not run, is far behind, or leaves the
// namespace out.
func Late(es *v1alpha1.ExternalSecret, now time.Time) bool {
	const grace = time.Minute
	status := es.Status
	switch next := status.NextRefreshTime; {
	case es.DeletionTimestamp != nil:
		return now.Sub(es.DeletionTimestamp.Time) > grace
	case status.ObservedGeneration == 0:
		return now.Sub(es.CreationTimestamp.Time) > grace
	case next == nil:
		return false
	case status.RefreshTime != nil:
		return now.Sub(next.Time) > max(grace, next.Sub(status.RefreshTime.Time)) // two intervals, as kms-sync itself says Stale
	default:
		return now.Sub(next.Time) > grace
	}
}
