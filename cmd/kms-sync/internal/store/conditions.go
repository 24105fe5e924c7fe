package store

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// admits returns a Refusal unless one of a ClusterSecretStore's conditions holds. One that is wrong admits no namespace, and
// takes none from those that others admit.
func (q *query) admits(where string, conditions []v1alpha1.NamespaceCondition) error {
	if len(conditions) == 0 {
		return nil
	}
	admitted, mistakes := q.Config.Compat.conditions(conditions, q.in)
	switch {
	case admitted:
		return nil
	case len(mistakes) > 0:
		return refuse(NotReady, "%s does not admit namespace %s, and has conditions that cannot be used: %s", where, q.in.name,
			strings.Join(mistakes, "; "))
	}
	return refuse(Forbidden, "%s does not admit namespace %s; have its owner add the namespace to conditions, or use another store", where,
		q.in.name)
}

// CheckConditions returns what is wrong with the conditions of a ClusterSecretStore, for its status.
func (c Compat) CheckConditions(conditions []v1alpha1.NamespaceCondition) []string {
	_, mistakes := c.conditions(conditions, namespace{})
	return mistakes
}

func (c Compat) conditions(conditions []v1alpha1.NamespaceCondition, in namespace) (admitted bool, mistakes []string) {
	for i, condition := range conditions {
		where := fmt.Sprintf("conditions[%d]", i)
		admitted = admitted || slices.Contains(condition.Namespaces, in.name)
		if condition.NamespaceSelector != nil {
			s, err := metav1.LabelSelectorAsSelector(condition.NamespaceSelector)
			if err != nil {
				mistakes = append(mistakes, fmt.Sprintf("%s.namespaceSelector: %v", where, err))
			}
			admitted = admitted || err == nil && s.Matches(in.labels)
		}
		for j, expression := range condition.NamespaceRegexes {
			whole := `\A(?:` + expression + `)\z`
			if c.UnanchoredRegexes {
				whole = expression
			}
			if _, err := regexp.Compile(expression); err != nil { // of what the author wrote
				mistakes = append(mistakes, fmt.Sprintf("%s.namespaceRegexes[%d]: %v", where, j, err))
				continue
			}
			r, err := regexp.Compile(whole)
			if err != nil {
				mistakes = append(mistakes, fmt.Sprintf("%s.namespaceRegexes[%d]: %v", where, j, err))
				continue
			}
			admitted = admitted || r.MatchString(in.name)
		}
	}
	return admitted, mistakes
}
