package sync

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// Reasons of the condition Ready, besides those that packages store and target give their refusals.
const (
	reasonSynced      = "Synced"
	reasonInvalid     = "InvalidSpec"
	reasonForbidden   = "Forbidden"
	reasonUntrusted   = "NotTrusted" // STS gives the identity no session
	reasonNotFound    = "NotFound"
	reasonThrottled   = "Throttled"
	reasonUnreachable = "Unreachable"
	reasonContent     = "InvalidContent" // what KMS has cannot become what the object asks for
	reasonWrite       = "WriteFailed"    // the API server does not take the Secret now
)

// A problem is why an object is not as its spec asks.
type problem struct {
	key     string // of KMS; "": the object as a whole
	reason  string
	message string // with cause and cure
}

// Limits of what a status says, which etcd takes up to 1.5 MB of with the spec: bytes of a condition's message, of which Kubernetes takes
// 32 kB, problems that are listed with their secrets, and bytes of each; and bytes of an event's note: the API server refuses a longer
// one, and the library drops that without a word.
const (
	mostMessage  = 4096
	mostProblems = 50
	mostProblem  = 1024
	mostNote     = 1024
)

// clip leaves the beginning of a long text: at most so many bytes.
func clip(text string, most int) string {
	const more = "…"
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most-len(more)], "") + more
}

// urgency orders reasons: what a person has to change precedes what may pass by itself.
var urgency = []string{
	reasonInvalid, "StoreNotReady", reasonUntrusted, reasonForbidden, reasonNotFound, reasonContent, reasonThrottled, reasonUnreachable,
}

// summary is the reason and the message of the condition Ready for problems, of which there is at least one.
func summary(problems []problem) (reason, message string) {
	rank := func(f problem) int {
		if i := slices.Index(urgency, f.reason); i >= 0 {
			return i
		}
		return 0
	}
	first := slices.MinFunc(problems, func(a, b problem) int { return cmp.Compare(rank(a), rank(b)) })
	said := map[string]bool{}
	for _, f := range problems {
		if len(message) <= mostMessage && !said[f.message] {
			message += f.message + "\n"
		}
		said[f.message] = true
	}
	return first.reason, clip(strings.TrimSuffix(message, "\n"), mostMessage)
}

// setReady sets the condition Ready and reports whether its status or its reason changed, which is worth an event.
func setReady(conditions *[]metav1.Condition, generation int64, status metav1.ConditionStatus, reason, message string) (changed bool) {
	before := meta.FindStatusCondition(*conditions, v1alpha1.ConditionReady)
	changed = before == nil || before.Status != status || before.Reason != reason
	meta.SetStatusCondition(conditions, metav1.Condition{
		Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: message, ObservedGeneration: generation,
	})
	return changed
}

// setFlag sets a condition that is there only while it is true.
func setFlag(es *v1alpha1.ExternalSecret, condition string, on bool, reason, message string) {
	if !on {
		meta.RemoveStatusCondition(&es.Status.Conditions, condition)
		return
	}
	meta.SetStatusCondition(&es.Status.Conditions, metav1.Condition{
		Type: condition, Status: metav1.ConditionTrue, Reason: reason, Message: message, ObservedGeneration: es.Generation,
	})
}

// setStale says whether the last good refresh is older than two intervals, and why; "": it is not, whatever its age.
func setStale(es *v1alpha1.ExternalSecret, interval time.Duration, now time.Time, why string) {
	last := es.Status.RefreshTime
	stale := why != "" && last != nil && interval > 0 && now.Sub(last.Time) > 2*interval
	message := ""
	if stale {
		message = fmt.Sprintf("the Secret has what KMS had at %s; %s", last.UTC().Format(time.RFC3339), why)
	}
	setFlag(es, v1alpha1.ConditionStale, stale, "NotRefreshed", message)
}

// Outcomes in ack-secret-manager's status.
const (
	resultSucceeded = "Succeeded"
	resultFailed    = "Failed"
)

// syncResults is ack-secret-manager's form of an outcome: one entry without a key for a success, else one for each failure, of very
// many for the first, and one that counts the others. A time moves only when its result changes, or when the Secret is written.
func syncResults(before []v1alpha1.DataSyncResult, problems []problem, written bool, now time.Time) []v1alpha1.DataSyncResult {
	results := []v1alpha1.DataSyncResult{{Status: resultSucceeded}}
	if len(problems) > 0 {
		results = nil
		add := func(key, reason string) {
			key = cmp.Or(key, "update_operation")
			results = append(results, v1alpha1.DataSyncResult{ExternalSecretKey: key, Status: resultFailed, Reason: reason})
		}
		for _, f := range problems[:min(mostProblems, len(problems))] {
			add(f.key, clip(f.message, mostProblem))
		}
		if more := len(problems) - mostProblems; more > 0 {
			add("", fmt.Sprintf("… and %d more failures", more))
		}
	}
	for i := range results {
		r := &results[i]
		r.SynchronizationTime = &metav1.Time{Time: now}
		same := slices.IndexFunc(before, func(b v1alpha1.DataSyncResult) bool {
			return b.ExternalSecretKey == r.ExternalSecretKey && b.Status == r.Status
		})
		if same >= 0 && !written && before[same].SynchronizationTime != nil {
			r.SynchronizationTime = before[same].SynchronizationTime
		}
	}
	return results
}
