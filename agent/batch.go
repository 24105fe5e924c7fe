package agent

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

const (
	// singlyFor is how long an agent asks for each secret by itself after KMS has refused to give several by one call: the
	// gateway does not have the call, a policy denies it, or one secret hides the others. It costs one call to find out.
	singlyFor = time.Hour
	// singlyAfterOutage is the same after a call for several was not answered, or by a failure of KMS. Should a gateway fail
	// at this call alone, then the next attempt has the secrets.
	singlyAfterOutage = time.Minute
)

// A batcher reads several secrets of one role by one call, with a secret for each of refs. What KMS did not give has no VersionID.
type batcher interface {
	readAll(ctx context.Context, refs []kms.Ref) ([]kms.Secret, error)
}

// errNoBatches is of readers that are no batchers: a client key's protocol has no call for several secrets.
var errNoBatches = errors.New("the identity has no call for several secrets")

func readAll(ctx context.Context, r reader, refs []kms.Ref) ([]kms.Secret, error) {
	if b, ok := r.(batcher); ok {
		return b.readAll(ctx, refs)
	}
	return nil, errNoBatches
}

func (h *hold) readAll(ctx context.Context, refs []kms.Ref) ([]kms.Secret, error) {
	if err := h.refuse(refs[0]); err != nil {
		return nil, err
	}
	given, err := readAll(ctx, h.reader, refs)
	h.note(err)
	return given, err
}

func (m *measured) readAll(ctx context.Context, refs []kms.Ref) ([]kms.Secret, error) {
	given, err := readAll(ctx, m.reader, refs)
	m.count(err)
	return given, err
}

// batches are what an agent knows of calls for several secrets.
type batches struct {
	singly map[string]time.Time // until when there is none, by the role that reads
	told   bool
}

func (b *batches) avoid(role string, d time.Duration) {
	if b.singly == nil {
		b.singly = map[string]time.Time{}
	}
	b.singly[role] = time.Now().Add(d)
}

// together asks for several secrets by one call where it can. It adds to got what KMS gave, and returns what is left to be
// asked for one by one. That is also what KMS refused among others: its answer to a call for that secret alone is what counts.
// If the first call fails nothing is left: it is the only one to find out that STS or KMS cannot be reached.
func (a *Agent) together(ctx context.Context, refs []kms.Ref, got values) (left []kms.Ref, failed error) {
	for n, batch := range divide(refs) {
		given, err := a.askAll(ctx, batch)
		if err != nil {
			failed = errors.Join(failed, a.needed(batch[0], err))
			if n == 0 {
				return nil, failed
			}
			continue
		}
		for i, ref := range batch {
			if i < len(given) && given[i].VersionID != "" {
				got[ref] = a.fetched(ref, given[i])
			} else {
				left = append(left, ref)
			}
		}
	}
	return left, failed
}

// divide makes batches of one role each, in which no two secrets have the same short name.
func divide(refs []kms.Ref) (all [][]kms.Ref) {
next:
	for _, ref := range refs {
		for i, batch := range all {
			if fits(batch, ref) {
				all[i] = append(batch, ref)
				continue next
			}
		}
		all = append(all, []kms.Ref{ref})
	}
	return all
}

func fits(batch []kms.Ref, ref kms.Ref) bool {
	for _, other := range batch {
		if other.RoleARN != ref.RoleARN || other.ShortName() == ref.ShortName() {
			return false
		}
	}
	return len(batch) < kms.MaxBatch
}

// askAll reads a batch, or nothing if its secrets must be asked for one by one. Its error is one that they would meet too.
func (a *Agent) askAll(ctx context.Context, batch []kms.Ref) ([]kms.Secret, error) {
	role := batch[0].RoleARN
	if len(batch) == 1 || time.Now().Before(a.batches.singly[role]) {
		return nil, nil
	}
	given, err := a.reader.readAll(ctx, batch)
	var refusal *kms.Error
	switch {
	case err == nil && slices.ContainsFunc(given, func(s kms.Secret) bool { return s.VersionID != "" }):
		return given, nil
	case err == nil:
		err = errors.New("KMS gave none of them")
	case errors.Is(err, errNoBatches):
	case !errors.As(err, &refusal), throttled(err), refusal.Class() == kms.CredentialsRejected:
		return nil, err
	case refusal.Class() == kms.Retryable && refusal.Status != http.StatusOK: // with OK, it is an answer that cannot be read
		a.batches.avoid(role, singlyAfterOutage)
		return nil, err
	}
	a.batches.avoid(role, singlyFor)
	if !a.batches.told {
		a.batches.told = true
		a.log.Info("secrets are asked for one by one, not by one call", "secrets", len(batch), "error", err)
	}
	return nil, nil
}
