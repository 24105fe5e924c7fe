package decide

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
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
		annotations, err := before.ServiceAccount(ctx, namespace, name)
		if w.RoleARN != "" && (errors.Is(err, cluster.ErrAbsent) || errors.Is(err, ErrUnknown)) {
			return map[string]string{rrsa.RoleARNAnnotation: w.RoleARN}, nil
		}
		return annotations, err
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

// Unseen is what to know of annotations in an object in which no pod was found.
func Unseen(kind string) string {
	return fmt.Sprintf("no pod was found in this %s, so that nothing is injected here and only the annotations themselves are looked at; "+
		"look at a pod that it makes: kubectl get pod <name> -o yaml | kubectl kms validate -f -", kind)
}

// Annotations are the mistakes that annotations have by themselves, whatever the pod is that gets them.
func Annotations(annotations map[string]string) config.Mistakes {
	var v Verdict
	_, err := config.Parse(annotations, checks)
	_ = v.mistaken(err) // there is no other error
	return v.Mistakes
}

var checks = config.Checks{Key: render.CheckKey, Template: render.CheckTemplate}
