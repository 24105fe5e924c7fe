package clusterconfig

import (
	"fmt"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

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
	in.Allow, in.Agent, in.Namespaces = ns.Allow.over(in.Allow), ns.Agent.over(in.Agent), nil
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
