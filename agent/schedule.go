package agent

import (
	"math/rand/v2"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

const (
	// rotationGrace spreads the refreshes that a managed secret's rotation causes over this time after it, so that a thousand
	// pods that all need a new session for it stay below the 500 a minute that STS gives.
	rotationGrace = 3 * time.Minute
	// firstRetry is the longest pause after the first failed refresh; each further one doubles it.
	firstRetry = 2 * time.Second
	// longestInterval is as good as never; sums and products of much longer ones are no durations any more.
	longestInterval = 365 * 24 * time.Hour
	// catchUp is the longest that the pauses get, and with it the time over which a fleet comes back after an outage.
	catchUp = 5 * time.Minute
	// slowestInterval is the longest interval that throttling leads to.
	slowestInterval = time.Hour
	// recovery is the part by which a longer interval shrinks at each success. Where there are more pods than the quota is for, each
	// makes some 14 refreshes without a refusal for one with, since 0.95 to that power is a half: 93 % succeed, however many they are.
	recovery = 20
)

// interval returns the time between two refreshes; 0: never.
func interval(doc agentconfig.Config) time.Duration {
	return min(time.Duration(doc.RefreshInterval), longestInterval)
}

// schedule says when an agent asks for its secrets. A fleet of agents has no other coordination than the chance in it.
type schedule struct {
	least    time.Duration // as the pod asks for; 0: never
	interval time.Duration // at present: longer while STS or KMS has asked for fewer calls
	failures int           // since the last success
	slowed   bool          // since the last success
}

// newSchedule returns the schedule of a configuration, with the interval of the process before; 0: it said none.
func newSchedule(doc agentconfig.Config, before time.Duration) schedule {
	least := interval(doc)
	return schedule{least: least, interval: max(least, min(before, slowestInterval))}
}

// first returns the pause until the first refresh of an agent that took over what was held, and maybe when the one before it would have
// asked next. One that is late, as all of a node are that was suspended, comes at any time in the next interval.
func (s *schedule) first(held snapshot, planned, now time.Time) time.Duration {
	if wait := planned.Sub(now); wait > 0 && wait <= s.interval+s.interval/10 { // else it is of another clock
		return wait
	}
	if held.At.After(now) {
		held.At = now // the clock has been set back since
	}
	if wait := s.until(held, held.At, now); wait > 0 {
		return wait
	}
	return rand.N(min(s.interval, catchUp))
}

// succeeded returns the pause after a successful refresh.
func (s *schedule) succeeded(held snapshot, now time.Time) time.Duration {
	if !s.slowed {
		s.interval = max(s.least, s.interval-s.interval/recovery)
	}
	s.failures, s.slowed = 0, false
	return s.until(held, now, now)
}

// failed returns the pause after a failed refresh; at least the one that the cloud has asked for. Where it was for too many calls there
// are fewer from now on.
func (s *schedule) failed(asked time.Duration, throttled bool) time.Duration {
	if throttled && !s.slowed {
		s.slowed = true
		s.interval = max(s.interval, min(2*s.interval, slowestInterval))
	}
	first := firstRetry
	if throttled {
		first = max(first, s.interval/8) // what the pod has is good for longer than that
	}
	wait := max(asked, pause.UpTo(pause.Doubled(first, s.failures, s.longest())))
	s.failures++
	return wait
}

// longest follows the interval where that is short, so that a pod which wants fresh values soon gets them soon.
func (s *schedule) longest() time.Duration { return min(6*s.interval, catchUp) }

// until returns the time from now until the values are due to be fetched again: after the interval, give or take a tenth so that pods
// that started together do not stay together, or soon after KMS rotates one of them, if that is earlier.
func (s *schedule) until(held snapshot, from, now time.Time) time.Duration {
	due := from.Add(pause.Around(s.interval))
	var rotation time.Time // the first to come; one chance for all, or a pod with many secrets would always be early
	for _, v := range held.Values {
		next := v.secret.NextRotation
		if next.After(held.At) && (rotation.IsZero() || next.Before(rotation)) { // else it has none, or KMS is late with it
			rotation = next
		}
	}
	if rotation = rotation.Add(rand.N(rotationGrace)); rotation.After(held.At) && rotation.Before(due) {
		due = rotation
	}
	return due.Sub(now)
}

// lasting returns the secrets that need no further fetch, since their values can never be others: a version of a generic secret keeps
// its value, and was asked for by its identifier. A version of a managed secret may still get its value from a rotation under way.
func (v values) lasting() values {
	kept := values{}
	for ref, v := range v {
		if ref.VersionID != "" && v.absent == nil && v.secret.Type == "Generic" {
			kept[ref] = v
		}
	}
	return kept
}
