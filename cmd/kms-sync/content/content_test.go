package content

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// What is read twice is one Ref, and a store has its whole name.
func TestRefs(t *testing.T) {
	es := &v1alpha1.ExternalSecret{}
	es.Namespace = "team-a"
	store := func(s v1alpha1.SecretStoreRef) *v1alpha1.SecretStoreRef { return &s }
	es.Spec.Data = []v1alpha1.DataSource{
		{Key: "b", Name: "one"},
		{Key: "a", SecretStoreRef: store(v1alpha1.SecretStoreRef{Name: "s"})},
		{Key: "a", SecretStoreRef: store(v1alpha1.SecretStoreRef{Name: "s", Namespace: "team-a", Kind: KindSecretStore})},
		{Key: "a", SecretStoreRef: store(v1alpha1.SecretStoreRef{Name: "s", Namespace: "ignored", Kind: KindClusterSecretStore})},
		{Key: "b", Name: "two", KMSEndpoint: " kms.cn-hangzhou.aliyuncs.com "},
	}
	es.Spec.DataProcess = []v1alpha1.DataProcess{
		{Extract: &v1alpha1.DataSource{Key: "b"}}, {}, {Extract: &v1alpha1.DataSource{Key: "b", VersionID: "v1"}},
	}
	want := []Ref{
		{Ref: kms.Ref{Name: "b"}},
		{Ref: kms.Ref{Name: "a"}, Store: v1alpha1.SecretStoreRef{Name: "s", Namespace: "team-a", Kind: KindSecretStore}},
		{Ref: kms.Ref{Name: "a"}, Store: v1alpha1.SecretStoreRef{Name: "s", Kind: KindClusterSecretStore}},
		{Ref: kms.Ref{Name: "b"}, Endpoint: "kms.cn-hangzhou.aliyuncs.com"},
		{Ref: kms.Ref{Name: "b", VersionID: "v1"}},
	}
	if diff := cmp.Diff(want, Refs(es)); diff != "" {
		t.Error(diff)
	}
}

func TestParseCompat(t *testing.T) {
	got, err := ParseCompat([]string{"floatForm", "compat.jmesPathFallback"})
	if err != nil || got != (Compat{FloatForm: true, JMESPathFallback: true}) {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := ParseCompat([]string{"floatform"}); err == nil || !strings.Contains(err.Error(), `did you mean "floatForm"?`) {
		t.Error(err)
	}
}

// A password with a colon in it is a line of YAML; no error has a part of it.
func TestOneLineIsInNoError(t *testing.T) {
	es := &v1alpha1.ExternalSecret{}
	es.Spec.Data = []v1alpha1.DataSource{{Key: "db", JMESPath: []v1alpha1.JMESPathObject{{Path: "user", ObjectAlias: "user"}}}}
	es.Spec.DataProcess = []v1alpha1.DataProcess{{Extract: &v1alpha1.DataSource{Key: "db"}}}
	_, errs := Render(es, Compat{}, constant("s3nti/nel: x9"), nothing)
	if len(errs) != 2 {
		t.Error(errs)
	}
	for _, err := range errs {
		if strings.Contains(err.Err.Error(), "s3nti") || strings.Contains(err.Err.Error(), "x9") {
			t.Error(err.Err)
		}
	}
}

// Thousands of paths that find nothing make one short error, which says how many there are.
func TestManyMistakesAreShort(t *testing.T) {
	value := map[string]string{}
	for i := range 20 {
		value[fmt.Sprintf("%03d%s", i, strings.Repeat("k", 1400))] = ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	es := &v1alpha1.ExternalSecret{}
	es.Spec.Data = []v1alpha1.DataSource{{Key: "a"}}
	for i := range 3000 {
		es.Spec.Data[0].JMESPath = append(es.Spec.Data[0].JMESPath, v1alpha1.JMESPathObject{Path: fmt.Sprint("a", i), ObjectAlias: fmt.Sprint(i)})
	}
	var errs []EntryError
	bounds.Allocations(t, 100*3000+len(text), func() { _, errs = Render(es, Compat{}, constant(string(text)), nothing) })
	if len(errs) != 1 {
		t.Fatal(len(errs))
	}
	got := errs[0].Err.Error()
	if len(got) > 8<<10 || !strings.HasPrefix(got, `jmesPath for "0": path "a0" is not in the secret`) ||
		!strings.HasSuffix(got, "; and 2997 more mistakes") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
}
