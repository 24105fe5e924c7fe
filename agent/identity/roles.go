package identity

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
)

// firstTimeout bounds the wait for the credentials that a role is assumed with. They have time limits of their own.
const firstTimeout = 30 * time.Second

// Roles are the second roles of a pod: assumed with the credentials of its identity, often in another account. Each has
// one Source, however many secrets are read as it. It is safe for concurrent use.
type Roles struct {
	first    *Source
	caller   string
	sts      STS
	policies map[string]string // of the sessions, by the role's ARN
	client   *openapi.Client

	mu     sync.Mutex
	second map[string]*Source // by ARN
}

// NewRoles returns the roles that first can assume. Caller names first in errors: a role's ARN, mostly.
// Policies narrow the roles' sessions, by ARN; that of sts is not theirs.
func NewRoles(first *Source, caller string, sts STS, policies map[string]string) (*Roles, error) {
	sts.Duration = sessionDuration // the longest of a session that was got with another one
	client, err := sts.client()
	if err != nil {
		return nil, err
	}
	return &Roles{first: first, caller: caller, sts: sts, policies: policies, client: client, second: map[string]*Source{}}, nil
}

// Source returns the Source of a role, or without one that of the pod's identity. It does not call STS yet.
func (r *Roles) Source(arn string) *Source {
	if arn == "" {
		return r.first
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.second[arn]
	if !ok {
		s = NewSource(r.provider(arn), r.first.sessions, r.first.observe)
		r.second[arn] = s
	}
	return s
}

func (r *Roles) provider(arn string) Provider {
	sts := r.sts
	sts.Policy = r.policies[arn]
	return Provider{
		ID: sts.fingerprint("role", r.first.provider.ID, arn),
		Get: func(ctx context.Context) (Credentials, error) {
			ctx, cancel := context.WithTimeout(ctx, firstTimeout)
			defer cancel()
			return Use(ctx, r.first, callerRejected, func(with Credentials) (Credentials, error) {
				return sts.assumeRole(ctx, r.client, with, r.caller, arn)
			})
		},
	}
}

// NewRole returns the Provider of one role that first can assume. Caller names first in errors.
func NewRole(first *Source, caller string, sts STS, arn string) (Provider, error) {
	r, err := NewRoles(first, caller, sts, map[string]string{arn: sts.Policy})
	if err != nil {
		return Provider{}, err
	}
	return r.provider(arn), nil
}

// callerRejected reports whether STS did not accept the credentials of the caller.
func callerRejected(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && (strings.HasPrefix(e.Code, "InvalidSecurityToken") || e.Code == "InvalidAccessKeyId.NotFound")
}
