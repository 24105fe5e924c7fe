package store

import (
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/storespec"
)

// admits returns a Refusal unless one of a ClusterSecretStore's conditions holds. One that is wrong admits no namespace, and
// takes none from those that others admit.
func (q *query) admits(where string, conditions []v1alpha1.NamespaceCondition) error {
	if len(conditions) == 0 {
		return nil
	}
	if q.Config.Compat.admit(conditions, q.in) {
		return nil
	}
	if mistakes := storespec.CheckConditions(conditions); len(mistakes) > 0 {
		return refuse(NotReady, "%s does not admit namespace %s, and has conditions that cannot be used: %s", where, q.in.name,
			mistakes.Line())
	}
	return refuse(Forbidden, "%s does not admit namespace %s; have its owner add the namespace to conditions, or use another store", where,
		q.in.name)
}

func (c Compat) admit(conditions []v1alpha1.NamespaceCondition, in namespace) bool {
	return slices.ContainsFunc(conditions, func(condition v1alpha1.NamespaceCondition) bool {
		if slices.Contains(condition.Namespaces, in.name) {
			return true
		}
		if condition.NamespaceSelector != nil {
			if s, err := metav1.LabelSelectorAsSelector(condition.NamespaceSelector); err == nil && s.Matches(in.labels) {
				return true
			}
		}
		return slices.ContainsFunc(condition.NamespaceRegexes, func(expression string) bool {
			return storespec.MatchesNamespace(expression, in.name, c.UnanchoredRegexes)
		})
	})
}
