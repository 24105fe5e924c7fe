package clusterconfig

import (
	"flag"
	"fmt"
	"go/ast"
	goparser "go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/configuration.md")

// The reference is made from what reads the webhook's configuration, and so cannot be about another.
func TestReference(t *testing.T) {
	const file = "../../docs/configuration.md"
	want := referenceText(t)
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != want {
		t.Errorf("%s is not the present one; go test ./config/clusterconfig -update writes it (%v)", file, err)
	}
}

func referenceText(t *testing.T) string {
	t.Helper()
	r := reference{structs: structs(t), defaults: defaults(t), told: map[string]string{}}
	r.section("", "Config")
	return `# The webhook's configuration

Made from the source by ` + "`go test ./config/clusterconfig -update`" + `; changes are lost.

The file of ` + "`kms-webhook --config`" + `, in the cluster the key config.yaml of the ConfigMap kms-webhook. ` +
		`The chart makes it from values of the same names. The
webhook follows changes while it runs; a configuration with a mistake is rejected as a whole, with a text that names each field and what to
write.

| field | type | default | meaning |
|---|---|---|---|
` + r.rows.String() + `
A default with ` + "`<…>`" + ` is made of that field. An empty list that is written down is not the default: ` +
		"`secrets: []`" + ` allows none.
`
}

// reference writes the rows of a table, a row a field.
type reference struct {
	structs  map[string]*ast.StructType
	defaults map[string]string // by the field's path
	told     map[string]string // where a struct's fields are already
	rows     strings.Builder
}

func (r *reference) section(path, name string) {
	r.told[name] = strings.TrimSuffix(path, ".")
	for _, f := range r.structs[name].Fields.List {
		key := yamlKey(f)
		switch key {
		case "-":
			continue
		case "": // inline
			r.section(path, typeName(f.Type))
			continue
		}
		at, kind, said := path+key, typeName(f.Type), comment(f)
		inner := strings.TrimPrefix(kind, "list of ")
		if r.structs[inner] == nil {
			fmt.Fprintf(&r.rows, "| `%s` | %s | %s | %s |\n", at, kind, r.defaults[at], said)
			continue
		}
		shown := "mapping"
		if inner != kind {
			at, shown = at+"[]", "list of mappings"
		}
		where, before := r.told[inner]
		if before && inner != "Gateway" { // which is short
			said = strings.TrimPrefix(said+", with the fields of `"+where+"`", ", ")
			fmt.Fprintf(&r.rows, "| `%s` | %s | | %s |\n", at, shown, said)
			continue
		}
		fmt.Fprintf(&r.rows, "| `%s` | %s | | %s |\n", at, shown, said)
		r.section(at+".", inner)
	}
}

// structs are the package's, by name.
func structs(t *testing.T) map[string]*ast.StructType {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*ast.StructType{}
	for _, file := range files {
		parsed, err := goparser.ParseFile(token.NewFileSet(), file, nil, goparser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if spec, ok := n.(*ast.TypeSpec); ok {
				if s, ok := spec.Type.(*ast.StructType); ok {
					found[spec.Name.Name] = s
				}
			}
			return true
		})
	}
	return found
}

func yamlKey(f *ast.Field) string {
	if f.Tag == nil {
		return "-"
	}
	key, _, _ := strings.Cut(reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("yaml"), ",")
	return key
}

// typeName names a type in YAML's terms.
func typeName(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return typeName(e.X)
	case *ast.ArrayType:
		return "list of " + typeName(e.Elt)
	case *ast.MapType:
		return "map to " + typeName(e.Value)
	case *ast.SelectorExpr:
		return typeName(e.Sel)
	case *ast.Ident:
		if word := map[string]string{"bool": "boolean", "int": "number", "NativeSidecar": "string", "NarrowSessions": "string",
			"Duration": "duration"}[e.Name]; word != "" {
			return word
		}
		return e.Name
	}
	return "?"
}

// comment is a field's own, in one line, without the name of the Go field that it may begin with.
func comment(f *ast.Field) string {
	text := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
	if rest, ok := strings.CutPrefix(text, f.Names[0].Name+" "); ok {
		text = strings.TrimPrefix(strings.TrimPrefix(rest, "is "), "are ")
	}
	return strings.TrimSuffix(strings.NewReplacer("|", `\|`, "<", `\<`).Replace(text), ".")
}

// placeholders stand in a document for what has no default.
var placeholders = map[string]string{"accountID": "1234567890123456", "clusterID": "c0123456789abcdef", "region": "cn-hangzhou",
	"agent.image": "registry.example.com/kms-agent:v1"}

// defaults are what a document with nothing but what is required becomes, by field.
func defaults(t *testing.T) map[string]string {
	t.Helper()
	in, err := Read(fmt.Appendf(nil, "accountID: %q\nclusterID: %s\nregion: %s\nagent: {image: %q}\n",
		placeholders["accountID"], placeholders["clusterID"], placeholders["region"], placeholders["agent.image"]))
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	var filled map[string]any
	if err := yaml.Unmarshal(text, &filled); err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for key, value := range filled {
		addDefaults(t, found, key, value)
	}
	if found["network"] != "`vpc`" || found["accountID"] != "required" || found["agent.requests"] == "" {
		t.Fatalf("the defaults are %v", found)
	}
	return found
}

func addDefaults(t *testing.T, found map[string]string, path string, value any) {
	t.Helper()
	v := reflect.ValueOf(value)
	switch {
	case placeholders[path] != "":
		found[path] = "required"
		return
	case !v.IsValid() || v.IsZero() || v.Kind() == reflect.Slice && v.Len() == 0 || v.Kind() == reflect.Map && v.Len() == 0:
		return
	}
	if fields, ok := value.(map[string]any); ok && path != "agent.requests" && path != "agent.limits" {
		for key, inner := range fields {
			addDefaults(t, found, path+"."+key, inner)
		}
		return
	}
	shown, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	one := strings.ReplaceAll(strings.TrimPrefix(strings.TrimSpace(string(shown)), "- "), "\n", ", ")
	for _, name := range []string{"accountID", "clusterID", "region"} {
		one = strings.ReplaceAll(one, placeholders[name], "<"+name+">")
	}
	found[path] = "`" + one + "`"
}
