package webhook

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
)

// labels are a namespace's. The error is an outageError.
func (m metadata) labels(ctx context.Context, source, namespace string) (map[string]string, error) {
	key := types.NamespacedName{Name: namespace}
	if ns, err := m.fromCache(ctx, namespaceKind, key); err == nil {
		return ns.Labels, nil
	}
	ns, err := m.fromServer(ctx, source, namespaceKind, key)
	switch {
	case err != nil:
		return nil, err
	case ns == nil:
		return nil, &outageError{fmt.Errorf("namespace %q does not exist", namespace)}
	}
	return ns.Labels, nil
}
