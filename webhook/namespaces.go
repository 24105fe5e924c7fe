package webhook

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// labels are a namespace's. The error is an outageError.
func (m metadata) labels(ctx context.Context, namespace string) (map[string]string, error) {
	key := types.NamespacedName{Name: namespace}
	if ns, err := m.fromCache(ctx, namespaceKind, key); err == nil {
		return ns.Labels, nil
	}
	ns, err := m.fromServer(ctx, namespaceKind, key)
	switch {
	case err != nil:
		return nil, err
	case ns == nil:
		return nil, &outageError{fmt.Errorf("namespace %s does not exist", namespace)}
	}
	return ns.Labels, nil
}

// injector is what the operator's document says about a namespace. The error is an outageError.
func (j *judge) injector(ctx context.Context, namespace string) (*injector.Injector, error) {
	in := j.policy.current()
	if !in.ByLabels(namespace) {
		return in.In(namespace, nil), nil
	}
	labels, err := j.metadata.labels(ctx, namespace)
	if err != nil {
		return nil, err
	}
	return in.In(namespace, labels), nil
}
