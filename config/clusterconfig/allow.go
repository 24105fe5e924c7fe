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

// A Namespace states what is different in some namespaces: in those that match both its names and its selector, of which one may
// be left out. What else it leaves out stays as it is for all.
type Namespace struct {
	Names    []string      `yaml:"names"`    // patterns of their names
	Selector *Selector     `yaml:"selector"` // of their labels
	Allow    Allow         `yaml:"allow"`
	Agent    AgentDefaults `yaml:"agent"`
}

// A Selector chooses namespaces by their labels, as Kubernetes' own namespaceSelector does.
type Selector struct {
	MatchLabels      map[string]string `yaml:"matchLabels"`
	MatchExpressions []LabelExpression `yaml:"matchExpressions"`
}

// A LabelExpression is a condition on one label.
type LabelExpression struct {
	Key      string   `yaml:"key"`
	Operator string   `yaml:"operator"` // In, NotIn, Exists, DoesNotExist
	Values   []string `yaml:"values"`
}

// HasName reports whether a namespace's name is among Names, or they are left out.
func (ns Namespace) HasName(name string) bool {
	return len(ns.Names) == 0 || config.AnyMatches(ns.Names, name)
}

// In returns the document for the namespaces of an entry, with its differences applied.
func (in Config) In(ns Namespace) Config {
	in.Allow, in.Agent, in.Namespaces = inherit(ns.Allow, in.Allow), ns.Agent.over(in.Agent), nil
	return in
}

func (ns Namespace) check(m *config.Mistakes, where string) {
	if len(ns.Names) == 0 && ns.Selector == nil {
		m.Add(where, "matches no namespace; write names: [prod, team-a-*], or selector: {matchLabels: {team: a}}")
	}
	if ns.Selector != nil {
		ns.Selector.check(m, where+".selector")
	}
	ns.Allow.check(m, where+".allow")
	ns.Agent.check(m, where+".agent")
}

func (s Selector) check(m *config.Mistakes, where string) {
	if len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 {
		m.Add(where, "is empty and would match every namespace; write for example {matchLabels: {team: a}}, or what is for all under allow and "+
			"agent")
	}
	operators := []string{"In", "NotIn", "Exists", "DoesNotExist"}
	for i, e := range s.MatchExpressions {
		where := fmt.Sprintf("%s.matchExpressions[%d]", where, i)
		listed := e.Operator == "In" || e.Operator == "NotIn"
		switch {
		case e.Key == "":
			m.Add(where+".key", "is missing; write the key of a label, for example team")
		case !slices.Contains(operators, e.Operator):
			m.Add(where+".operator", "%s", config.NotOneOf(e.Operator, operators))
		case listed && len(e.Values) == 0:
			m.Add(where+".values", "is missing, which %s needs; write for example [a, b]", e.Operator)
		case !listed && len(e.Values) > 0:
			m.Add(where+".values", "contradicts operator %s, which takes none; remove it, or write operator: In", e.Operator)
		}
	}
}
