package localapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/pause"
)

// What the local API may cause of calls to KMS, whose quota all agents of the account share.
const (
	callEvery = time.Second / 5
	callBurst = 20
	// callWait is how long a read waits for its turn before it is refused.
	callWait = 2 * time.Second
)

// ration is a token bucket. The zero ration gives without limit.
type ration struct {
	every time.Duration
	burst int

	mu   sync.Mutex
	next time.Time // when the next call would be due if they came evenly
}

// take returns when a call may be made. Its error is an *httpapi.Error, or ctx's.
func (r *ration) take(ctx context.Context) error {
	if r.every == 0 {
		return nil
	}
	r.mu.Lock()
	now := time.Now()
	if earliest := now.Add(-r.every * time.Duration(r.burst-1)); r.next.Before(earliest) {
		r.next = earliest
	}
	wait := r.next.Sub(now)
	if wait > callWait {
		r.mu.Unlock()
		return &httpapi.Error{
			Status: http.StatusTooManyRequests, Code: httpapi.CodeTooManyCalls, RetryAfter: wait - callWait,
			Message: fmt.Sprintf("the requests to this agent cause more than %d calls to KMS a second", time.Second/r.every),
			Recommend: "ask again later; ask for secrets without refreshNow and without versions that do not exist, " +
				"so that the answer comes from the cache",
		}
	}
	r.next = r.next.Add(r.every)
	r.mu.Unlock()
	pause.Sleep(ctx, wait)
	return ctx.Err()
}

// rationed reports whether the agent itself has refused a call.
func rationed(err error) bool {
	var e *httpapi.Error
	return errors.As(err, &e)
}
