package emulator

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// strike is what a fault does to one call; the zero value does nothing.
type strike struct {
	fault     Fault
	throttled bool
	skew      time.Duration
	removed   <-chan struct{} // lets a hanging call go
}

// strike picks the fault for a call and counts it.
func (f *faults) strike(c *call) strike {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, candidate := range f.list {
		if candidate.spent() || !candidate.matches(c) || candidate.MaxQPS > 0 && candidate.pass(c.now) {
			continue
		}
		candidate.struck++
		return strike{
			fault:     candidate.Fault,
			throttled: candidate.MaxQPS > 0,
			skew:      time.Duration(candidate.ClockSkew),
			removed:   candidate.removed,
		}
	}
	return strike{}
}

func (f *setFault) matches(c *call) bool {
	return asks(c.action, c.secret(), f.Action, f.Secret)
}

// pass reports whether the call is within MaxQPS, and if so remembers it.
func (f *setFault) pass(now time.Time) bool {
	f.passed = slices.DeleteFunc(f.passed, func(t time.Time) bool { return now.Sub(t) >= time.Second })
	if len(f.passed) >= f.MaxQPS {
		return false
	}
	f.passed = append(f.passed, now)
	return true
}

// answers reports whether the fault takes the place of the operation.
func (s strike) answers() bool { return s.throttled || s.fault.Status != 0 }

func (s strike) answer(c *call) answer {
	switch {
	case s.throttled && c.service == kms:
		return refusal(c, problemf(http.StatusTooManyRequests, "Rejected.Throttling", "QPS Limit Exceeded"))
	case s.throttled:
		return refusal(c, problemf(usualStatus["Throttling.User"], "Throttling.User", "Request was denied due to user flow control."))
	case s.fault.Body != "":
		return newAnswer(c, s.fault.Status, "Body", "text/html; charset=utf-8", []byte(s.fault.Body))
	}
	return refusal(c, problemf(s.fault.Status, s.fault.Code, "%s", s.fault.Message))
}

// outcome is what the call is counted as.
func (s strike) outcome(code string) string {
	switch {
	case s.fault.Hang != "":
		return CodeHang
	case s.fault.Cut != "":
		return CodeCut
	}
	return code
}

// send writes the answer as far as the fault lets it.
func (s strike) send(w http.ResponseWriter, r *http.Request, a answer) {
	if s.fault.Latency > 0 {
		ctx, cancel := context.WithTimeout(r.Context(), time.Duration(s.fault.Latency))
		defer cancel()
		s.wait(ctx)
		if r.Context().Err() != nil { // an answer could still reach a client that has given up, and it would not be late
			panic(http.ErrAbortHandler)
		}
	}
	if cmp.Or(s.fault.Hang, s.fault.Cut) == AtHeaders {
		s.stop(r)
	}
	for name, values := range a.header {
		w.Header()[name] = values
	}
	if s.answers() && s.fault.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(time.Duration(s.fault.RetryAfter).Seconds())))
	}
	w.WriteHeader(a.status)
	if cmp.Or(s.fault.Hang, s.fault.Cut) == AtBody {
		_, _ = w.Write(a.body[:len(a.body)/2])
		_ = http.NewResponseController(w).Flush()
		s.stop(r)
	}
	// A client that is gone has its own reasons.
	_, _ = w.Write(a.body)
}

// stop ends the call without the rest of the answer, at once or after hanging.
func (s strike) stop(r *http.Request) {
	if s.fault.Hang != "" {
		s.wait(r.Context())
	}
	// The server closes the connection, or under HTTP/2 resets the stream, and logs nothing.
	panic(http.ErrAbortHandler)
}

func (s strike) wait(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-s.removed:
	}
}
