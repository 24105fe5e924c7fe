package injector

// UnmarshalJSON accepts anything, as ReadPod does.
func (*Amount) UnmarshalJSON([]byte) error { return nil }

// Values are what a pod may get, each as this package encodes it, and itself.
func (in *Injector) Values(r Request) (encoded [][]byte, values []any, err error) {
	readers, _, _ := readers(r)
	a := accessOf(r.Pod.Spec, readers)
	resources, _ := in.resources(r)
	containers, err := in.containers(r, a, resources)
	if err != nil {
		return nil, nil, err
	}
	encode := func(text []byte, v any) { encoded, values = append(encoded, text), append(values, v) }
	for _, c := range containers {
		encode(appendValue(nil, c), c)
	}
	for _, v := range in.volumes(r.Spec, a) {
		encode(appendValue(nil, v), v)
	}
	for _, e := range in.identity(r) {
		encode(appendValue(nil, e), e)
	}
	for _, p := range places(r.Spec, "") {
		encode(appendValue(nil, p.VolumeMount), p.VolumeMount)
	}
	return encoded, values, nil
}
