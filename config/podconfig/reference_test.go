package podconfig

import (
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Every annotation has an example, which its own parser accepts.
func TestExamples(t *testing.T) {
	all := Annotations()
	if len(all) != len(rows()) {
		t.Fatalf("%d annotations are described, of %d", len(all), len(rows()))
	}
	for _, a := range all {
		var written map[string]string
		if err := yaml.Unmarshal([]byte(a.Example), &written); err != nil || len(written) == 0 {
			t.Errorf("%s: %v in\n%s", a.Key, err, a.Example)
		}
		for key, value := range written {
			r, argument, err := find(strings.TrimPrefix(key, Prefix))
			if err != nil {
				t.Fatal(err)
			}
			for _, err := range r.parse(&parser{}, argument, value) {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
}

func TestDescribe(t *testing.T) {
	for name, want := range map[string]string{
		"mode": Prefix + "mode", Prefix + "mode": Prefix + "mode",
		"secret": Prefix + "secret.<file>", "secret.": Prefix + "secret.<file>", "secret.db": Prefix + "secret.db", "env": Prefix + "env",
		"env.": Prefix + "env.<NAME>", "env.DB": Prefix + "env.DB",
	} {
		if a, err := Describe(name); err != nil || a.Key != want {
			t.Errorf("%s: %q, %v", name, a.Key, err)
		}
	}
	if _, err := Describe("refresh-intervall"); err == nil || !strings.Contains(err.Error(), "did you mean "+Prefix+"refresh-interval?") {
		t.Error(err)
	}
}

// The fields that are documented are those that are parsed.
func TestSecretFields(t *testing.T) {
	for _, name := range longSecretFields() {
		var read longSecret
		if err := read.field(name, &yaml.Node{Kind: yaml.ScalarNode, Value: "true"}); err != nil || reflect.ValueOf(read).IsZero() {
			t.Errorf("%s is documented and not parsed: %v", name, err)
		}
	}
}
