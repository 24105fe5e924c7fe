// Package when decides when an ExternalSecret is read from KMS. It does no I/O and keeps nothing: the same object, settings and time give
// the same answer, so that a controller which starts anew calls KMS for nothing that the one before would not have called it for.
package when

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

const (
	// Shortest is the shortest interval; a shorter one counts as it.
	Shortest = 10 * time.Second
	// rotationGrace spreads the refreshes that a rotation of a secret which many objects have causes over this time after it.
	rotationGrace = 3 * time.Minute
	// repairPause is the least time between two repairs of a Secret that another program changes again and again.
	repairPause = 5 * time.Second
	// firstRetry is the longest pause after the first failure; each further one doubles it, up to longestRetry, or to longestOutage while
	// STS or KMS does not answer: then an attempt seldom costs a call, and all are to be well five minutes after it.
	firstRetry    = 2 * time.Second
	longestRetry  = 5 * time.Minute
	longestOutage = 2 * time.Minute
	// longestAsked is the longest pause that a server's Retry-After can cause.
	longestAsked = time.Hour
	// skew is by how much the clocks of two replicas differ at most.
	skew = time.Minute
)

// Facts are what an answer depends on beside the object itself.
type Facts struct {
	Now time.Time
	// Polling is the controller's interval, for objects without one of their own; 0: no object is read for the time that has passed.
	Polling time.Duration
	// Stores are the present generations of the stores that the object names, as in status.storeGenerations.
	Stores map[string]int64
	// Missing and Drifted say that the Secret is not as it was written.
	Missing, Drifted bool
}

// Reason says why an object is read.
type Reason string

// The reasons, from the most urgent to the least.
const (
	New       Reason = "New"       // it never was read
	Requested Reason = "Requested" // its annotation kms.alibabacloud.com/refresh has another value
	Changed   Reason = "Changed"   // its spec, or a store, has
	Repair    Reason = "Repair"    // its Secret is missing, or not as it was written
	Retry     Reason = "Retry"     // the last attempt failed
	Rotation  Reason = "Rotation"  // KMS rotates one of its secrets
	Interval  Reason = "Interval"  // its interval has passed
	Never     Reason = "Never"     // not before something changes
)

// Due is when an object is read, and why. It is due if At is not after now; with Never At is zero.
type Due struct {
	At  time.Time
	Why Reason
}

// Is reports whether the object is to be read now.
func (d Due) Is(now time.Time) bool { return d.Why != Never && !d.At.After(now) }

// Next returns when an object is to be read.
//
// What an attempt was about is in the status, of a failed one too: observedGeneration, observedRefresh and storeGenerations. After a failed
// one status.nextRefreshTime is the next attempt, and without it there is none before a change: the spec has a mistake.
func Next(es *v1alpha1.ExternalSecret, f Facts) Due {
	status, now := &es.Status, f.Now
	ready := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionReady)
	failed := ready != nil && ready.Status == metav1.ConditionFalse
	policy := es.Spec.RefreshPolicy
	once := (policy == v1alpha1.RefreshCreatedOnce || es.Spec.Target.Immutable) && status.RefreshTime != nil && !f.Missing && !failed
	switch {
	case ready == nil && status.RefreshTime == nil:
		return Due{now, New}
	case es.Annotations[v1alpha1.AnnotationRefresh] != status.ObservedRefresh:
		return Due{now, Requested}
	case status.ObservedGeneration != es.Generation && (!once || es.Spec.Target.Immutable):
		return Due{now, Changed}
	case !maps.Equal(status.StoreGenerations, f.Stores) && !once && (failed || policy != v1alpha1.RefreshOnChange):
		return Due{now, Changed}
	case failed && status.NextRefreshTime == nil:
		return Due{Why: Never}
	case failed && status.NextRefreshTime.After(now.Add(longestAsked+skew)):
		return Due{now, Retry} // a clock set back
	case failed:
		return Due{status.NextRefreshTime.Time, Retry}
	case status.RefreshTime == nil || status.RefreshTime.After(now.Add(skew)): // a pruned status, or a clock set back
		return Due{now, Interval}
	case f.Missing, f.Drifted && !once:
		return Due{status.RefreshTime.Add(repairPause), Repair}
	case once, policy == v1alpha1.RefreshOnChange, policy == v1alpha1.RefreshCreatedOnce, f.Polling <= 0:
		return Due{Why: Never}
	}
	return scheduled(es, Every(es, f.Polling))
}

// scheduled returns when an object is due that was read with success: after the interval, give or take a tenth, or soon after KMS rotates
// one of its secrets. The chance in it is the object's and the last refresh's own.
func scheduled(es *v1alpha1.ExternalSecret, every time.Duration) Due {
	from := es.Status.RefreshTime.Time
	due := Due{from.Add(every - every/10 + part(es, from, every/5)), Interval}
	var rotation time.Time // the first to come; one that KMS is late with is waited for by the interval
	for _, s := range es.Status.Secrets {
		if next := s.NextRotation; next != nil && next.After(from) && (rotation.IsZero() || next.Time.Before(rotation)) {
			rotation = next.Time
		}
	}
	if rotation.IsZero() {
		return due
	}
	if at := rotation.Add(part(es, rotation, rotationGrace)); at.Before(due.At) {
		return Due{at, Rotation}
	}
	return due
}

// part returns a part of d that depends on the object and on t, evenly spread.
func part(es *v1alpha1.ExternalSecret, t time.Time, d time.Duration) time.Duration {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s/%s/%s %d", es.Namespace, es.Name, es.UID, t.Unix()))
	return time.Duration(float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53) * float64(d))
}

// Every returns the interval of an object; 0 if objects are not read for the time that has passed.
func Every(es *v1alpha1.ExternalSecret, polling time.Duration) time.Duration {
	if polling <= 0 {
		return 0
	}
	if own, err := time.ParseDuration(es.Spec.RotationInterval); err == nil && own > 0 {
		polling = own
	}
	return min(max(polling, Shortest), 365*24*time.Hour)
}

// After returns the pause after so many failures in a row, the last one included: at random up to twice the one before, and at least what
// the server asked for.
func After(failures int, asked, every time.Duration, outage bool) time.Duration {
	longest := longestRetry
	if outage {
		longest = longestOutage
	}
	if every > 0 {
		longest = min(6*every, longest)
	}
	return max(min(asked, longestAsked), pause.UpTo(pause.Doubled(firstRetry, max(failures-1, 0), longest)))
}

// Stamp returns a time as a status has it, in whole seconds: the next one, or a pause would be shorter than the server asked for.
func Stamp(t time.Time) *metav1.Time {
	if whole := t.Truncate(time.Second); !whole.Equal(t) {
		t = whole.Add(time.Second)
	}
	return new(metav1.NewTime(t))
}

// Confirmed reports whether KMS has said long enough ago for the first time, and again now, that none of an object's secrets exists, for
// the object's deletionPolicy to be carried out: a poll apart, a minute at least. first is zero if the answer before was another one.
func Confirmed(first, now time.Time, every time.Duration) bool {
	return !first.IsZero() && now.Sub(first) >= max(every-every/10, time.Minute)
}
