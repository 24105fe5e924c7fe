package podconfig

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// FuzzParse gives any text to the annotations, one to a line: key=value, where ␤ in a value stands for a line's end. What is
// accepted keeps the promises of Spec; what is not is explained.
func FuzzParse(f *testing.F) {
	for _, r := range rows() {
		f.Add("inject=true\nsecret.db=app/db\n" + r.key + r.argument() + "=" + r.example)
	}
	for _, text := range []string{
		"inject=false\nsecrt.db=a", "secret.db=a", "inject=true\nsecret.db={name: a, mode: \"0440\", path: x/y, containers: [a, b]}",
		"inject=true\nsecret.db={name: &x a, path: *x}", "inject=true\nsecret.db=a: &a [*a]",
		"inject=true\nsecret.db=&a {from: *a, keys: *a, containers: *a}",
		"inject=true\nsecret.db=name: a␤format: template␤template: |␤  {{ .a }}", "inject=true\nsecret.db={? a : b}",
		"inject=true\nsecret.db={<<: {name: a}}",
		"inject=true\nsecret.db=!!binary YQ==", "inject=true\nsecret.db={name: !!binary YQ==, optional: yes}",
		"inject=true\nsecret.db=---␤a␤---␤b", "inject=true\nsecret.db=%YAML 9.9␤---␤a",
		"inject=true\nenv.A=a#b.c[0]\nmode=single\napi=true\napi-allow=*,a/*",
		"inject=true\nsecret.a={name: x, path: f}\nsecret.b={name: y, path: f/g}",
		"inject=true\nsecret.db={from: {a: b, c: acs:kms:cn-hangzhou:1:secret/d}, format: template, template: x}",
		"inject=true\nsecret.db=name: \"a\"␤keys: {a: b}␤template: |␤   a␤  - b␤# c␤ d: [e]", "inject=true\nsecret.db=a: |␤ - b␤c: [d]",
		"inject=true\nsecret.db=\xff\x00",
	} {
		f.Add(text)
	}
	for _, value := range hostile() {
		f.Add("inject=true\nsecret.db=" + strings.ReplaceAll(value, "\n", "␤"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		annotations := map[string]string{}
		for line := range strings.SplitSeq(text, "\n") {
			key, value, _ := strings.Cut(line, "=")
			annotations[Prefix+key] = strings.ReplaceAll(value, "␤", "\n")
		}
		var spec Spec
		var err config.Mistakes
		bounds.Allocations(t, len(text), func() { spec, err = Parse(annotations) })
		again, err2 := Parse(annotations)
		if diff := cmp.Diff(spec, again); diff != "" || !reflect.DeepEqual(err, err2) {
			t.Fatalf("equal input, other output:\n%s\n%v\n%v", diff, err, err2)
		}
		if err != nil {
			explained(t, annotations, err)
			return
		}
		promised(t, spec)
	})
}

// FuzzPlainFields holds the short way of reading a mapping to YAML.
func FuzzPlainFields(f *testing.F) {
	for _, text := range []string{"{name: app/db, format: env}", "name: a\nformat: b\n", "{a: b,c: d,}", "{a: b:c}", "a: null",
		"{a: 0440, b: 1e3, c: yes}", "{}", "a: b: c", "{a: :b}", "a: b\n\nc: d", "a: b=", "{a: .}", "_: 1_0",
		"a: |\n  b\nc: d", "a: |\n  b\n\n   c\n  \n \n\nd: |\n e", "a: |\n  b\n    ", "a: |\n  b\n\n\n", "a: |\n  b\n c\n", "a: |\n\tb",
		"a: |\n \tb\n", "a: |\n b\n\tc", "a: |\n b\r\n c",
		"a: |\n b\u0085 c\n", "a: |\n b\n# c", "a: |\n b\n...\n", "a: {b: c, d: e}\nf: [g, h]", "a: [b,]", "a: {b: c,}", "a: [b, 1, :c]",
		`a: "0440"`, `a: "b\c"`, `a: ""`, "a: \"b: #\"", "a: []"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, plain := plainFields(text)
		if !plain || len(text) > 1000 { // YAML has a limit of its own for a key
			return
		}
		want, err := parseYAML(text)
		if err != nil || len(want.Content) != len(got) {
			t.Fatalf("%q: %d nodes, YAML: %d, %v", text, len(got), len(want.Content), err)
		}
		for i, g := range got {
			sameNode(t, text, g, want.Content[i], true)
		}
	})
}

// sameNode compares nodes; the lines of those at the top are in messages.
func sameNode(t *testing.T, text string, got, want *yaml.Node, top bool) {
	t.Helper()
	if got.Kind != want.Kind || got.Value != want.Value || got.ShortTag() != want.ShortTag() || top && got.Line != want.Line ||
		len(got.Content) != len(want.Content) {
		t.Fatalf("%q: %+v, YAML: %+v", text, got, want)
	}
	for i, g := range got.Content {
		sameNode(t, text, g, want.Content[i], false)
	}
}

// said is a key as a mistake names it: a long one without its middle.
func said(key string) string {
	var m config.Mistakes
	m.Add(key, "")
	return m[0].Where
}

// explained looks at what a person is told.
func explained(t *testing.T, annotations map[string]string, err error) {
	t.Helper()
	var mistakes config.Mistakes
	if !errors.As(err, &mistakes) || len(mistakes) == 0 {
		t.Fatalf("no Mistakes: %v", err)
	}
	for _, m := range mistakes {
		written := m.Where == Prefix+injectKey || strings.HasPrefix(m.Problem, "… and ")
		for key := range annotations {
			written = written || said(key) == m.Where
		}
		if !written && m.Where != Prefix+"env" {
			t.Errorf("no annotation %q was written: %s", m.Where, m.Problem)
		}
		if m.Problem == "" || len(m.Problem) > 2<<10+len(" … ") {
			t.Errorf("%s: %q", m.Where, m.Problem)
		}
	}
}

// promised looks at what the injector relies on.
func promised(t *testing.T, spec Spec) {
	t.Helper()
	if !spec.Inject {
		if !reflect.DeepEqual(spec, Spec{}) {
			t.Errorf("a pod that is left alone has %+v", spec)
		}
		return
	}
	paths := map[string]bool{}
	for _, s := range spec.Secrets {
		if err := config.CheckFilePath(s.Path); err != nil || paths[s.Path] {
			t.Errorf("file %q: %v, twice: %v", s.Path, err, paths[s.Path])
		}
		paths[s.Path] = true
		for _, name := range s.Names() {
			if err := config.CheckSecretName(name); err != nil {
				t.Errorf("secret %q: %v", name, err)
			}
		}
		if (s.Format == config.Template) != (s.Template != "") || len(s.From) > 0 && s.Name != "" {
			t.Errorf("contradictory secret %+v", s)
		}
		if s.Mode != nil && (*s.Mode > 0o777 || *s.Mode&0o400 == 0) {
			t.Errorf("mode %o", *s.Mode)
		}
	}
	for _, v := range spec.Env {
		if !config.Identifier(v.Name) {
			t.Errorf("variable %q", v.Name)
		}
	}
	if len(spec.Secrets) == 0 && len(spec.Env) == 0 && spec.API == nil {
		t.Error("nothing to do")
	}
	if spec.RefreshInterval < 0 || spec.TokenExpiration < 600 || strings.ContainsAny(spec.MountPath, ":\x00\n") || spec.MountPath[0] != '/' {
		t.Errorf("%+v", spec)
	}
}
