package emulator

import (
	"context"
	"net/http"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

type assumeRoleAnswer struct {
	RequestID       string `json:"RequestId"`
	AssumedRoleUser assumedRoleUser
	Credentials     credentials
}

// assumeRole gives a session of a role, of any account, to a RAM user or another role's session. Both sides must want it:
// the role's trust policy names the caller, and the caller's own policies allow sts:AssumeRole on the role.
// Facts: API reference STS 2015-04-01 AssumeRole.
func (e *Emulator) assumeRole(_ context.Context, c *call) (any, *problem) {
	if c.params.Get("RoleArn") == "" {
		return nil, missingSTSParameter("RoleArn")
	}
	narrowed, p := checkSessionParameters(c)
	if p != nil {
		return nil, p
	}
	r, ok := e.ram.role(c.params.Get("RoleArn"))
	if !ok {
		return nil, noRole(c.params.Get("RoleArn"))
	}
	const action = "sts:AssumeRole"
	if decision, kind := e.decide(c.caller, policy.Request{Action: action, Resource: r.arn}); decision != policy.Allow {
		return nil, notAuthorized(c.caller, action, decision, kind)
	}
	trusted := policy.Decide([]policy.Document{r.trust}, policy.Request{Action: action, RAM: c.caller.arns()})
	if trusted != policy.Allow {
		return nil, notAuthorized(c.caller, action, trusted, "AssumeRolePolicy")
	}
	s, p := e.giveSession(c, r, narrowed)
	if p != nil {
		return nil, p
	}
	return assumeRoleAnswer{RequestID: c.id, AssumedRoleUser: r.as(s), Credentials: s.credentials()}, nil
}

// notAuthorized is STS's refusal of what the caller may not do.
func notAuthorized(caller session, action string, decision policy.Decision, kind string) *problem {
	p := problemf(http.StatusForbidden, "NoPermission", "You are not authorized to do this action. You should be authorized by RAM.")
	p.denied = denial(caller, action, decision, kind)
	return p
}
