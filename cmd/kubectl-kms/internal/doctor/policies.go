package doctor

import (
	"encoding/json"
	"strings"
)

type statement struct {
	Effect    string
	Action    any
	Principal map[string][]string          `json:",omitempty"`
	Resource  []string                     `json:",omitempty"`
	Condition map[string]map[string]string `json:",omitempty"`
}

func document(statements ...statement) string {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false) // there may be <account> in it, to be filled in
	_ = enc.Encode(struct {  // strings have no way to fail
		Version   string
		Statement []statement
	}{"1", statements})
	return strings.TrimSuffix(text.String(), "\n")
}

// trustPolicy lets the pods of one ServiceAccount be a role.
func trustPolicy(provider, issuer, namespace, account string) string {
	return document(statement{
		Effect: "Allow", Action: "sts:AssumeRole", Principal: map[string][]string{"Federated": {provider}},
		Condition: map[string]map[string]string{"StringEquals": {
			"oidc:aud": audience, "oidc:iss": issuer, "oidc:sub": "system:serviceaccount:" + namespace + ":" + account,
		}},
	})
}

// permissionPolicy lets a role read secrets. Which keys encrypt them a pod does not know.
func permissionPolicy(region, account string, secrets []string) string {
	var resources []string
	for _, name := range secrets {
		if !strings.HasPrefix(name, "acs:") {
			name = "acs:kms:" + region + ":" + account + ":secret/" + name
		}
		resources = append(resources, name)
	}
	if len(resources) == 0 {
		resources = []string{"acs:kms:" + region + ":" + account + ":secret/<name>"}
	}
	return document(
		statement{Effect: "Allow", Action: "kms:GetSecretValue", Resource: resources},
		statement{Effect: "Allow", Action: "kms:Decrypt", Resource: []string{"*"}},
	)
}

// accountOf returns the account in acs:ram::<account>:role/<name>.
func accountOf(arn string) string {
	parts := strings.Split(arn, ":")
	if len(parts) < 5 {
		return "<account>"
	}
	return parts[3]
}
