package target

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
)

// CRD is the name of the ExternalSecrets' custom resource definition.
const CRD = "externalsecrets.alibabacloud.com"

// Release lets go of the Secrets of an ExternalSecret that is being deleted; after it the finalizer may go. With creationPolicy Owner a
// Secret of which all keys are the ExternalSecret's is deleted; of another one only its keys and marks are removed; with Orphan the Secret
// stays as it is. If the namespace is being deleted, or the custom resource definition, which deletes all ExternalSecrets without their
// authors' wish, nothing is written: the Secret goes with the namespace, or stays.
func (w *Writer) Release(ctx context.Context, es *v1alpha1.ExternalSecret) error {
	defer w.forget(es)
	ending, err := w.ending(ctx, es.Namespace)
	if ending || err != nil {
		return err
	}
	return w.releaseAll(ctx, es, "")
}

// ending reports whether the namespace or the custom resource definition is being deleted.
func (w *Writer) ending(ctx context.Context, namespace string) (bool, error) {
	for _, o := range []struct {
		kind schema.GroupVersionKind
		name string
	}{
		{corev1.SchemeGroupVersion.WithKind("Namespace"), namespace},
		{schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}, CRD},
	} {
		var m metav1.PartialObjectMetadata
		m.SetGroupVersionKind(o.kind)
		err := w.Live.Get(ctx, client.ObjectKey{Name: o.name}, &m)
		switch {
		case apierrors.IsNotFound(err) || err == nil && m.DeletionTimestamp != nil:
			return true, nil
		case err != nil:
			return false, fmt.Errorf("look whether the %s %s is being deleted, when Secrets stay: %w", o.kind.Kind, o.name, err)
		}
	}
	return false, nil
}

// releaseAll releases all Secrets of an ExternalSecret but one.
func (w *Writer) releaseAll(ctx context.Context, es *v1alpha1.ExternalSecret, except string) error {
	var labelled metav1.PartialObjectMetadataList
	labelled.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
	which := []client.ListOption{client.InNamespace(es.Namespace), client.MatchingLabels{LabelSynced: "true"}, client.UnsafeDisableDeepCopy}
	if err := w.Cached.List(ctx, &labelled, which...); err != nil {
		return fmt.Errorf("list the Secrets of the ExternalSecret: %w", err)
	}
	names := []string{Name(es), es.Status.SecretName} // the cache may not have the latest
	for i := range labelled.Items {
		if s := &labelled.Items[i]; claimed(es, s).any() {
			names = append(names, s.Name)
		}
	}
	for _, name := range unique(names) {
		if name == "" || name == except {
			continue
		}
		if _, err := w.release(ctx, es, name, creation(es) == v1alpha1.CreateOwner); err != nil {
			return err
		}
	}
	return nil
}

// release lets go of one Secret. It returns whether something was the ExternalSecret's.
func (w *Writer) release(ctx context.Context, es *v1alpha1.ExternalSecret, name string, deletes bool) (had bool, err error) {
	for range attempts {
		var live *corev1.Secret
		if live, err = w.get(ctx, es.Namespace, name); err != nil || live == nil || live.DeletionTimestamp != nil {
			return false, explain(err, "read", name)
		}
		c := claimed(es, live)
		switch {
		case !c.any() || c.owner && creation(es) == v1alpha1.CreateOrphan:
			return false, nil
		case c.owner && deletes && len(c.foreign(live)) == 0:
			err = w.delete(ctx, live)
		default:
			err = w.disown(ctx, es, live, c)
		}
		if !apierrors.IsConflict(err) {
			break
		}
	}
	return true, explain(client.IgnoreNotFound(err), "release", name)
}

// delete deletes exactly this Secret.
func (w *Writer) delete(ctx context.Context, live *corev1.Secret) error {
	return w.Client.Delete(ctx, live, client.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion})
}

// disown removes the ExternalSecret's keys and marks, or, where Kubernetes does not let the keys go, the marks.
func (w *Writer) disown(ctx context.Context, es *v1alpha1.ExternalSecret, live *corev1.Secret, c claim) error {
	held := fieldsOf(live, Manager(es))
	annotations := held.annotations
	annotations = append(annotations, keysAnnotation(es))
	if c.owner {
		annotations = append(annotations, AnnotationOwner)
	}
	labels := slices.DeleteFunc(held.labels, func(l string) bool { return l == LabelSynced })
	if len(Claimants(live)) < 2 {
		labels = append(labels, LabelSynced)
	}
	keys := c.keys
	if live.Immutable != nil && *live.Immutable {
		keys = nil
	}
	err := w.Client.Patch(ctx, live.DeepCopy(), removal(live, keys, labels, annotations).raw(), client.FieldOwner(Manager(es)))
	if apierrors.IsInvalid(err) { // the type wants the keys
		err = w.Client.Patch(ctx, live.DeepCopy(), removal(live, nil, labels, annotations).raw(), client.FieldOwner(Manager(es)))
	}
	return err
}

// Gone carries out the deletionPolicy of an ExternalSecret none of whose secrets KMS has any more. The caller has KMS's own word for it,
// twice: an error, a refusal or silence is not one. With Delete the Secret is released as if the ExternalSecret were deleted, with Merge
// its keys are removed, with Retain nothing happens.
func (w *Writer) Gone(ctx context.Context, es *v1alpha1.ExternalSecret) (Outcome, error) {
	if err := check(es, content.Result{}); err != nil {
		return Outcome{}, err
	}
	name := Name(es)
	switch es.Spec.Target.DeletionPolicy {
	case v1alpha1.DeletionDelete:
		had, err := w.release(ctx, es, name, true)
		if had && err == nil {
			w.forget(es)
			return Outcome{SecretName: name, Action: Deleted}, nil
		}
		return Outcome{SecretName: name, Action: Unchanged}, err
	case v1alpha1.DeletionMerge:
		live, err := w.get(ctx, es.Namespace, name)
		if err != nil || live == nil || !claimed(es, live).any() {
			return Outcome{SecretName: name, Action: Unchanged}, explain(err, "read", name)
		}
		return w.apply(ctx, es, content.Result{}) // of the type that it has
	}
	return Outcome{SecretName: name, Action: Unchanged}, nil
}
