package target

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
)

const (
	// LabelSynced is the label, "true", of the Secrets that kms-sync writes.
	LabelSynced = "kms.alibabacloud.com/synced"
	// AnnotationOwner is v1alpha1's.
	AnnotationOwner = v1alpha1.AnnotationOwner
	// AnnotationRecreate is the annotation of a Secret that, "true", agrees that it is deleted and made anew when its type changes.
	AnnotationRecreate = "kms.alibabacloud.com/recreate"

	keysPrefix = v1alpha1.AnnotationKeysPrefix
)

// identity returns the ExternalSecret's name as annotations have it. UIDs are others after a restore.
func identity(es *v1alpha1.ExternalSecret) string { return es.Namespace + "/" + es.Name }

// hash is short enough for names, and long enough that no two ExternalSecrets of a cluster share it.
func hash(es *v1alpha1.ExternalSecret) string {
	sum := sha256.Sum256([]byte(identity(es)))
	return hex.EncodeToString(sum[:16])
}

// Manager returns the field manager that writes for an ExternalSecret.
func Manager(es *v1alpha1.ExternalSecret) string { return "kms-sync/" + hash(es) }

// keysAnnotation is the annotation that lists the keys of one ExternalSecret. Several may add keys to one Secret.
func keysAnnotation(es *v1alpha1.ExternalSecret) string {
	if len(es.Name) <= 63 {
		return keysPrefix + es.Name
	}
	return keysPrefix + es.Name[:30] + "-" + hash(es)
}

// keysValue says whose the keys are too, for a Secret that is copied to another namespace.
func keysValue(es *v1alpha1.ExternalSecret, keys []string) string {
	slices.Sort(keys)
	return identity(es) + ":" + strings.Join(slices.Compact(keys), ",")
}

// marks returns the labels and annotations of a Secret with r.
func marks(es *v1alpha1.ExternalSecret, r content.Result) (labels, annotations map[string]string) {
	labels, annotations = maps.Clone(r.Labels), maps.Clone(r.Annotations)
	if labels == nil {
		labels = map[string]string{}
	}
	if annotations == nil {
		annotations = map[string]string{}
	}
	labels[LabelSynced] = "true"
	annotations[keysAnnotation(es)] = keysValue(es, slices.Collect(maps.Keys(r.Data)))
	if creation(es) != v1alpha1.CreateMerge {
		annotations[AnnotationOwner] = identity(es)
	}
	return labels, annotations
}

// Claimants returns the ExternalSecrets that a Secret says it has keys of.
func Claimants(secret metav1.Object) []client.ObjectKey {
	var all []client.ObjectKey
	for name, value := range secret.GetAnnotations() {
		claimant := value
		switch {
		case strings.HasPrefix(name, keysPrefix):
			claimant, _, _ = strings.Cut(value, ":")
		case name != AnnotationOwner:
			continue
		}
		namespace, name, ok := strings.Cut(claimant, "/")
		if ok && namespace == secret.GetNamespace() {
			all = append(all, client.ObjectKey{Namespace: namespace, Name: name})
		}
	}
	slices.SortFunc(all, func(a, b client.ObjectKey) int { return strings.Compare(a.Name, b.Name) })
	return slices.Compact(all)
}

// claim is what of a Secret is an ExternalSecret's.
type claim struct {
	owner    bool     // the Secret itself is
	listed   bool     // it has a list of keys, maybe an empty one
	keys     []string // those that were written, there or not
	adopts   bool     // the marks are to be set
	original bool     // of ack-secret-manager, which made it
}

// claimed returns what the annotations of a Secret say.
func claimed(es *v1alpha1.ExternalSecret, live metav1.Object) claim {
	c := claim{owner: live.GetAnnotations()[AnnotationOwner] == identity(es)}
	keys, ok := strings.CutPrefix(live.GetAnnotations()[keysAnnotation(es)], identity(es)+":")
	if c.listed = ok; keys != "" && ok {
		c.keys = strings.Split(keys, ",")
	}
	return c
}

// any reports whether something of the Secret is the ExternalSecret's.
func (c claim) any() bool { return c.owner || c.listed }

// foreign returns the keys of a Secret that are not the claim's.
func (c claim) foreign(live *corev1.Secret) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(live.Data)), func(k string) bool { return slices.Contains(c.keys, k) })
}

// present returns the claim's data.
func (c claim) present(live *corev1.Secret) map[string][]byte {
	own := maps.Clone(live.Data)
	for _, k := range c.foreign(live) {
		delete(own, k)
	}
	return own
}

// same reports whether the Secret's data would not change.
func (c claim) same(live *corev1.Secret, data map[string][]byte) bool {
	for _, k := range c.keys {
		if _, wanted := data[k]; !wanted && live.Data[k] != nil {
			return false
		}
	}
	return includes(live.Data, data)
}

func includes(all, some map[string][]byte) bool {
	for k, v := range some {
		if got, ok := all[k]; !ok || !bytes.Equal(got, v) {
			return false
		}
	}
	return true
}

// claim decides whether an ExternalSecret may write these keys of a Secret that exists.
func (w *Writer) claim(ctx context.Context, es *v1alpha1.ExternalSecret, live *corev1.Secret, keys []string) (claim, error) {
	if reason := dangerous(live.Type); reason != "" {
		return claim{}, refuse(DangerousType, "the Secret %s is of type %s, %s: set another target.name", live.Name, live.Type, reason)
	}
	c, consent := claimed(es, live), live.Annotations[v1alpha1.AnnotationAdopt] == "true"
	if creation(es) == v1alpha1.CreateMerge {
		c.owner = false
	} else if !c.owner {
		if err := w.adopt(ctx, es, live, &c, consent); err != nil {
			return claim{}, err
		}
	}
	var strangers []string
	slices.Sort(keys)
	for _, k := range keys {
		if _, taken := live.Data[k]; !taken || slices.Contains(c.keys, k) {
			continue
		}
		if other := holder(live, k); other != "" && other != identity(es) {
			return claim{}, conflict(live.Name+", key "+k+",", other)
		}
		if !consent {
			strangers = append(strangers, k)
		}
	}
	if len(strangers) > 0 {
		return claim{}, refuse(NotOwned, "the Secret %s has the keys %s already, and this ExternalSecret did not write them: remove them, give "+
			"the entries other names, or annotate the Secret with %s=true to have them replaced", live.Name, strings.Join(strangers, ", "),
			v1alpha1.AnnotationAdopt)
	}
	return c, nil
}

// adopt decides whether a Secret becomes the ExternalSecret's that is not.
func (w *Writer) adopt(ctx context.Context, es *v1alpha1.ExternalSecret, live *corev1.Secret, c *claim, consent bool) error {
	owner, claims := live.Annotations[AnnotationOwner]
	if namespace, name, _ := strings.Cut(owner, "/"); claims && namespace == es.Namespace {
		var other v1alpha1.ExternalSecret
		switch err := w.Cached.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &other); {
		case err == nil:
			return conflict(live.Name, owner)
		case !apierrors.IsNotFound(err):
			return err
		case !consent:
			return refuse(NotOwned, "the Secret %s was made for the ExternalSecret %s, which is gone: delete the Secret, or annotate it with "+
				"%s=true, to have it become this ExternalSecret's", live.Name, owner, v1alpha1.AnnotationAdopt)
		}
	}
	original := !claims && originals(es, live)
	if !consent && !original {
		return refuse(NotOwned, "the Secret %s exists, and kms-sync did not make it: set another target.name, or target.creationPolicy Merge to "+
			"add keys, or annotate the Secret (not the ExternalSecret) with %s=true to have it become this ExternalSecret's", live.Name,
			v1alpha1.AnnotationAdopt)
	}
	if err := w.older(ctx, es); err != nil {
		return err
	}
	c.owner, c.adopts, c.original = true, true, original
	if original {
		c.keys = slices.DeleteFunc(fieldsOf(live, originalManager).keys, func(k string) bool { return live.Data[k] == nil })
	}
	return nil
}

const (
	// originalManager is the field manager of ack-secret-manager: its program's name.
	originalManager = "ack-secret-manager"
	// originalLabel is the label that it set until 0.5.
	originalLabel = "lastUpdatedAt"
)

// originals reports whether ack-secret-manager made the Secret for the ExternalSecret. It marked nothing, so this takes all that it did:
// it put its finalizer on the object; it wrote the Secret's data, as the Secret's managedFields say, which need rights on the Secret to
// forge; and it says that it synchronized the object, or, until 0.5, which had no status, its label is on the Secret of the object's
// name. A status of kms-sync says nothing of the original: an object that gets another target.name adopts nothing by it.
func originals(es *v1alpha1.ExternalSecret, live *corev1.Secret) bool {
	if !slices.Contains(es.Finalizers, v1alpha1.Finalizer) || es.Status.SecretName != "" || len(es.Status.Conditions) > 0 ||
		len(fieldsOf(live, originalManager).keys) == 0 {
		return false
	}
	if len(es.Status.DataSyncResults) == 0 {
		_, labelled := live.Labels[originalLabel]
		return labelled && live.Name == es.Name
	}
	return slices.ContainsFunc(es.Status.DataSyncResults, func(r v1alpha1.DataSyncResult) bool { return r.Status == "Succeeded" })
}

// older refuses a Secret that no ExternalSecret has yet if an older ExternalSecret wants it too, so that two of them do not take turns.
func (w *Writer) older(ctx context.Context, es *v1alpha1.ExternalSecret) error {
	var all v1alpha1.ExternalSecretList
	if err := w.Cached.List(ctx, &all, client.InNamespace(es.Namespace), client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list the ExternalSecrets that want the Secret %s: %w", Name(es), err)
	}
	for i := range all.Items {
		other := &all.Items[i]
		if other.Name == es.Name || Name(other) != Name(es) || other.DeletionTimestamp != nil || creation(other) == v1alpha1.CreateMerge {
			continue
		}
		age := other.CreationTimestamp.Compare(es.CreationTimestamp.Time)
		if age < 0 || age == 0 && other.Name < es.Name {
			return conflict(Name(es), identity(other))
		}
	}
	return nil
}

// holder returns the ExternalSecret whose the key is, as the annotations say.
func holder(live *corev1.Secret, key string) string {
	for name, value := range live.Annotations {
		if strings.HasPrefix(name, keysPrefix) {
			who, keys, _ := strings.Cut(value, ":")
			if strings.HasPrefix(who, live.Namespace+"/") && slices.Contains(strings.Split(keys, ","), key) {
				return who
			}
		}
	}
	return ""
}

func conflict(what, other string) error {
	return refuse(Conflict, "the Secret %s is the ExternalSecret %s's: set another target.name on one of the two", what, other)
}

// dangerous says what a type of Secret does, "" if nothing.
func dangerous(t corev1.SecretType) string {
	switch t {
	case corev1.SecretTypeServiceAccountToken:
		return "which Kubernetes fills with a ServiceAccount's token"
	case corev1.SecretTypeBootstrapToken:
		return "which lets machines join the cluster"
	}
	return ""
}

func explicitType(es *v1alpha1.ExternalSecret) corev1.SecretType {
	if t := es.Spec.Target.Template; t != nil && t.Type != "" {
		return t.Type
	}
	return es.Spec.Type
}

// check refuses what no Secret may be made of, whatever is in the cluster.
func check(es *v1alpha1.ExternalSecret, r content.Result) error {
	for _, t := range []corev1.SecretType{r.Type, explicitType(es)} {
		if reason := dangerous(t); reason != "" {
			return refuse(DangerousType, "type %s is refused, %s: set another type", t, reason)
		}
	}
	for field, names := range map[string]map[string]string{"labels": r.Labels, "annotations": r.Annotations} {
		for name := range names {
			if problem := content.Reserved(name); problem != "" {
				return refuse(DangerousType, "target.template.metadata.%s[%s]: %s", field, name, problem)
			}
		}
	}
	return checkPolicies(es, r)
}

func checkPolicies(es *v1alpha1.ExternalSecret, r content.Result) error {
	t := es.Spec.Target
	switch {
	case t.DeletionPolicy == v1alpha1.DeletionDelete && creation(es) != v1alpha1.CreateOwner:
		return refuse(InvalidSpec, "target.deletionPolicy Delete deletes the Secret, which with creationPolicy %s is not this "+
			"ExternalSecret's: set creationPolicy Owner, or deletionPolicy Retain or Merge", creation(es))
	case creation(es) == v1alpha1.CreateMerge && t.Immutable:
		return refuse(InvalidSpec, "target.immutable would make a Secret of others immutable: set creationPolicy Owner, or immutable false")
	case creation(es) == v1alpha1.CreateMerge && len(r.Labels)+len(r.Annotations) > 0:
		return refuse(InvalidSpec, "target.template.metadata would change the labels and annotations of a Secret of others, to which "+
			"creationPolicy Merge adds keys of data only: remove it, or set creationPolicy Owner")
	}
	return nil
}
