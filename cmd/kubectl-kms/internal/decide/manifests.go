package decide

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// With is the world in which manifests have been applied: what they say of ServiceAccounts and namespaces comes first. Objects
// that name no namespace go to the default one.
func (w World) With(documents []*manifest.Document, defaultNamespace string) World {
	accounts, namespaces := map[[2]string]map[string]string{}, map[string]map[string]string{}
	for _, d := range documents {
		for _, o := range d.Objects() {
			switch o.Kind {
			case "ServiceAccount":
				accounts[[2]string{cmp.Or(o.Namespace, defaultNamespace), o.Name}] = o.Annotations
			case "Namespace":
				namespaces[o.Name] = o.Labels
			}
		}
	}
	before := w
	w.ServiceAccount = func(ctx context.Context, namespace, name string) (map[string]string, error) {
		if annotations, found := accounts[[2]string{namespace, name}]; found {
			return annotations, nil
		}
		return before.ServiceAccount(ctx, namespace, name)
	}
	w.Namespace = func(ctx context.Context, name string) (map[string]string, error) {
		if labels, found := namespaces[name]; found {
			return labels, nil
		}
		return before.Namespace(ctx, name)
	}
	return w
}

// OptedIn returns a warning if the cluster would leave all pods of a namespace as they are, and "" if it would not or nobody knows.
func (w World) OptedIn(ctx context.Context, namespace string) string {
	labels, err := w.Namespace(ctx, namespace)
	switch {
	case errors.Is(err, cluster.ErrAbsent):
		return fmt.Sprintf("namespace %s does not exist; nothing is injected in it unless it has the label %s=enabled", namespace, config.NamespaceLabel)
	case err == nil && labels[config.NamespaceLabel] != "enabled":
		return fmt.Sprintf("namespace %s does not have the label %s=enabled, so that the cluster injects nothing in it; kubectl label namespace %s %s=enabled",
			namespace, config.NamespaceLabel, namespace, config.NamespaceLabel)
	}
	return ""
}
