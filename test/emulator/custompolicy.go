package emulator

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// customPolicy is a policy of an account's own, which roles have when it is attached to them.
type customPolicy struct {
	text     string
	document policy.Document
}

func policyARN(name, account string) string { return "acs:ram::" + account + ":policy/" + name }

type createPolicyAnswer struct {
	RequestID string `json:"RequestId"`
	Policy    policyAnswer
}

type policyAnswer struct {
	PolicyName     string
	PolicyType     string
	Description    string `json:",omitempty"`
	DefaultVersion string
	CreateDate     string
}

// createPolicy makes a policy of the caller's account.
// Facts: API reference RAM 2015-05-01 CreatePolicy.
func (e *Emulator) createPolicy(_ context.Context, c *call) (any, *problem) {
	name, text := c.params.Get("PolicyName"), c.params.Get("PolicyDocument")
	p := cmp.Or(checkName(c, "PolicyName", policyNameChars, maxPolicyName), checkText(c, "Description", maxDescription),
		checkText(c, "PolicyDocument", maxPolicyDocument))
	switch {
	case p != nil:
		return nil, p
	case text == "":
		return nil, missingRAMParameter("PolicyDocument")
	}
	document, err := policy.ParsePermissions(text)
	if err != nil {
		return nil, malformedPolicy(err)
	}
	arn := policyARN(name, c.caller.account)
	if p := e.authorizeRAM(c, arn); p != nil {
		return nil, p
	}
	if !e.ram.addPolicy(arn, customPolicy{text, document}) {
		return nil, problemf(http.StatusConflict, "EntityAlreadyExists.Policy", "The policy does already EXIST.")
	}
	return createPolicyAnswer{RequestID: c.id, Policy: policyAnswer{
		PolicyName: name, PolicyType: "Custom", Description: c.params.Get("Description"), DefaultVersion: "v1", CreateDate: stamp(c.now),
	}}, nil
}

type attachPolicyToRoleAnswer struct {
	RequestID string `json:"RequestId"`
}

// attachPolicyToRole gives a role of the caller's account one of its policies; the role's sessions have it at once. The cloud's
// own policies, of the type System, do not exist here.
// Facts: API reference RAM 2015-05-01 AttachPolicyToRole.
func (e *Emulator) attachPolicyToRole(_ context.Context, c *call) (any, *problem) {
	kind := c.params.Get("PolicyType")
	p := cmp.Or(checkName(c, "RoleName", roleNameChars, maxRoleName), checkName(c, "PolicyName", policyNameChars, maxPolicyName))
	switch {
	case p != nil:
		return nil, p
	case kind == "":
		return nil, missingRAMParameter("PolicyType")
	case kind != "Custom" && kind != "System":
		return nil, problemf(http.StatusBadRequest, "InvalidParameter.PolicyType", "The parameter - %q is incorrect.", "PolicyType")
	}
	owner := c.caller.account
	if kind == "System" {
		owner = "system"
	}
	role, attached := roleARN(c.params.Get("RoleName"), c.caller.account), policyARN(c.params.Get("PolicyName"), owner)
	if p := e.authorizeRAM(c, role, attached); p != nil {
		return nil, p
	}
	if p := e.ram.attach(attached, role); p != nil {
		return nil, p
	}
	return attachPolicyToRoleAnswer{RequestID: c.id}, nil
}

// addPolicy adds a policy unless there is one of that name.
func (d *directory) addPolicy(arn string, p customPolicy) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, taken := d.policies[arn]; taken {
		return false
	}
	d.policies[arn] = p
	return true
}

// attach gives the role the policy. Readers hold the role's old lists without a lock, so lists are replaced, not changed.
func (d *directory) attach(policyARN, roleARN string) *problem {
	d.mu.Lock()
	defer d.mu.Unlock()
	r, ok := d.roles[roleARN]
	if !ok {
		return problemf(http.StatusNotFound, "EntityNotExist.Role", "The role does not exist.")
	}
	p, ok := d.policies[policyARN]
	if !ok {
		return problemf(http.StatusNotFound, "EntityNotExist.Policy", "The policy does not exist.")
	}
	if slices.Contains(r.attached, policyARN) {
		return problemf(http.StatusConflict, "EntityAlreadyExists.Role.Policy", "The role has already been attached this policy.")
	}
	r.Policies = append(slices.Clip(r.Policies), p.text)
	r.permissions = append(slices.Clip(r.permissions), p.document)
	r.attached = append(slices.Clip(r.attached), policyARN)
	d.roles[roleARN] = r
	return nil
}
