package injector

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
)

// An override is an entry of the document's namespaces and the Injector for those that match it.
type override struct {
	clusterconfig.Namespace
	selector labels.Selector // nil: by name alone
	injector *Injector
}

func (in *Injector) override(ns clusterconfig.Namespace) (override, error) {
	s := override{Namespace: ns, injector: &Injector{policy: in.policy.In(ns), version: in.version}}
	if ns.Selector != nil {
		var err error
		if s.selector, err = selector(*ns.Selector); err != nil {
			return override{}, fmt.Errorf("selector: %w", err)
		}
	}
	return s, s.injector.parse()
}

func selector(of clusterconfig.Selector) (labels.Selector, error) {
	same := metav1.LabelSelector{MatchLabels: of.MatchLabels}
	for _, e := range of.MatchExpressions {
		same.MatchExpressions = append(same.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: e.Values,
		})
	}
	return metav1.LabelSelectorAsSelector(&same)
}

// in returns the Injector for a namespace: the document's first entry that matches it says what is different there.
func (in *Injector) in(namespace string, of map[string]string) *Injector {
	for _, s := range in.overrides {
		if s.HasName(namespace) && (s.selector == nil || s.selector.Matches(labels.Set(of))) {
			return s.injector
		}
	}
	return in
}

// byLabels reports whether in needs a namespace's labels.
func (in *Injector) byLabels(namespace string) bool {
	for _, s := range in.overrides {
		switch {
		case !s.HasName(namespace):
		case s.selector != nil:
			return true
		default:
			return false // this one matches, whatever follows
		}
	}
	return false
}
