package injector

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// UnmarshalJSON accepts anything, as ReadPod does.
func (*Amount) UnmarshalJSON([]byte) error { return nil }

// UnmarshalJSON reads a container's resources as ReadPod does.
func (g *Guarantee) UnmarshalJSON(text []byte) error {
	r := rawjson.NewReader(string(text))
	*g = readGuarantee(r)
	return r.End()
}

// MarshalJSON writes resources that are so.
func (g Guarantee) MarshalJSON() ([]byte, error) {
	if !g {
		return []byte("null"), nil
	}
	return []byte(`{"limits":{"cpu":"1","memory":"1Gi"}}`), nil
}

// UnmarshalJSON reads a volume as ReadPod does.
func (v *Volume) UnmarshalJSON(text []byte) error {
	r := rawjson.NewReader(string(text))
	*v = readVolume(r)
	return r.End()
}

// MarshalJSON writes a volume with a source that is read-only, if it is.
func (v Volume) MarshalJSON() ([]byte, error) {
	type fields Volume
	type source struct {
		ReadOnly bool `json:"readOnly"`
	}
	return json.Marshal(struct {
		fields
		CSI source `json:"csi"`
	}{fields(v), source{v.ReadOnly}})
}

// A Value is something that a pod may get as this package encodes it, and an empty one of Kubernetes' type.
type Value struct {
	Text []byte
	Type any
}

// Values are what a pod may get, and the agent's document.
func (in *Injector) Values(request Request) (values []Value, document config.Agent) {
	r := &request
	r.views, r.viewOf = views(&r.Spec)
	readers, _, _ := readers(r)
	a := accessOf(&r.Pod.Spec, readers)
	resources, _ := in.resources(r)
	document = in.document(r, &a)
	for _, c := range in.containers(r, in.shared(r, &a, resources, &memory{document: appendDocument(nil, document)})) {
		values = append(values, Value{appendValue(nil, c), &corev1.Container{}})
	}
	for _, v := range in.volumes(r, &a) {
		values = append(values, Value{appendValue(nil, v), &corev1.Volume{}})
	}
	for _, e := range in.identity(r) {
		values = append(values, Value{appendValue(nil, e), &corev1.EnvVar{}})
	}
	for _, p := range r.places("") {
		values = append(values, Value{appendValue(nil, p.Mount), &corev1.VolumeMount{}})
	}
	return values, document
}

// AppendDocument is appendDocument.
var AppendDocument = appendDocument
