package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// parallel is how many secrets are asked for at a time.
const parallel = 4

// values are what KMS answered, by what was asked: one entry for each distinct secret and version, however many files
// are made of it.
type values map[kms.Ref]value

// value is a secret, or that there is none, which is for the files to judge: one may be optional, another not.
type value struct {
	secret kms.Secret
	absent *kms.Error
}

// refs are the distinct secrets of the document, in its order.
func (a *Agent) refs() []kms.Ref {
	var refs []kms.Ref
	for _, f := range a.declared() {
		for _, s := range sources(f) {
			if !slices.Contains(refs, s.ref) {
				refs = append(refs, s.ref)
			}
		}
	}
	return refs
}

// fetch adds to got what it lacks. Secrets that are refused are all reported together.
func (a *Agent) fetch(ctx context.Context, got values) error {
	var missing []kms.Ref
	for _, ref := range a.refs() {
		if _, ok := got[ref]; !ok {
			missing = append(missing, ref)
		}
	}
	missing, failed := a.together(ctx, missing, got)
	if len(missing) == 0 {
		return failed
	}
	answers, errs := make([]value, len(missing)), make([]error, len(missing))
	ask := func(i int) {
		answers[i], errs[i] = a.ask(ctx, missing[i])
	}
	// The first goes alone: it gets the credentials and the connection that the others share, and if STS or KMS cannot be
	// reached it is the only one to find out.
	if ask(0); errs[0] != nil && !refused(errs[0]) {
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

// ask reads one secret, and says for which files it was needed if that fails.
func (a *Agent) ask(ctx context.Context, ref kms.Ref) (value, error) {
	secret, err := a.reader.read(ctx, ref)
	var refusal *kms.Error
	switch {
	case err == nil:
		return a.fetched(ref, secret), nil
	case errors.As(err, &refusal) && refusal.Class() == kms.NotFound:
		return value{absent: refusal}, nil
	}
	return value{}, a.needed(ref, err)
}

func (a *Agent) fetched(ref kms.Ref, secret kms.Secret) value {
	a.log.Debug("fetched", "secret", ref.String(), "version", secret.VersionID)
	return value{secret: secret}
}

// needed adds to what KMS said of a secret for which files it was needed.
func (a *Agent) needed(ref kms.Ref, err error) error {
	var refusal *kms.Error
	if !errors.As(err, &refusal) {
		return err
	}
	return fmt.Errorf("%s: %w", strings.Join(a.labelsOf(ref), ", "), err)
}

func (a *Agent) labelsOf(ref kms.Ref) []string {
	var labels []string
	for _, f := range a.declared() {
		if slices.ContainsFunc(sources(f), func(s source) bool { return s.ref == ref }) {
			labels = append(labels, label(f))
		}
	}
	return labels
}

// refused reports whether KMS answered about this one secret, so that asking for others makes sense.
func refused(err error) bool {
	var e *kms.Error
	return errors.As(err, &e) && e.Code != "" && e.Class() == kms.Permanent
}

// absent reports whether KMS has no such secret, or no such version of it.
func absent(err error) bool {
	var e *kms.Error
	return errors.As(err, &e) && e.Class() == kms.NotFound
}

// transient reports whether everything in err may pass without anybody changing anything.
func transient(err error) bool {
	for _, leaf := range leaves(err) {
		var sts *identity.Error
		var gateway *kms.Error
		switch {
		case errors.As(leaf, &sts) && sts.Retryable():
		case errors.As(leaf, &gateway) && gateway.Class() == kms.Retryable:
		default:
			return false
		}
	}
	return true
}

// leaves takes joined errors apart.
func leaves(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range joined.Unwrap() {
		all = append(all, leaves(e)...)
	}
	return all
}

// gateway reads from KMS as the pod's identity, or as a role that it assumes.
type gateway struct {
	identity *identity.Source
	roles    *identity.Roles
	kms      *kms.Client
}

func (g *gateway) read(ctx context.Context, ref kms.Ref) (secret kms.Secret, err error) {
	err = g.as(ctx, ref.RoleARN, func(creds kms.Credentials) error {
		secret, err = g.kms.GetSecretValue(ctx, creds, ref)
		return err
	})
	return secret, err
}

func (g *gateway) readAll(ctx context.Context, refs []kms.Ref) (given []kms.Secret, err error) {
	err = g.as(ctx, refs[0].RoleARN, func(creds kms.Credentials) error {
		given, err = g.kms.BatchGetSecretValue(ctx, creds, refs)
		return err
	})
	return given, err
}

// as makes a call as a role; without one, as the pod's identity. It gets new credentials, once, if KMS does not accept those in
// hand: STS may have ended their session early.
func (g *gateway) as(ctx context.Context, role string, call func(kms.Credentials) error) error {
	source := g.identity
	if role != "" {
		var err error
		if source, err = g.roles.Source(role); err != nil {
			return err
		}
	}
	for again := true; ; again = false {
		creds, err := source.Credentials(ctx)
		if err != nil {
			return err
		}
		err = call(kms.Credentials{
			AccessKeyID: creds.AccessKeyID, AccessKeySecret: creds.AccessKeySecret, SecurityToken: creds.SecurityToken,
		})
		var refusal *kms.Error
		if !again || !errors.As(err, &refusal) || refusal.Class() != kms.CredentialsRejected {
			return err
		}
		source.Invalidate(creds)
	}
}
