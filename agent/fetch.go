package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

const (
	// parallel is the number of simultaneous fetches.
	parallel = 4
	// singlyFor is how long an agent fetches secrets one by one after KMS refused BatchGetSecretValue: the gateway does not have the
	// call, a policy denies it, or one secret hides the others. Finding out costs one call.
	singlyFor = time.Hour
	// singlyAfterOutage is the same after BatchGetSecretValue got no answer or an error 5xx. If a gateway fails at this call alone, the
	// next attempt still gets the secrets.
	singlyAfterOutage = time.Minute
)

// values are KMS's answers: one entry for each distinct secret and version, however many files need it.
type values map[kms.Ref]value

// value is a secret, or says that KMS does not have it. That is an error only for files in which it is not optional.
type value struct {
	secret kms.Secret
	absent *kms.Error
}

// refsOf returns the secrets that a file is made of, in the order of its From.
func refsOf(f agentconfig.File) []kms.Ref {
	if len(f.From) == 0 {
		return []kms.Ref{{Name: f.Secret, VersionID: f.VersionID, VersionStage: f.VersionStage, RoleARN: f.RoleARN}}
	}
	var refs []kms.Ref
	for _, from := range f.From {
		refs = append(refs, kms.Ref{Name: from.Secret, RoleARN: f.RoleARN})
	}
	return refs
}

// refs returns the distinct secrets of the document, in its order.
func (a *Agent) refs() []kms.Ref {
	var refs []kms.Ref
	for _, f := range a.declared() {
		for _, ref := range refsOf(f) {
			if !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
	}
	return refs
}

// missing returns the secrets of the document that are not in got.
func (a *Agent) missing(got values) []kms.Ref {
	return slices.DeleteFunc(a.refs(), func(ref kms.Ref) bool {
		_, ok := got[ref]
		return ok
	})
}

// fetch adds the missing secrets to got. It reports all refused secrets together.
func (a *Agent) fetch(ctx context.Context, got values) error {
	missing, failed := a.fetchTogether(ctx, a.missing(got), got)
	if len(missing) == 0 {
		return failed
	}
	answers, errs := make([]value, len(missing)), make([]error, len(missing))
	ask := func(i int) {
		answers[i], errs[i] = a.ask(ctx, missing[i])
	}
	// The first fetch goes alone: it gets the credentials and the connection that the others share, and if STS or KMS is unreachable,
	// it is the only call that fails.
	if ask(0); errs[0] != nil && !failure.Refused(errs[0]) {
		return errors.Join(failed, errs[0])
	}
	var group errgroup.Group
	group.SetLimit(parallel)
	for i := 1; i < len(missing); i++ {
		group.Go(func() error { ask(i); return nil })
	}
	_ = group.Wait() // ask has kept the errors, each for its secret
	for i, ref := range missing {
		if errs[i] == nil {
			got[ref] = answers[i]
		}
	}
	return errors.Join(failed, errors.Join(errs...))
}

// ask fetches one secret.
func (a *Agent) ask(ctx context.Context, ref kms.Ref) (value, error) {
	secret, err := a.source.Read(ctx, ref)
	if err == nil {
		return a.fetched(ref, secret), nil
	}
	if refusal, ok := errors.AsType[*kms.Error](err); ok && refusal.Class() == kms.NotFound {
		return value{absent: refusal}, nil
	}
	return value{}, a.needed(ref, err)
}

func (a *Agent) fetched(ref kms.Ref, secret kms.Secret) value {
	a.log.Debug("fetched", logkey.Secret, ref.String(), logkey.Version, secret.VersionID)
	return value{secret: secret}
}

// needed adds to an error the files that need the secret.
func (a *Agent) needed(ref kms.Ref, err error) error {
	if _, refused := errors.AsType[*kms.Error](err); !refused {
		return err
	}
	var labels []string
	for _, f := range a.declared() {
		if slices.Contains(refsOf(f), ref) {
			labels = append(labels, label(f))
		}
	}
	return fmt.Errorf("%s: %w", strings.Join(labels, ", "), err)
}

// fetchTogether fetches several secrets by one call where it can. It adds the answers to got, and returns the secrets that must be fetched
// one by one. These include secrets that KMS refused among others, because only the answer to a call for one secret alone counts. If the
// first call fails, it returns no secrets, so that no other call meets an unreachable STS or KMS.
func (a *Agent) fetchTogether(ctx context.Context, refs []kms.Ref, got values) (left []kms.Ref, failed error) {
	for n, batch := range divide(refs) {
		given, err := a.askTogether(ctx, batch)
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

// divide returns batches of one role each, without two secrets of the same short name.
func divide(refs []kms.Ref) (batches [][]kms.Ref) {
	for _, ref := range refs {
		i := slices.IndexFunc(batches, func(batch []kms.Ref) bool {
			return len(batch) < kms.MaxBatch && !slices.ContainsFunc(batch, func(other kms.Ref) bool {
				return other.RoleARN != ref.RoleARN || other.ShortName() == ref.ShortName()
			})
		})
		if i < 0 {
			i, batches = len(batches), append(batches, nil)
		}
		batches[i] = append(batches[i], ref)
	}
	return batches
}

// singly has, by role, the time until which secrets are fetched one by one.
type singly struct {
	until map[string]time.Time
	said  bool
}

func (s *singly) avoid(role string, d time.Duration) {
	if s.until == nil {
		s.until = map[string]time.Time{}
	}
	s.until[role] = time.Now().Add(d)
}

// askTogether fetches a batch, or nothing if its secrets must be fetched one by one. Its errors are those that such calls would get, too.
func (a *Agent) askTogether(ctx context.Context, batch []kms.Ref) ([]kms.Secret, error) {
	role := batch[0].RoleARN
	if len(batch) == 1 || time.Now().Before(a.singly.until[role]) {
		return nil, nil
	}
	given, err := a.source.ReadAll(ctx, batch)
	var refusal *kms.Error
	switch {
	case err == nil && slices.ContainsFunc(given, func(s kms.Secret) bool { return s.VersionID != "" }):
		return given, nil
	case err == nil:
		err = errors.New("KMS gave none of them")
	case errors.Is(err, errors.ErrUnsupported):
		err = errors.New("the identity has no call for several secrets")
	case !errors.As(err, &refusal), failure.Throttled(err), refusal.Class() == kms.CredentialsRejected:
		return nil, err
	case refusal.Class() == kms.Retryable && refusal.Status != http.StatusOK: // with OK, it is an answer that cannot be read
		a.singly.avoid(role, singlyAfterOutage)
		return nil, err
	}
	a.singly.avoid(role, singlyFor)
	if !a.singly.said {
		a.singly.said = true
		a.log.Info("secrets are asked for one by one, not by one call", logkey.Secrets, len(batch), logkey.Error, err)
	}
	return nil, nil
}
