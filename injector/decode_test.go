package injector_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	kubernetes "k8s.io/apimachinery/pkg/util/json"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// TestServiceAccount: the name in a manifest may be the old one, or none.
func TestServiceAccount(t *testing.T) {
	for spec, want := range map[string]string{
		`{}`: "default", `{"serviceAccountName":"web"}`: "web", `{"serviceAccount":"old"}`: "old",
		`{"serviceAccount":"old","serviceAccountName":"web"}`: "web",
	} {
		pod, err := injector.DecodePod([]byte(`{"metadata":{"annotations":{` + asked + `}},"spec":` + spec + `}`))
		if err != nil {
			t.Fatal(err)
		}
		d, err := administrator(t, "").Decide(t.Context(), injector.Request{Namespace: "shop", Pod: pod}, noRole{})
		if err != nil || d.Reason != injector.WithoutRole ||
			!strings.Contains(d.NoRole.Error(), "ServiceAccount shop/"+want+", with which the pod runs") {
			t.Errorf("%s: %v, %v", spec, d.NoRole, err)
		}
	}
}

// noRole is a cluster in which no ServiceAccount has a role.
type noRole struct{ oneRole }

func (noRole) ServiceAccountAnnotations(context.Context, string, string, bool) (map[string]string, error) {
	return nil, nil
}

// TestErrorsQuoteNothing: what cannot be decoded may be a secret.
func TestErrorsQuoteNothing(t *testing.T) {
	for _, document := range []string{
		`{"metadata":{"annotations":{"a":s3cret}}}`, `{"metadata":{"annotations":"s3cret"}}`, `{"spec":{"hostNetwork":"s3cret"}}`,
		`{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"s3cret"}]}]}`, `{"spec":{"securityContext":{"runAsUser":"s3cret"}}}`,
		`{"spec":{"containers":[{"ports":[{"containerPort":73734711.5}]}]}}`,
	} {
		_, err := injector.DecodePod([]byte(document))
		if err == nil || strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "73734711") {
			t.Errorf("%s: %v", document, err)
		}
	}
}

// FuzzDecodePod holds DecodePod to the API server's own decoder.
func FuzzDecodePod(f *testing.F) {
	for _, file := range glob(f, "testdata/*.yaml") {
		f.Add(readYAML(f, file))
	}
	for _, text := range []string{
		`null`, `{}`, `[]`, `{"metadata":null,"spec":null}`, `{"spec":{"containers":null,"volumes":[],"initContainers":[null,{}]}}`,
		`{"Spec":{"HostNetwork":true},"spec":{"HOSTNETWORK":true}}`, `{"spec":{"securityContext":{"runAsUser":1.0}}}`,
		`{"spec":{"securityContext":{"runAsUser":-1,"fsGroup":null}}}`, `{"metadata":{"annotations":{"\u0061":"b\ud800","c":null}}}`,
		`{"spec":{"volumes":[{"emptyDir":{}},{"emptyDir":null},{"secret":{"secretName":1}}]}}`,
		`{"spec":{"containers":[{"command":["a",null]}]}}`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		var got injector.Pod
		var err error
		bounds.Allocations(t, len(document), func() { got, err = injector.DecodePod(document) })
		if err != nil && strings.Contains(err.Error(), "there are more than") {
			return // Kubernetes has another limit
		}
		var want injector.Pod
		if !jsontext.Value(document).IsValid(jsontext.AllowInvalidUTF8(true)) && err == nil {
			return // something is there twice, which Kubernetes merges or refuses
		}
		theirs := kubernetes.Unmarshal(document, &want)
		if (err == nil) != (theirs == nil) {
			t.Fatalf("%q: %v; Kubernetes: %v", document, err, theirs)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(injector.Container{}), cmpopts.IgnoreFields(injector.Volume{}, "Others"),
			cmpopts.IgnoreFields(injector.Metadata{}, "Managed"), cmpopts.IgnoreFields(injector.Setting{}, "From")); err == nil && diff != "" {
			t.Fatalf("%q (-Kubernetes +got):\n%s", document, diff)
		}
	})
}

// TestIndented: an injected pod is one also where its JSON has white space.
func TestIndented(t *testing.T) {
	in := administrator(t, "")
	injected := mustInject(t, in, readYAML(t, "testdata/api.yaml"))
	var text bytes.Buffer
	if err := json.Indent(&text, injected, " ", "\t"); err != nil {
		t.Fatal(err)
	}
	d, err := decide(in, text.Bytes())
	if err != nil || !d.Again || d.Patch != nil {
		t.Errorf("again %v, patch %s, %v", d.Again, d.Patch, err)
	}
}
