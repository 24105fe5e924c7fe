package target

import (
	"context"
	"fmt"
	"hash/maphash"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// State is how a Secret is, compared with what was written.
type State struct {
	Exists bool
	// Intact is whether it is as it was written. After a restart a Secret that was changed in any way since the status was written is not,
	// even if it was another's field: what was written is known by a keyed sum in memory, and by no hash that a reader could use.
	Intact          bool
	ResourceVersion string

	live *corev1.Secret // nil: it does not exist, or was not read because the metadata say that it is intact
}

// Current compares an ExternalSecret's Secret with what was written. It reads the Secret only if its metadata are others than the
// status has them.
func (w *Writer) Current(ctx context.Context, es *v1alpha1.ExternalSecret) (State, error) {
	key := client.ObjectKey{Namespace: es.Namespace, Name: Name(es)}
	var m metav1.PartialObjectMetadata
	m.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	err := w.Cached.Get(ctx, key, &m)
	if client.IgnoreNotFound(err) != nil {
		return State{}, fmt.Errorf("read the metadata of the Secret %s: %w", key.Name, err)
	}
	c := claimed(es, &m)
	if err == nil && es.Status.SecretName == key.Name && m.ResourceVersion == es.Status.SecretResourceVersion &&
		(c.owner || c.listed && creation(es) == v1alpha1.CreateMerge) {
		return State{Exists: true, Intact: true, ResourceVersion: m.ResourceVersion}, nil
	}
	live, err := w.get(ctx, key.Namespace, key.Name)
	if live == nil || err != nil {
		return State{}, explain(err, "read", key.Name)
	}
	state := State{Exists: true, ResourceVersion: live.ResourceVersion, live: live}
	w.mu.Lock()
	before, known := w.written[client.ObjectKeyFromObject(es)]
	w.mu.Unlock()
	state.Intact = claimed(es, live).any() && (known && before == recordOf(es, live) ||
		es.Status.SecretName == key.Name && live.ResourceVersion == es.Status.SecretResourceVersion)
	return state, nil
}

// Present returns what an ExternalSecret has in its Secret, from the API server.
func (w *Writer) Present(ctx context.Context, es *v1alpha1.ExternalSecret) (map[string][]byte, error) {
	live, err := w.get(ctx, es.Namespace, Name(es))
	if live == nil || err != nil {
		return nil, explain(err, "read", Name(es))
	}
	c, err := w.claim(ctx, es, live, nil)
	if err != nil {
		return nil, explain(err, "read", Name(es))
	}
	return c.present(live), nil
}

// record is a sum of what is an ExternalSecret's in a Secret.
type record struct{ uid, sum string }

var seed = maphash.MakeSeed()

func recordOf(es *v1alpha1.ExternalSecret, s *corev1.Secret) record {
	var h maphash.Hash
	h.SetSeed(seed)
	add := func(texts ...string) {
		for _, t := range texts {
			fmt.Fprintf(&h, "%d:%s", len(t), t)
		}
	}
	c, held := claimed(es, s), fieldsOf(s, Manager(es))
	immutable := s.Immutable != nil && *s.Immutable
	add(s.Annotations[AnnotationOwner], s.Annotations[keysAnnotation(es)], s.Labels[LabelSynced], fmt.Sprint(immutable))
	own := c.present(s)
	for _, k := range slices.Sorted(maps.Keys(own)) {
		add(k, string(own[k]))
	}
	for _, k := range unique(held.labels) {
		add("label", k, s.Labels[k])
	}
	for _, k := range unique(held.annotations) {
		if !strings.HasPrefix(k, keysPrefix) {
			add("annotation", k, s.Annotations[k])
		}
	}
	return record{uid: string(s.UID), sum: fmt.Sprint(h.Sum64())}
}

func (w *Writer) remember(es *v1alpha1.ExternalSecret, s *corev1.Secret) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.written == nil {
		w.written = map[client.ObjectKey]record{}
	}
	w.written[client.ObjectKeyFromObject(es)] = recordOf(es, s)
}

func (w *Writer) forget(es *v1alpha1.ExternalSecret) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.written, client.ObjectKeyFromObject(es))
}
