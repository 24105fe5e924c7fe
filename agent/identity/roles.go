package identity

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"
)

var anyRoleARN = regexp.MustCompile(`^acs:ram::[0-9]+:role/[A-Za-z0-9._-]+$`)

// firstTimeout bounds the wait for the credentials that a role is assumed with. They have time limits of their own.
const firstTimeout = 30 * time.Second

// Roles are the second roles of a pod: assumed with the credentials of its identity, often in another account. Each has
// one Source, however many secrets are read as it. It is safe for concurrent use.
type Roles struct {
	first  *Source
	caller string
	sts    STS

	policies map[string]string // of the sessions, by the role's ARN

	observe  func(error)
	sessions *Sessions

	mu     sync.Mutex
	second map[string]*Source // by ARN
}

// NewRoles returns the roles that first can assume. Caller says in words who first is, for errors: a role's ARN, mostly.
// Policies narrow the roles' sessions, by ARN; that of sts is not theirs. Like New, it sets what the SDK trusts.
func NewRoles(first *Source, caller string, sts STS, policies map[string]string) (*Roles, error) {
	if err := sts.check(); err != nil {
		return nil, err
	}
	if err := trust(sts.Roots); err != nil {
		return nil, err
	}
	sts.Duration = sessionDuration // the longest of a session that was got with another one
	return &Roles{first: first, caller: caller, sts: sts, policies: policies, second: map[string]*Source{}}, nil
}

// Observe is as that of a Source, for all roles.
func (r *Roles) Observe(f func(error)) { r.observe = f }

// Keep is as that of a Source, for all roles.
func (r *Roles) Keep(sessions *Sessions) { r.sessions = sessions }

// Source returns the Source of a role. It does not call STS yet.
func (r *Roles) Source(arn string) (*Source, error) {
	if !anyRoleARN.MatchString(arn) {
		return nil, fmt.Errorf("roleArn %q: want acs:ram::<account>:role/<name>", arn)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.second[arn]
	if !ok {
		sts := r.sts
		sts.Policy = r.policies[arn]
		s = &Source{
			assume: func() (Credentials, error) { return r.assume(sts, arn) }, observe: r.observe,
			identity: sts.fingerprint("role", r.first.identity, arn),
		}
		if r.sessions != nil {
			s.Keep(r.sessions)
		}
		r.second[arn] = s
	}
	return s, nil
}

// assume gets a session of the role with the first credentials, and once more with new ones if STS does not accept those
// in hand: their session may have been ended early.
func (r *Roles) assume(sts STS, arn string) (Credentials, error) {
	ctx, cancel := context.WithTimeout(context.Background(), firstTimeout)
	defer cancel()
	for again := true; ; again = false {
		with, err := r.first.Credentials(ctx)
		if err != nil {
			return Credentials{}, err
		}
		got, err := sts.assumeRole(with, r.caller, arn)
		var refusal *Error
		if !again || !errors.As(err, &refusal) || !refusal.sessionRejected() {
			return got, err
		}
		r.first.Invalidate(with)
	}
}

// sessionRejected reports whether STS did not accept the credentials of the caller.
func (e *Error) sessionRejected() bool {
	return strings.HasPrefix(e.Code, "InvalidSecurityToken") || e.Code == "InvalidAccessKeyId.NotFound"
}
