package emulator

import (
	"cmp"
	"context"
	"net/http"
	"strconv"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

type createRoleAnswer struct {
	RequestID string `json:"RequestId"`
	Role      roleAnswer
}

type roleAnswer struct {
	RoleID                   string `json:"RoleId"`
	RoleName                 string
	Arn                      string
	Description              string `json:",omitempty"`
	AssumeRolePolicyDocument string
	MaxSessionDuration       int
	CreateDate               string
}

// createRole makes a role of the caller's account, to which nothing is attached. Whether the cloud minds a trust policy that
// names an identity provider which does not exist is UNVERIFIED; here it is nobody's mistake but the role's, whom none can assume.
// Facts: API reference RAM 2015-05-01 CreateRole.
func (e *Emulator) createRole(_ context.Context, c *call) (any, *problem) {
	name, trust := c.params.Get("RoleName"), c.params.Get("AssumeRolePolicyDocument")
	seconds, p := maxSessionDuration(c.params.Get("MaxSessionDuration"))
	p = cmp.Or(checkName(c, "RoleName", roleNameChars, maxRoleName), checkText(c, "Description", maxDescription), p)
	switch {
	case p != nil:
		return nil, p
	case trust == "":
		return nil, missingRAMParameter("AssumeRolePolicyDocument")
	}
	if p := checkText(c, "AssumeRolePolicyDocument", maxTrustPolicy); p != nil {
		return nil, p
	}
	if _, err := policy.ParseTrust(trust); err != nil {
		return nil, malformedPolicy(err)
	}
	r, err := newRole(Role{Account: c.caller.account, Name: name, TrustPolicy: trust, MaxSessionDuration: seconds}, e.defaults)
	if err != nil {
		return nil, malformedPolicy(err)
	}
	if p := e.authorizeRAM(c, r.arn); p != nil {
		return nil, p
	}
	if !e.ram.addRole(r) {
		return nil, problemf(http.StatusConflict, "EntityAlreadyExists.Role", "The role does already EXIST.")
	}
	return createRoleAnswer{RequestID: c.id, Role: roleAnswer{
		RoleID: r.id(), RoleName: name, Arn: r.arn, Description: c.params.Get("Description"), AssumeRolePolicyDocument: trust,
		MaxSessionDuration: seconds, CreateDate: stamp(c.now),
	}}, nil
}

// addRole adds a role unless there is one of that name.
func (d *directory) addRole(r role) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, taken := d.roles[r.arn]; taken {
		return false
	}
	d.roles[r.arn] = r
	return true
}

// maxSessionDuration: the code is UNVERIFIED.
func maxSessionDuration(text string) (int, *problem) {
	if text == "" {
		return minMaxSession, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < minMaxSession || seconds > maxMaxSession {
		return 0, problemf(http.StatusBadRequest, "InvalidParameter.MaxSessionDuration", "The parameter - %q is incorrect.", "MaxSessionDuration")
	}
	return seconds, nil
}
