package content

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// repeating is an object with n of something that takes the same secret each time.
func repeating(what string, n int) *v1alpha1.ExternalSecret {
	es := &v1alpha1.ExternalSecret{}
	entries := func(one v1alpha1.DataProcess) {
		for range n {
			es.Spec.DataProcess = append(es.Spec.DataProcess, one)
		}
	}
	extract := &v1alpha1.DataSource{Key: "a"}
	switch what {
	case "extracts":
		entries(v1alpha1.DataProcess{Extract: extract})
	case "rules":
		entries(v1alpha1.DataProcess{Extract: extract, ReplaceRule: []v1alpha1.ReplaceRule{{Source: "(k|x{0,300})y", Target: "z"}}})
	case "expressions":
		for i := range n {
			path := v1alpha1.JMESPathObject{Path: "length(to_string(@))", ObjectAlias: fmt.Sprint(i)}
			es.Spec.Data = append(es.Spec.Data, v1alpha1.DataSource{Key: "a", JMESPath: []v1alpha1.JMESPathObject{path}})
		}
	case "documents":
		for i := range n {
			path := v1alpha1.JMESPathObject{Path: "k0", ObjectAlias: fmt.Sprint(i)}
			es.Spec.Data = append(es.Spec.Data, v1alpha1.DataSource{Key: "a", JMESPath: []v1alpha1.JMESPathObject{path}})
		}
	case "templates":
		entries(v1alpha1.DataProcess{Extract: extract})
		es.Spec.DataProcess = es.Spec.DataProcess[:1]
		es.Spec.Target.Template = &v1alpha1.Template{Data: map[string]string{}}
		for i := range n {
			es.Spec.Target.Template.Data[fmt.Sprint(i)] = ""
		}
	}
	return es
}

// What an object repeats takes no more than so many times what it takes once, and the error says what is too much.
func TestRepetition(t *testing.T) {
	var text strings.Builder
	for i := range 1500 {
		fmt.Fprintf(&text, "k%d: [a, b]\n", i)
	}
	for what, want := range map[string]string{
		"extracts": "divide the object into several", "rules": "replaceRule rewrites too much", "expressions": "takes too much work",
		"documents": "", "templates": "",
	} {
		t.Run(what, func(t *testing.T) {
			var errs []EntryError
			render := func(n int) func() {
				es := repeating(what, n)
				if mistakes := Check(es); len(mistakes) > 0 {
					t.Error(mistakes)
				}
				return func() { _, errs = Render(es, Compat{}, constant(text.String()), nothing) }
			}
			once := bounds.Allocated(render(1))
			if got := bounds.Allocated(render(900)); got > 150*once {
				t.Errorf("900 take %d times as much as one", got/once)
			}
			switch {
			case want == "" && len(errs) > 0:
				t.Errorf("%d errors: %v", len(errs), errs[0].Err)
			case want != "" && (len(errs) == 0 || !strings.Contains(errs[0].Err.Error(), want)):
				t.Errorf("%.300v", errs)
			}
		})
	}
}

// An object with more than it may have is refused at once, with where and how many; the rest of it is not looked at.
func TestSizes(t *testing.T) {
	es := repeating("extracts", 2)
	es.Spec.DataProcess[1].ReplaceRule = make([]v1alpha1.ReplaceRule, maxRules+1)
	es.Spec.DataProcess[1].Extract = &v1alpha1.DataSource{Key: "a", JMESPath: make([]v1alpha1.JMESPathObject, maxPaths+1)}
	es.Spec.Target.Template = repeating("templates", maxTemplates+1).Spec.Target.Template
	got := Check(es).Error()
	for _, want := range []string{
		"spec: has 10001 expressions in the jmesPath of all entries; at most 10000 are allowed: divide",
		"spec.dataProcess[1].replaceRule: has 101 rules; at most 100 are allowed",
		"spec.target.template: has 1001 templates in data and metadata; at most 1000 are allowed",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	one, many := repeating("templates", 1), repeating("templates", 60_000)
	if least, most := bounds.Allocated(func() { Check(one) }), bounds.Allocated(func() { Check(many) }); most > 10*least {
		t.Errorf("to refuse 60000 templates takes %d times as much as to check one", most/least)
	}
}

// A template is parsed with the functions that it names, not with all.
func TestTemplatesAreCheap(t *testing.T) {
	one, many := repeating("templates", 1), repeating("templates", 1000)
	if least, most := bounds.Allocated(func() { Check(one) }), bounds.Allocated(func() { Check(many) }); most > 100*least {
		t.Errorf("to check 1000 templates takes %d times as much as one", most/least)
	}
}

// A large object works: a thousand secrets, five fields of each, a rule for many, and three hundred templates.
func TestLargeObject(t *testing.T) {
	es := &v1alpha1.ExternalSecret{}
	rule := []v1alpha1.ReplaceRule{{Source: "[^-._a-zA-Z0-9]", Target: "_"}, {Source: "^", Target: "x."}}
	for i := range 500 {
		var paths []v1alpha1.JMESPathObject
		for _, name := range []string{"host", "port", "user", "password", "o.x"} {
			paths = append(paths, v1alpha1.JMESPathObject{Path: name, ObjectAlias: fmt.Sprint(i, ".", name)})
		}
		es.Spec.Data = append(es.Spec.Data, v1alpha1.DataSource{Key: fmt.Sprint("data-", i), JMESPath: paths})
		es.Spec.DataProcess = append(es.Spec.DataProcess, v1alpha1.DataProcess{
			Extract: &v1alpha1.DataSource{Key: fmt.Sprint("extract-", i)}, ReplaceRule: rule,
		})
	}
	es.Spec.Target.Template = &v1alpha1.Template{Data: map[string]string{}, MergePolicy: mergePolicyMerge}
	for i := range 300 {
		key := fmt.Sprint("url-", i)
		es.Spec.Target.Template.Data[key] = fmt.Sprintf(`https://{{ index . "%d.user" | urlquery }}:{{ index . "%d.port" }}/x`, i, i)
	}
	if mistakes := Check(es); len(mistakes) > 0 {
		t.Fatal(mistakes)
	}
	result, errs := Render(es, Compat{}, func(ref Ref) (kms.Secret, error) {
		doc := map[string]any{"host": ref.Name, "port": 3306, "user": "app", "password": strings.Repeat("x", 20), "o": map[string]any{"x": 1}}
		for i := range 15 {
			doc[fmt.Sprint(ref.Name, " ", i)] = "value"
		}
		text, err := json.Marshal(doc)
		return kms.Secret{Data: text}, err
	}, nothing)
	if len(errs) > 0 {
		t.Fatalf("%d errors: %v", len(errs), errs[0].Err)
	}
	if len(result.Data) != 500*5+500*15+5+300 {
		t.Error(len(result.Data))
	}
}
