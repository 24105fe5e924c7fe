package emulator

import (
	"net/http"
	"regexp"
	"unicode/utf8"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// What RAM's operations have in common. Rules, codes, messages and statuses are those of the API reference RAM 2015-05-01; it
// says neither what the answer to a missing parameter is, nor whether rights are looked at before parameters: UNVERIFIED.

// Bounds of RAM's texts in characters. That of a trust policy is UNVERIFIED.
const (
	maxRoleName       = 64
	maxPolicyName     = 128
	maxDescription    = 1024
	maxTrustPolicy    = 2048
	maxPolicyDocument = 6144
)

var (
	roleNameChars   = regexp.MustCompile(`^[A-Za-z0-9.-]+$`)
	policyNameChars = regexp.MustCompile(`^[A-Za-z0-9-]+$`)
)

// checkName looks at a parameter that names a role or a policy.
func checkName(c *call, parameter string, chars *regexp.Regexp, longest int) *problem {
	switch name := c.params.Get(parameter); {
	case name == "":
		return missingRAMParameter(parameter)
	case !chars.MatchString(name):
		return problemf(http.StatusBadRequest, "InvalidParameter."+parameter+".InvalidChars", "The parameter - %q contains invalid chars.", parameter)
	case len(name) > longest:
		return tooLong(parameter)
	}
	return nil
}

// checkText looks at a parameter that may say anything.
func checkText(c *call, parameter string, longest int) *problem {
	if utf8.RuneCountInString(c.params.Get(parameter)) > longest {
		return tooLong(parameter)
	}
	return nil
}

// authorizeRAM asks the policies of the caller whether it may do what it calls for, to each of the resources.
func (e *Emulator) authorizeRAM(c *call, resources ...string) *problem {
	action := "ram:" + c.action
	for _, resource := range resources {
		if decision, kind := e.decide(c.caller, policy.Request{Action: action, Resource: resource}); decision != policy.Allow {
			return notAuthorized(c.caller, action, decision, kind)
		}
	}
	return nil
}

// notAuthorized is the refusal by RAM and STS of what the caller may not do.
func notAuthorized(caller session, action string, decision policy.Decision, kind string) *problem {
	p := problemf(http.StatusForbidden, "NoPermission", "You are not authorized to do this action. You should be authorized by RAM.")
	p.denied = denial(caller, action, decision, kind)
	return p
}

func missingRAMParameter(name string) *problem {
	return problemf(http.StatusBadRequest, "MissingParameter."+name, "The parameter - %q is required.", name)
}

func tooLong(parameter string) *problem {
	return problemf(http.StatusBadRequest, "InvalidParameter."+parameter+".Length", "The parameter - %q beyond the length limit.", parameter)
}

// malformedPolicy: the cloud says details too, in words of its own.
func malformedPolicy(err error) *problem {
	return problemf(http.StatusBadRequest, "MalformedPolicyDocument", "%v", err)
}
