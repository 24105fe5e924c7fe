package agentconfig

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxSessionPolicy is the longest Policy parameter that STS takes, in characters.
// https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerolewithoidc
const maxSessionPolicy = 2048

// SessionPolicies returns the policies that narrow the agent's STS sessions to what its pod declares: at "" that of the pod's own
// identity, and by ARN those of the second roles. The error says which would be too long for STS.
func (a Config) SessionPolicies() (map[string]string, error) {
	secrets := map[string][]string{"": nil}
	for _, f := range a.Files {
		secrets[f.RoleARN] = append(secrets[f.RoleARN], f.Secrets()...)
	}
	for _, v := range a.Env {
		secrets[""] = append(secrets[""], v.Secret)
	}
	if a.API != nil {
		secrets[""] = append(secrets[""], a.API.Allow...)
	}
	policies := map[string]string{}
	for _, role := range slices.Sorted(maps.Keys(secrets)) {
		var roles []string
		whose := "the pod's own identity"
		if role == "" {
			roles = slices.DeleteFunc(slices.Sorted(maps.Keys(secrets)), func(arn string) bool { return arn == "" })
		} else {
			whose = role
		}
		policies[role] = sessionPolicy(secrets[role], roles)
		if n := len(policies[role]); n > maxSessionPolicy {
			return nil, fmt.Errorf("the policy that narrows the session of %s to its secrets has %d characters; STS takes %d", whose, n,
				maxSessionPolicy)
		}
	}
	return policies, nil
}

// sessionPolicy allows to read the secrets and to assume the roles. A secret is a name, an ARN, or either with * for any
// characters. A session can never do more than its role, with a policy or without.
func sessionPolicy(secrets, roles []string) string {
	type statement struct {
		Effect   string
		Action   string
		Resource []string
	}
	var resources []string
	for _, name := range secrets {
		if !strings.HasPrefix(name, "acs:") {
			name = "acs:kms:*:*:secret/" + name
		}
		resources = append(resources, name)
	}
	resources = slices.Compact(slices.Sorted(slices.Values(resources)))
	var statements []statement
	if len(resources) > 0 {
		statements = append(statements,
			statement{"Allow", "kms:GetSecretValue", resources},
			// The gateway of a KMS instance asks for this too. It is a right on the keys that encrypt the secrets, and which keys those
			// are KMS tells neither the webhook nor the pod: what the session may decrypt is what its role may.
			statement{"Allow", "kms:Decrypt", []string{"*"}})
	}
	if len(roles) > 0 {
		statements = append(statements, statement{"Allow", "sts:AssumeRole", roles})
	}
	if len(statements) == 0 { // STS takes no policy without a statement
		statements = append(statements, statement{"Deny", "*", []string{"*"}})
	}
	text, err := json.Marshal(struct {
		Version   string
		Statement []statement
	}{"1", statements})
	if err != nil {
		panic(err) // unreachable: strings
	}
	return string(text)
}
