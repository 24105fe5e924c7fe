package sync

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/when"
)

// A value is what KMS answered for a Ref.
type value struct {
	secret kms.Secret
	err    error // an *askerError
}

const (
	// parallel is how many secrets of one object are read at a time.
	parallel = 4
	// mostData is what the secrets of one object may have together. A Secret takes 1 MiB, maybe of parts of them, and several objects are
	// in memory at a time.
	mostData = 4 << 20
)

// read reads the distinct secrets; that they have too much together is a problem. Its error is a *cloud.Wait, if some have to wait for
// the budget of calls or for an answer, or the end of ctx.
func (r *round) read(ctx context.Context, why when.Reason) (map[content.Ref]value, error) {
	var mu sync.Mutex
	values := map[content.Ref]value{}
	var group errgroup.Group
	group.SetLimit(parallel)
	var waits *cloud.Wait
	size := 0
	for ref, asker := range r.askers {
		group.Go(func() error {
			secret, err := r.cloud.Read(ctx, asker, ref.Ref, priority(why), r.maxAge(why), r.attempt.begun)
			mu.Lock()
			defer mu.Unlock()
			var wait *cloud.Wait
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &wait) && wait.Err == nil:
				if waits == nil || wait.After < waits.After { // what has its turn first is read first; the others keep their place
					waits = wait
				}
			case err != nil:
				values[ref] = value{err: &askerError{asker, err}}
			default:
				if size += len(secret.Data); size > mostData {
					secret.Data = nil
				}
				values[ref] = value{secret: secret}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if waits != nil {
		return nil, waits
	}
	if size > mostData {
		r.fail("", reasonContent, fmt.Sprintf("the secrets of the object have more than %d MiB together; divide it into several", mostData>>20))
	}
	return values, nil
}

// maxAge is how old an answer of KMS may be that another object has brought, so that there is one call an interval however many objects
// want a secret. A Secret that was changed by others gets back what it had. A new one is as young as the controller's interval at least,
// however long the object's own is.
func (r *round) maxAge(why when.Reason) time.Duration {
	switch why {
	case when.Repair:
		return max(r.every(), r.PollingInterval)
	case when.New:
		if age := min(r.every(), r.polling()) * 17 / 20; age > 0 {
			return age
		}
	case when.Interval:
		return r.every() * 17 / 20 // two refreshes of one object are nine tenths of it apart, or more
	case when.Requested:
		return 0
	}
	return justNow
}

// justNow is the age of what is as good as read now, where a store of a thousand objects changed, or an outage ended for them.
const justNow = 10 * time.Second

func priority(why when.Reason) cloud.Priority {
	switch why {
	case when.New:
		return cloud.First
	case when.Requested, when.Changed, when.Repair:
		return cloud.Changed
	}
	return cloud.Due
}
