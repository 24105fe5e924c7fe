package clusterconfig

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Allow is what pods may ask for. A * in a pattern stands for any characters.
type Allow struct {
	PodRoles *bool    `yaml:"podRoles"` // may a pod's own annotation name its role? Default true
	Roles    []string `yaml:"roles"`    // role ARNs; default the account's own
	// patterns of secrets: one that begins with acs: is about ARNs only, any other about names only, and "*" alone about all; default "*"
	Secrets   []string `yaml:"secrets"`
	Regions   []string `yaml:"regions"`   // for the annotation region, besides the cluster's own; default none
	Endpoints []string `yaml:"endpoints"` // for the annotation endpoint, besides the administrator's own; default none
	// Identities are the identities besides rrsa: node-role, access-key and client-key, the last two with :<pattern> for certain
	// Secrets only. Default none.
	Identities []string `yaml:"identities"`
}

// over is what an entry of Config.Namespaces allows: what it leaves out is as in base.
func (a Allow) over(base Allow) Allow {
	if a.PodRoles == nil {
		a.PodRoles = base.PodRoles
	}
	for _, list := range []struct {
		own  *[]string
		base []string
	}{
		{&a.Roles, base.Roles}, {&a.Secrets, base.Secrets}, {&a.Regions, base.Regions}, {&a.Endpoints, base.Endpoints},
		{&a.Identities, base.Identities},
	} {
		if *list.own == nil {
			*list.own = list.base
		}
	}
	return a
}

// Role reports whether a role's ARN is allowed.
func (a Allow) Role(arn string) bool { return config.AnyMatches(a.Roles, arn) }

// Secret reports whether a secret's name or ARN is allowed.
func (a Allow) Secret(name string) bool {
	return slices.ContainsFunc(a.Secrets, func(pattern string) bool { return config.MatchesSecret(pattern, name) })
}

// Region reports whether the annotation region may have this value.
func (a Allow) Region(name string) bool { return config.AnyMatches(a.Regions, name) }

// Endpoint reports whether the annotation endpoint may have this value.
func (a Allow) Endpoint(host string) bool { return config.AnyMatches(a.Endpoints, host) }

// SecretsOf reports whether all secrets that a pattern matches are allowed: whatever a star of the pattern stands for, it must
// be a star here that takes it. So the pattern is asked about as if its stars were letters that no name has. "*" alone, which is about
// ARNs too, is in no other pattern.
func (a Allow) SecretsOf(pattern string) bool {
	if pattern == "*" {
		return slices.Contains(a.Secrets, "*")
	}
	return a.Secret(pattern)
}

// Identity reports whether a pod may have an identity. RRSA is what this program is for.
func (a Allow) Identity(i config.Identity) bool {
	return i.Kind == config.RRSA || slices.Contains(a.Identities, string(i.Kind)) || config.AnyMatches(a.Identities, i.String())
}

func (a Allow) check(m *config.Mistakes, where string) {
	kinds := []string{string(config.NodeRole), string(config.AccessKey), string(config.ClientKey)}
	for i, identity := range a.Identities {
		where := fmt.Sprintf("%s.identities[%d]", where, i)
		kind, secret, named := strings.Cut(identity, ":")
		switch {
		case !slices.Contains(kinds, kind):
			m.Add(where, "%s", config.NotOneOf(kind, kinds))
		case named && (secret == "" || !config.IdentityKind(kind).NeedsSecret()):
			m.Add(where, "%q is not right; write node-role, access-key, client-key, or for certain Secrets access-key:<pattern>", identity)
		}
	}
}
