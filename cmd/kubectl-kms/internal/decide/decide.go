// Package decide comes to the webhook's decision on the pods of manifests, to report it or to carry it out.
package decide

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// A World is what a decision needs besides the pod.
type World struct {
	Injector      *injector.Injector
	PlainSidecars bool // see injector.Request
	Cluster       injector.Cluster
	RoleARN       string // of ServiceAccounts that exist neither in manifests nor in the cluster; "": they have none

	Selects func(namespace string, of map[string]string) bool // see cluster.Selects; nil: not known
}

// ErrUnknown says that an object is in no manifest, and that no cluster may be asked.
var ErrUnknown = unknownError("is not among the manifests, and no cluster is asked; add it to the files of -f, or name its role: " +
	"--role-arn acs:ram::<account>:role/<name>")

type unknownError string

func (e unknownError) Error() string        { return string(e) }
func (e unknownError) Is(target error) bool { return target == config.ErrNotFound } //nolint:errorlint // the sentinel itself

// Offline is a cluster that cannot be asked.
type Offline struct{}

// NamespaceLabels implements injector.Cluster.
func (Offline) NamespaceLabels(context.Context, string) (map[string]string, error) {
	return nil, ErrUnknown
}

// ServiceAccountAnnotations implements injector.Cluster.
func (Offline) ServiceAccountAnnotations(context.Context, string, string, bool) (map[string]string, error) {
	return nil, ErrUnknown
}

// Pod decides on a pod, or on a pod template; claims are the names of the StatefulSet's volumeClaimTemplates beside it. The error is an
// outage.
func (w World) Pod(ctx context.Context, namespace string, document []byte, claims ...string) (injector.Decision, error) {
	pod, err := injector.DecodePod(document)
	if err != nil {
		return injector.Decision{Asked: true, Reason: injector.Conflict, Mistakes: undecodable(document, err)}, nil
	}
	req := injector.Request{Namespace: namespace, Pod: pod, Claims: claims, PlainSidecars: w.PlainSidecars}
	return w.Injector.Decide(ctx, req, w.Cluster)
}

// undecodable returns what is wrong with a pod that Kubernetes would not decode: most often values of annotations without quotes, or
// without the | that makes a YAML mapping text.
func undecodable(document []byte, err error) config.Mistakes {
	var pod struct {
		Metadata struct {
			Annotations map[string]any `json:"annotations"`
		} `json:"metadata"`
	}
	var mistakes config.Mistakes
	if json.Unmarshal(document, &pod) == nil {
		for _, key := range slices.Sorted(maps.Keys(pod.Metadata.Annotations)) {
			problem := "values of annotations are strings; write | after the colon, which makes what follows text"
			switch value := pod.Metadata.Annotations[key].(type) {
			case string:
				continue
			case map[string]any, []any:
			default:
				problem = fmt.Sprintf("values of annotations are strings, and YAML takes this one for %v; write it in quotes", value)
			}
			mistakes = append(mistakes, config.Mistake{Where: key, Problem: problem})
		}
	}
	if mistakes == nil {
		return config.Mistakes{{Where: "pod", Problem: fmt.Sprintf("Kubernetes would not read it: %v", err)}}
	}
	return mistakes
}

// manifests is a cluster in which manifests have been applied.
type manifests struct {
	before     World
	accounts   map[[2]string]map[string]string // annotations by namespace and name
	namespaces map[string]map[string]string    // labels
}

// With returns the world after the manifests were applied: what their ServiceAccounts and namespaces say takes precedence, and what else
// those of the cluster have stays. Objects that name no namespace go to the default one.
func (w World) With(documents []*manifest.Document, defaultNamespace string) World {
	m := manifests{before: w, accounts: map[[2]string]map[string]string{}, namespaces: map[string]map[string]string{}}
	for _, d := range documents {
		for _, o := range d.Objects() {
			switch o.Kind {
			case "ServiceAccount":
				m.accounts[[2]string{namespaceOf(o, defaultNamespace), o.Name}] = o.Annotations
			case "Namespace":
				// The API server sets this one.
				m.namespaces[o.Name] = labels.Merge(o.Labels, labels.Set{corev1.LabelMetadataName: o.Name})
			}
		}
	}
	w.Cluster = m
	return w
}

func (m manifests) NamespaceLabels(ctx context.Context, namespace string) (map[string]string, error) {
	before, err := m.before.Cluster.NamespaceLabels(ctx, namespace)
	if own, found := m.namespaces[namespace]; found {
		return labels.Merge(before, own), nil
	}
	return before, err
}

func (m manifests) ServiceAccountAnnotations(ctx context.Context, namespace, name string, fresh bool) (map[string]string, error) {
	before, err := m.before.Cluster.ServiceAccountAnnotations(ctx, namespace, name, fresh)
	if own, found := m.accounts[[2]string{namespace, name}]; found {
		return labels.Merge(unapplied(before), own), nil
	}
	if m.before.RoleARN != "" && errors.Is(err, config.ErrNotFound) {
		return map[string]string{rrsa.RoleARNAnnotation: m.before.RoleARN}, nil
	}
	return before, err
}

// unapplied returns annotations without those that kubectl has applied, and removes when a manifest no longer has them.
func unapplied(annotations map[string]string) map[string]string {
	var applied metav1.PartialObjectMetadata
	if json.Unmarshal([]byte(annotations[corev1.LastAppliedConfigAnnotation]), &applied) != nil {
		return annotations
	}
	kept := maps.Clone(annotations)
	for key := range applied.Annotations {
		delete(kept, key)
	}
	return kept
}

// optedIn returns a warning if the cluster would leave all pods of a namespace as they are, or does not say, and "" if it would not or no
// cluster is asked.
func (w World) optedIn(ctx context.Context, namespace string) string {
	labels, err := w.Cluster.NamespaceLabels(ctx, namespace)
	switch {
	case errors.Is(err, ErrUnknown):
	case errors.Is(err, config.ErrNotFound):
		return fmt.Sprintf("namespace %s does not exist; nothing is injected in it unless it has the label %s=enabled", namespace,
			podconfig.NamespaceLabel)
	case err != nil:
		return fmt.Sprintf("whether namespace %s has the label %s=enabled, without which nothing is injected in it, was not checked: %v",
			namespace, podconfig.NamespaceLabel, err)
	case w.Selects != nil && !w.Selects(namespace, labels):
		return fmt.Sprintf("the webhook's namespaceSelector leaves namespace %s out, whatever its label says, so that the cluster injects "+
			"nothing in it; move the pods to another namespace, or have the administrator take it out of excludedNamespaces", namespace)
	case labels[podconfig.NamespaceLabel] != "enabled":
		return fmt.Sprintf("namespace %s does not have the label %s=enabled, so that the cluster injects nothing in it; kubectl label "+
			"namespace %s %s=enabled",
			namespace, podconfig.NamespaceLabel, namespace, podconfig.NamespaceLabel)
	}
	return ""
}

// unseen returns the warning about annotations in an object without a known pod template.
func unseen(kind string) string {
	return fmt.Sprintf("no pod was found in this %s, so that nothing is injected here and only the annotations themselves are looked at; "+
		"look at a pod that it makes: kubectl get pod <name> -o yaml | kubectl kms validate -f -", kind)
}
