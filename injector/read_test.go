package injector_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	kubejson "sigs.k8s.io/json"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// TestReadPodReadsAll has a value in every field of Pod: one that has no line in ReadPod comes back empty.
func TestReadPodReadsAll(t *testing.T) {
	var want injector.Pod
	fill(reflect.ValueOf(&want).Elem())
	if got := readPod(t, marshal(t, want)); !reflect.DeepEqual(got, want) {
		t.Errorf("ReadPod does not read a field of Pod (-written +read):\n%s", cmp.Diff(want, got))
	}
}

func TestServiceAccountOf(t *testing.T) {
	for spec, want := range map[string]string{
		`{}`: "default", `{"serviceAccountName":"web"}`: "web", `{"serviceAccount":"old"}`: "old", `{"serviceAccount":"old","serviceAccountName":"web"}`: "web",
	} {
		if got := injector.ServiceAccountOf(readPod(t, []byte(`{"spec":`+spec+`}`))); got != want {
			t.Errorf("%s runs with %s, not %s", spec, want, got)
		}
	}
}

func fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[injector.Setting]() {
			v.Set(reflect.ValueOf(injector.Setting{Name: config.AgentEnv, Value: "text"}))
			return
		}
		for i := range v.NumField() {
			if v.Type().Field(i).Tag.Get("json") == "-" {
				continue
			}
			fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0))
		fill(v.Index(1))
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key)
		fill(value)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("text")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(42)
	default:
		panic("fill cannot make a " + v.Type().String())
	}
}

func readPod(t fataler, document []byte) injector.Pod {
	t.Helper()
	r := rawjson.NewReader(string(document))
	pod := injector.ReadPod(r)
	if err := r.End(); err != nil {
		t.Fatalf("%v", err)
	}
	return pod
}

// FuzzReadPod holds ReadPod to the API server's own decoder.
func FuzzReadPod(f *testing.F) {
	for _, file := range glob(f, "testdata/*.yaml") {
		f.Add(readYAML(f, file))
	}
	for _, text := range []string{
		`null`, `{}`, `[]`, `{"metadata":null,"spec":null}`, `{"spec":{"containers":null,"volumes":[],"initContainers":[null,{}]}}`,
		`{"Spec":{"HostNetwork":true},"spec":{"HOSTNETWORK":true}}`, `{"spec":{"securityContext":{"runAsUser":1.0}}}`,
		`{"spec":{"securityContext":{"runAsUser":-1,"fsGroup":null}}}`, `{"metadata":{"annotations":{"\u0061":"b\ud800","c":null}}}`,
		`{"spec":{"volumes":[{"emptyDir":{}},{"emptyDir":null},{"secret":{"secretName":1}}]}}`, `{"spec":{"containers":[{"command":["a",null]}]}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		var got injector.Pod
		var err error
		bounds.Allocations(t, len(document), func() {
			r := rawjson.NewReader(string(document))
			got = injector.ReadPod(r)
			err = r.End()
		})
		if err != nil && strings.Contains(err.Error(), "inside each other") {
			return // Kubernetes has another limit
		}
		var want injector.Pod
		strict, theirs := kubejson.UnmarshalStrict(document, &want)
		for _, e := range strict {
			if strings.Contains(e.Error(), "duplicate field") {
				return // Kubernetes merges what is there twice, or refuses it
			}
		}
		if (err == nil) != (theirs == nil) {
			t.Fatalf("%q: %v; Kubernetes: %v", document, err, theirs)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(injector.Container{}, "Text")); err == nil && diff != "" {
			t.Fatalf("%q (-Kubernetes +got):\n%s", document, diff)
		}
	})
}
