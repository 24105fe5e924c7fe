package content

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

var update = flag.Bool("update", false, "write the golden files anew")

// A goldenCase is testdata/<name>/case.yaml. Beside it are object.yaml, an ExternalSecret, and want.yaml, what becomes of it.
type goldenCase struct {
	Covers   []string               `json:"covers"`            // rows of the field tables
	Original string                 `json:"original"`          // what ack-secret-manager 0.6.7 gives
	Compat   []string               `json:"compat,omitempty"`  // switches that have kms-sync give that
	Secrets  map[string]cloudAnswer `json:"secrets,omitempty"` // by kms.Ref.String
	Present  map[string]string      `json:"present,omitempty"` // what the Secret has
	object   v1alpha1.ExternalSecret
}

type cloudAnswer struct {
	Value  string `json:"value,omitempty"`
	Binary string `json:"binary,omitempty"` // in base64
	Error  string `json:"error,omitempty"`
}

// A golden is what is in want.yaml.
type golden struct {
	Mistakes []string `json:"mistakes,omitempty"`
	Result   *outcome `json:"result,omitempty"`
	Compat   *outcome `json:"compat,omitempty"`
}

type outcome struct {
	Type        string            `json:"type,omitempty"`
	Data        map[string]string `json:"data,omitempty"`
	Binary      map[string][]byte `json:"binary,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
	Errors      []string          `json:"errors,omitempty"`
}

// goldenCases reads testdata.
func goldenCases(t testing.TB) map[string]goldenCase {
	t.Helper()
	files, err := filepath.Glob("testdata/*/case.yaml")
	if err != nil || len(files) == 0 {
		t.Fatal(err, len(files))
	}
	cases := map[string]goldenCase{}
	for _, file := range files {
		var c goldenCase
		decode(t, file, &c)
		decode(t, filepath.Join(filepath.Dir(file), "object.yaml"), &c.object)
		cases[filepath.Base(filepath.Dir(file))] = c
	}
	return cases
}

func decode(t testing.TB, file string, into any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err == nil {
		err = yaml.UnmarshalStrict(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func (c goldenCase) values(ref Ref) (kms.Secret, error) {
	answer, ok := c.Secrets[ref.String()]
	switch {
	case !ok:
		return kms.Secret{}, fmt.Errorf("secret %s does not exist", ref)
	case answer.Error != "":
		return kms.Secret{}, errors.New(answer.Error)
	case answer.Binary != "":
		data, err := base64.StdEncoding.DecodeString(answer.Binary)
		return kms.Secret{Name: ref.Name, Data: data, Binary: true}, err
	}
	return kms.Secret{Name: ref.Name, Data: []byte(answer.Value)}, nil
}

func (c goldenCase) present(key string) []byte { return []byte(c.Present[key]) }

func (c goldenCase) render(compat Compat) *outcome {
	result, errs := Render(&c.object, compat, c.values, c.present)
	o := &outcome{Type: string(result.Type), Labels: result.Labels, Annotations: result.Annotations}
	for key, value := range result.Data {
		if utf8.Valid(value) {
			o.Data = with(o.Data, key, string(value))
		} else {
			o.Binary = with(o.Binary, key, value)
		}
	}
	for _, err := range errs {
		o.Errors = append(o.Errors, cmp.Or(err.Key, "-")+": "+err.Err.Error())
	}
	return o
}

func with[V any](m map[string]V, key string, value V) map[string]V {
	if m == nil {
		m = map[string]V{}
	}
	m[key] = value
	return m
}

// Every case becomes what its golden file has.
func TestGolden(t *testing.T) {
	for name, c := range goldenCases(t) {
		t.Run(name, func(t *testing.T) {
			var got golden
			for _, m := range Check(&c.object) {
				got.Mistakes = append(got.Mistakes, m.String())
			}
			if got.Mistakes == nil || len(c.Secrets) > 0 {
				got.Result = c.render(Compat{})
				if again := c.render(Compat{}); !gocmp.Equal(got.Result, again) {
					t.Errorf("not the same twice:\n%s", gocmp.Diff(got.Result, again))
				}
			}
			if c.Compat != nil {
				compat, err := ParseCompat(c.Compat)
				if err != nil {
					t.Fatal(err)
				}
				got.Compat = c.render(compat)
			}
			c.noValues(t, got)
			if c.Original == "" || len(c.Covers) == 0 {
				t.Error("case.yaml does not say what the original gives, or which fields it covers")
			}
			file := filepath.Join("testdata", name, "want.yaml")
			text, err := yaml.Marshal(got)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(file, text, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(file)
			if err != nil || !bytes.Equal(text, want) {
				t.Errorf("%s: %v; if it is meant: go test ./cmd/kms-sync/content -update\n%s", file, err,
					gocmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(text), "\n")))
			}
		})
	}
}

// noValues looks for the secrets' values in mistakes and errors. The cases write them so that they can be found.
func (c goldenCase) noValues(t *testing.T, got golden) {
	t.Helper()
	texts := slices.Clone(got.Mistakes)
	for _, o := range []*outcome{got.Result, got.Compat} {
		if o != nil {
			texts = append(texts, o.Errors...)
		}
	}
	for _, text := range texts {
		if strings.Contains(text, "s3cr") {
			t.Errorf("a value is in %q", text)
		}
	}
}

// partTwo are the rows that Check refuses by name: they come later. TestGolden has a case of each of them too.
var partTwo = []string{"provider: oos", "target.template.templateFrom"}

// fieldRows are the rows of the field tables: ExternalSecret's, and the functions of templates.
var fieldRows = []string{
	"provider", "provider: oos", "data", "data.key", "data.name", "data.versionId", "data.versionStage", "data.kmsEndpoint",
	"data.secretStoreRef.name", "data.secretStoreRef.namespace", "data.secretStoreRef.kind", "data.jmesPath", "dataProcess",
	"dataProcess.extract", "dataProcess.extract.jmesPath", "dataProcess.replaceRule", "type", "rotationInterval", "target.name",
	"target.template.data", "target.template.templateFrom", "target.template.metadata", "target.template.type",
	"target.template.mergePolicy", "refreshPolicy", "target.creationPolicy", "target.deletionPolicy", "target.immutable",
	"templates: sprig", "templates: env", "templates: missing key", "templates: new values", "templates: bounds", "templates: jsonPath",
	"templates: mergeJson", "templates: parseKeyValue", "templates: toLines", "templates: bcrypt, htpasswd",
	"binary secrets", "managed secrets", "YAML values", "numbers",
}

// Each row of the field tables has a golden case.
func TestFieldsAreCovered(t *testing.T) {
	covered := map[string][]string{}
	for name, c := range goldenCases(t) {
		for _, row := range c.Covers {
			if !slices.Contains(fieldRows, row) {
				t.Errorf("%s covers %q, which is no row", name, row)
			}
			covered[row] = append(covered[row], name)
		}
	}
	for _, row := range fieldRows {
		if covered[row] == nil {
			t.Errorf("no case covers %q", row)
		}
	}
	for _, row := range partTwo {
		for _, name := range covered[row] {
			c := goldenCases(t)[name]
			if len(Check(&c.object)) == 0 {
				t.Errorf("%s: %q is not supported yet, and is not refused", name, row)
			}
		}
	}
	// Each switch has a case that shows what it does.
	shown := map[string]bool{}
	for _, c := range goldenCases(t) {
		for _, name := range c.Compat {
			shown[name] = true
		}
	}
	for _, d := range Differences() {
		if d.Switch != "" && !shown[d.Switch] {
			t.Errorf("no case shows compat.%s", d.Switch)
		}
	}
	if t.Failed() {
		t.Log(slices.Sorted(maps.Keys(covered)))
	}
}
