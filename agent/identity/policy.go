package identity

import (
	"encoding/json"
	"slices"
	"strings"
)

// maxPolicy is the longest Policy parameter that STS takes, in characters.
const maxPolicy = 2048

// SessionPolicy is the policy that narrows a session to reading the secrets, and to assuming the roles. A secret is a
// name, an ARN, or either with * for any characters. A session can never do more than its role, with a policy or without.
//
// Policies are limited to 2,048 characters: for more secrets than that holds, a few dozen, ok is false, and the session can
// only be had as wide as its role.
func SessionPolicy(secrets, roles []string) (policy string, ok bool) {
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
	sorted := func(list []string) []string { return slices.Compact(slices.Sorted(slices.Values(list))) }
	var statements []statement
	if len(resources) > 0 {
		statements = append(statements,
			statement{"Allow", "kms:GetSecretValue", sorted(resources)},
			// The gateway of a KMS instance asks for this too; it is about the keys that encrypt the secrets, whose names
			// a pod does not know.
			statement{"Allow", "kms:Decrypt", []string{"*"}})
	}
	if len(roles) > 0 {
		statements = append(statements, statement{"Allow", "sts:AssumeRole", sorted(roles)})
	}
	if len(statements) == 0 {
		return "", false
	}
	text, err := json.Marshal(struct {
		Version   string
		Statement []statement
	}{"1", statements})
	if err != nil || len(text) > maxPolicy {
		return "", false
	}
	return string(text), true
}
