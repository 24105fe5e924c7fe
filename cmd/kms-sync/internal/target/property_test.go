package target

import (
	"bytes"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"pgregory.net/rapid"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// TestStrangersKeepWhatIsTheirs: whatever ExternalSecrets are made of, however they and strangers take turns with the Secrets of a
// namespace, nothing changes that a stranger wrote, and what is written twice is written once.
//
// The model is what strangers wrote last, by Secret and key. It knows nothing of marks: what a stranger writes is the stranger's till the
// stranger removes it, but for a drift of a key that an ExternalSecret has written before, which is repaired.
func TestStrangersKeepWhatIsTheirs(t *testing.T) {
	names, keys := []string{"a", "b", "c"}, []string{"k1", "k2", "k3"}
	rapid.Check(t, func(rt *rapid.T) {
		c := newCluster(t)
		w := c.writer()
		theirs := map[string]map[string]string{} // Secret -> key -> value
		objects := map[string]*v1alpha1.ExternalSecret{}
		for _, name := range names[:2] {
			objects[name] = c.add(name, nil)
		}
		name, key := rapid.SampledFrom(names), rapid.SampledFrom(keys)
		object := func(rt *rapid.T) *v1alpha1.ExternalSecret {
			return objects[rapid.SampledFrom(slices.Sorted(maps.Keys(objects))).Draw(rt, "object")]
		}
		data := rapid.MapOfN(key, rapid.SampledFrom([]string{"x", "y", ""}), 1, 3)
		policies := rapid.SampledFrom([]v1alpha1.Policy{"", v1alpha1.CreateOwner, v1alpha1.CreateOrphan, v1alpha1.CreateMerge})
		deletions := rapid.SampledFrom([]v1alpha1.Policy{"", v1alpha1.DeletionDelete, v1alpha1.DeletionMerge})
		ours := func(s *corev1.Secret, k string) bool { return holder(s, k) != "" }
		rt.Repeat(map[string]func(*rapid.T){
			"apply": func(rt *rapid.T) {
				es, r := object(rt), result(data.Draw(rt, "data"))
				out, err := w.Apply(rt.Context(), es, r)
				if err != nil {
					return
				}
				if s := c.secret(out.SecretName); s == nil || s.ResourceVersion != out.ResourceVersion || !includes(s.Data, r.Data) {
					rt.Fatalf("%+v: %s", out, text(s))
				}
				if c.secret(out.SecretName).Annotations[v1alpha1.AnnotationAdopt] == "true" {
					for k := range r.Data {
						delete(theirs[out.SecretName], k)
					}
					if len(theirs[out.SecretName]) == 0 {
						delete(theirs, out.SecretName) // it has become the ExternalSecret's as a whole
					}
				}
				es.Status.SecretName, es.Status.SecretResourceVersion = out.SecretName, out.ResourceVersion
				c.writes.Store(0)
				if again, err := w.Apply(rt.Context(), es, r); err != nil || again.Action != Unchanged || c.writes.Load() > 0 {
					rt.Fatalf("again: %+v %v, %d writes", again, err, c.writes.Load())
				}
				if state, err := w.Current(rt.Context(), es); err != nil || !state.Intact {
					rt.Fatalf("%+v %v", state, err)
				}
			},
			"rename": func(rt *rapid.T) {
				es := object(rt)
				es.Spec.Target.Name = name.Draw(rt, "name")
				c.save(es)
			},
			"policies": func(rt *rapid.T) {
				es := object(rt)
				t := &es.Spec.Target
				t.CreationPolicy, t.DeletionPolicy = policies.Draw(rt, "creation"), deletions.Draw(rt, "deletion")
				t.Immutable = rapid.IntRange(0, 9).Draw(rt, "immutable") == 0
				c.save(es)
			},
			"gone":    func(rt *rapid.T) { _, _ = w.Gone(rt.Context(), object(rt)) },
			"restart": func(*rapid.T) { w = c.writer() },
			"delete and create": func(rt *rapid.T) {
				es := object(rt)
				if err := w.Release(rt.Context(), es); err != nil {
					rt.Fatal(err)
				}
				es.Status = v1alpha1.ExternalSecretStatus{}
				if s := c.secret(Name(es)); s != nil && creation(es) != v1alpha1.CreateOrphan &&
					slices.Contains(Claimants(s), client.ObjectKeyFromObject(es)) {
					rt.Fatalf("after its release: %v", s.Annotations)
				}
			},
			"a stranger creates": func(rt *rapid.T) {
				n := name.Draw(rt, "name")
				if c.secret(n) == nil {
					d := data.Draw(rt, "data")
					c.make(n, rapid.SampledFrom([]string{"helm", originalManager}).Draw(rt, "manager"), d, nil)
					theirs[n] = maps.Clone(d)
				}
			},
			"a stranger writes a key": func(rt *rapid.T) {
				n, k := name.Draw(rt, "name"), key.Draw(rt, "key")
				s := c.secret(n)
				if s == nil || s.Immutable != nil {
					return
				}
				c.edit(n, func(s *corev1.Secret) {
					if s.Data == nil {
						s.Data = map[string][]byte{}
					}
					s.Data[k] = []byte("theirs")
				})
				if !ours(s, k) {
					if theirs[n] == nil {
						theirs[n] = map[string]string{}
					}
					theirs[n][k] = "theirs"
				}
			},
			"a stranger consents": func(rt *rapid.T) {
				if n := name.Draw(rt, "name"); c.secret(n) != nil {
					c.edit(n, func(s *corev1.Secret) {
						s.Annotations = maps.Clone(s.Annotations)
						if s.Annotations == nil {
							s.Annotations = map[string]string{}
						}
						s.Annotations[v1alpha1.AnnotationAdopt] = "true"
					})
				}
			},
			"a stranger deletes": func(rt *rapid.T) {
				if n := name.Draw(rt, "name"); c.secret(n) != nil {
					c.remove(n)
					delete(theirs, n)
				}
			},
			"a restore": func(rt *rapid.T) { // the same, written by another
				if n := name.Draw(rt, "name"); c.secret(n) != nil {
					s := c.secret(n)
					c.remove(n)
					c.make(n, "velero-server", nil, func(to *corev1.Secret) {
						to.Labels, to.Annotations, to.Data, to.Type, to.Immutable = s.Labels, s.Annotations, s.Data, s.Type, s.Immutable
					})
				}
			},
			"": func(rt *rapid.T) {
				for n, data := range theirs {
					s := c.secret(n)
					if s == nil {
						rt.Fatalf("the Secret %s with %v is gone", n, data)
					}
					for k, v := range data {
						if got, ok := s.Data[k]; !ok || !bytes.Equal(got, []byte(v)) {
							rt.Fatalf("%s: %s=%s, a stranger wrote %q", n, k, got, v)
						}
					}
				}
			},
		})
	})
}
