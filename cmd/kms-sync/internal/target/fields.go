package target

import (
	"encoding/json"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

const jsonPatch = types.JSONPatchType

// fields are names of keys, labels and annotations that a field manager holds.
type fields struct{ keys, labels, annotations []string }

// heldIn returns what an entry of managedFields has.
func heldIn(entry metav1.ManagedFieldsEntry) fields {
	var f struct {
		Data     map[string]json.RawMessage `json:"f:data"`
		Metadata struct {
			Labels      map[string]json.RawMessage `json:"f:labels"`
			Annotations map[string]json.RawMessage `json:"f:annotations"`
		} `json:"f:metadata"`
	}
	if entry.FieldsV1 == nil || json.NewDecoder(entry.FieldsV1.GetRawReader()).Decode(&f) != nil {
		return fields{} // the API server does not keep such entries
	}
	names := func(m map[string]json.RawMessage) (all []string) {
		for name := range m {
			if name, ok := strings.CutPrefix(name, "f:"); ok { // the map itself is "."
				all = append(all, name)
			}
		}
		return all
	}
	return fields{keys: names(f.Data), labels: names(f.Metadata.Labels), annotations: names(f.Metadata.Annotations)}
}

// fieldsOf returns what a field manager holds of a Secret, by apply or by update.
func fieldsOf(s *corev1.Secret, manager string) (all fields) {
	for _, entry := range s.ManagedFields {
		if entry.Manager == manager {
			f := heldIn(entry)
			all.keys = append(all.keys, f.keys...)
			all.labels = append(all.labels, f.labels...)
			all.annotations = append(all.annotations, f.annotations...)
		}
	}
	return all
}

// heldByOthers returns those of the keys that do not go when the manager's next apply is without them.
func heldByOthers(s *corev1.Secret, manager string, keys []string) (all []string) {
	own, others := map[string]bool{}, map[string]bool{}
	for _, entry := range s.ManagedFields {
		set := others
		if entry.Manager == manager && entry.Operation == metav1.ManagedFieldsOperationApply {
			set = own
		}
		for _, k := range heldIn(entry).keys {
			set[k] = true
		}
	}
	for _, k := range keys {
		if !own[k] || others[k] {
			all = append(all, k)
		}
	}
	return all
}

// takeOver returns the patch that has the ExternalSecret's field manager hold by apply what it holds by the creation of the Secret, and
// what ack-secret-manager holds of one that it made; nil if there is nothing to do.
func takeOver(s *corev1.Secret, es *v1alpha1.ExternalSecret, original bool) ([]byte, error) {
	managers := sets.New(Manager(es))
	if original {
		managers.Insert(originalManager)
	}
	return csaupgrade.UpgradeManagedFieldsPatch(s, managers, Manager(es))
}

// stale are the fields that were the ExternalSecret's and that it no longer has.
type stale fields

func (s stale) none() bool { return len(s.keys)+len(s.labels)+len(s.annotations) == 0 }

func minus(names []string, wanted map[string]string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool { _, ok := wanted[name]; return ok })
}

func contains(all, some map[string]string) bool {
	for k, v := range some {
		if got, ok := all[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// operations are a JSON patch.
type operations []operation

type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value,omitempty"`
}

func (o operations) with(op, path string, value any) operations {
	return append(o, operation{Op: op, Path: path, Value: value})
}

func (o operations) raw() client.Patch {
	text, err := json.Marshal(o)
	if err != nil {
		panic(err) // strings
	}
	return client.RawPatch(jsonPatch, text)
}

func annotationPath(name string) string { return "/metadata/annotations/" + escape(name) }

func escape(name string) string { return strings.NewReplacer("~", "~0", "/", "~1").Replace(name) }

// removal removes what is there of the keys, labels and annotations, if the Secret has not changed meanwhile.
func removal(s *corev1.Secret, keys, labels, annotations []string) operations {
	o := operations{}.with("replace", "/metadata/resourceVersion", s.ResourceVersion)
	for _, k := range unique(keys) {
		if _, ok := s.Data[k]; ok {
			o = o.with("remove", "/data/"+escape(k), nil)
		}
	}
	for _, k := range unique(labels) {
		if _, ok := s.Labels[k]; ok {
			o = o.with("remove", "/metadata/labels/"+escape(k), nil)
		}
	}
	for _, k := range unique(annotations) {
		if _, ok := s.Annotations[k]; ok {
			o = o.with("remove", annotationPath(k), nil)
		}
	}
	return o
}

func unique(names []string) []string { return slices.Compact(slices.Sorted(slices.Values(names))) }
