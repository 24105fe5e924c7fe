package content

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// sentinel is in every value, and so in no error.
const sentinel = "s3ntinel"

const fuzzedValue = `{"user":"s3ntinel","l":[{"x":"s3ntinel"}],"n":null,"i":1e400,"f":1.50,"o":{"s3":"s3ntinel"}}`

// nothing is a Secret that does not exist.
func nothing(string) []byte { return nil }

// of is the Secret that was made.
func of(r Result) func(string) []byte { return func(key string) []byte { return r.Data[key] } }

func constant(value string) Values {
	return func(Ref) (kms.Secret, error) { return kms.Secret{Data: []byte(value)}, nil }
}

// rendered renders twice, and looks for values in errors, and for what no Secret may be.
func rendered(t *testing.T, es *v1alpha1.ExternalSecret, compat Compat, value, strangers string) {
	t.Helper()
	var result Result
	var errs []EntryError
	render := func() { result, errs = Render(es, compat, constant(value), nothing) }
	if es.Spec.Target.Template == nil {
		bounds.Allocations(t, memoryOf*(len(strangers)+len(value)), render)
	} else if peak := bounds.Peak(render); peak > maxPeak {
		t.Errorf("templates take %d MB", peak>>20)
	}
	again, errsAgain := Render(es, compat, constant(value), of(result))
	if !cmp.Equal(result, again) || len(errs) != len(errsAgain) {
		t.Errorf("not the same twice: %s", cmp.Diff(result, again))
	}
	size := 0
	for key, value := range result.Data {
		size += len(value)
		if problem := keyProblem(key); problem != "" {
			t.Errorf("key %q %s", key, problem)
		}
	}
	if size > MaxSize || len(errs) > 0 && result.Data != nil || len(errs) == 0 && (len(result.Data) == 0 || typeProblem(result.Type) != "") {
		t.Errorf("%d bytes, %d keys, type %s, %d errors", size, len(result.Data), result.Type, len(errs))
	}
	for _, err := range errs {
		if strings.Contains(err.Err.Error(), sentinel) && !strings.Contains(strangers, sentinel) {
			t.Errorf("a value is in %q", err.Err)
		}
	}
}

// Limits of memory: how many times 50 bytes for each of the input, beside 4 MB, may be allocated; and the most that an object's templates
// may hold at a time, whose work is not bounded by their length.
const (
	memoryOf = 20
	maxPeak  = 64 << 20
)

// FuzzTemplate tries templates on values.
func FuzzTemplate(f *testing.F) {
	for _, c := range goldenCases(f) {
		if t := c.object.Spec.Target.Template; t != nil {
			for _, text := range t.Data {
				f.Add(text)
			}
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		es := &v1alpha1.ExternalSecret{}
		es.Spec.Data = []v1alpha1.DataSource{{Key: "db"}}
		es.Spec.Target.Template = &v1alpha1.Template{Data: map[string]string{"a": text, "b": text}}
		var mistakes config.Mistakes
		bounds.Allocations(t, memoryOf*len(text), func() { mistakes = Check(es) })
		if peak := bounds.Peak(func() { _, _ = Render(es, Compat{}, constant(fuzzedValue), nothing) }); peak > maxPeak {
			t.Errorf("%q takes %d MB", text, peak>>20)
		}
		result, errs := Render(es, Compat{}, constant(fuzzedValue), nothing)
		if len(mistakes) > 0 && len(errs) == 0 {
			t.Errorf("%q renders, but is refused: %v", text, mistakes)
		}
		if again, _ := Render(es, Compat{}, constant(fuzzedValue), of(result)); !cmp.Equal(result, again) {
			t.Errorf("%q: not the same twice: %s", text, cmp.Diff(result, again))
		}
		for _, err := range errs {
			if strings.Contains(err.Err.Error(), sentinel) && !strings.Contains(text, "3") {
				t.Errorf("%q: a value is in %q", text, err.Err)
			}
		}
	})
}

// FuzzYAML tries values.
func FuzzYAML(f *testing.F) {
	for _, c := range goldenCases(f) {
		for _, answer := range c.Secrets {
			f.Add(answer.Value)
		}
	}
	es := &v1alpha1.ExternalSecret{}
	es.Spec.Data = []v1alpha1.DataSource{{Key: "db", JMESPath: []v1alpha1.JMESPathObject{{Path: "@", ObjectAlias: "all"}}}}
	es.Spec.DataProcess = []v1alpha1.DataProcess{{
		Extract:     &v1alpha1.DataSource{Key: "db"},
		ReplaceRule: []v1alpha1.ReplaceRule{{Source: "[^-._a-zA-Z0-9]", Target: "_"}},
	}}
	f.Fuzz(func(t *testing.T, value string) {
		rendered(t, es, Compat{}, value, value)
		rendered(t, es, Compat{FloatForm: true, TrailingNewline: true, JMESPathFallback: true, ReplaceRuleValues: true}, value, value)
	})
}

// FuzzSpec tries ExternalSecrets.
func FuzzSpec(f *testing.F) {
	files, err := filepath.Glob("testdata/*/object.yaml")
	if err != nil || files == nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var es v1alpha1.ExternalSecret
		if yaml.Unmarshal([]byte(text), &es) != nil {
			return
		}
		var mistakes config.Mistakes
		bounds.Allocations(t, memoryOf*len(text), func() { mistakes = Check(&es) })
		Refs(&es)
		if len(mistakes) == 0 {
			rendered(t, &es, Compat{}, fuzzedValue, text)
		}
	})
}
