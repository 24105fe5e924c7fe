package render

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documented are what the reference of templates says of each function, and shows of it.
var documented = []struct{ names, effect, example string }{
	{"quote", "`\"VALUE\"`, as JSON, TOML and YAML read it", `quote .db.password`},
	{"squote", "`'VALUE'`; a value with `'` or a line end in it is refused, because formats escape them differently", `squote .api`},
	{"toJson", "the value as JSON on one line, keys sorted", `toJson .db.replicas`},
	{"json fromJson", "what a text is as JSON, for objects that are texts in others", `(json .db.options).tls`},
	{"b64enc", "base64 with padding", `b64enc .api`},
	{"b64dec", "the reverse", `b64dec "c2hvcA=="`},
	{"indent", "spaces before every line", `indent 2 .pem`},
	{"nindent", "the same after a line end", `nindent 2 .pem`},
	{"trim upper lower", "of a text: without white space around it, in capitals, in small letters", `upper .db.user`},
	{"replace", "all of a text by another, in a third", `replace "-" "_" .api`},
	{"split", "an object with the parts of a text as `_0`, `_1`, …", `(split "-" .api)._1`},
	{"splitList", "a list of them", `index (splitList "-" .api) 1`},
	{"join", "a text of a list", `join "," .db.replicas`},
	{"printf", "`%s`, `%v` and `%d` write a value, `%q` quotes it, `%%` is a percent sign", `printf "%s@%s" .db.user .api`},
	{"hasKey", "whether an object has a key", `hasKey .db "port"`},
	{"index", "a key or an item; for keys that are no identifiers", `index .db "two words"`},
	{"len", "bytes of a text, items of a list, keys of an object", `len .db.replicas`},
	{"eq ne lt le gt ge", "comparisons; `eq` with one of several", `eq .db.user "web" "app"`},
	{"not and or", "of conditions; the rest of `and` and `or` is not evaluated once it is decided", `or .db.readonly .nowhere`},
}

const documentedSecrets = `{"user":"web","password":"it's \"1\"","replicas":["a","b"],"options":"{\"tls\":true}",` +
	`"two words":"2","readonly":true}`

// TestFunctionsAreDocumented holds docs/templates.md to what the functions do; -update writes it.
func TestFunctionsAreDocumented(t *testing.T) {
	const file = "../../docs/templates.md"
	page := referenceOfTemplates(t)
	if *update {
		if err := os.WriteFile(file, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != page {
		t.Errorf("%s is not the present one, %v; go test ./agent/render -update writes it", file, err)
	}
}

func referenceOfTemplates(t *testing.T) string {
	t.Helper()
	secrets := inputs("db", documentedSecrets, "api", "k-1", "pem", "-----BEGIN\n-----END")
	missing := maps.Clone(functions)
	var rows, refused strings.Builder
	for _, d := range documented {
		var names []string
		for name := range strings.FieldsSeq(d.names) {
			if _, there := missing[name]; !there {
				t.Errorf("there is no function %s, or it is documented twice", name)
			}
			delete(missing, name)
			names = append(names, "`"+name+"`")
		}
		result, err := fromTemplate("{{ "+d.example+" }}", secrets...)
		if err != nil {
			t.Errorf("%s: %v", d.example, err)
		}
		fmt.Fprintf(&rows, "| %s | %s | `%s` | `%s` |\n", strings.Join(names, ", "), d.effect, d.example,
			strings.ReplaceAll(string(result), "\n", "⏎"))
	}
	if len(missing) > 0 {
		t.Errorf("not documented: %q", slices.Sorted(maps.Keys(missing)))
	}
	for _, r := range refusals {
		names := regexp.MustCompile(`\S+`).ReplaceAllString(strings.ReplaceAll(r.names, "*", "…"), "`$0`")
		fmt.Fprintf(&refused, "| %s | %s |\n", strings.ReplaceAll(names, " ", ", "), r.reason)
	}
	return fmt.Sprintf(templatesPage, maxTemplate>>10, maxOutput>>20, documentedSecrets, rows.String(), refused.String())
}

const templatesPage = `# Templates

Made from the source by ` + "`go test ./agent/render -update`" + `; changes are lost.

A file of ` + "`format: template`" + ` is a template in the language of Go's [text/template](https://pkg.go.dev/text/template): ` +
	"`{{ }}`, `if`, `with`, `range`" + `, variables
and pipelines. With ` + "`from`" + ` the secrets have their names there; with ` + "`name`" + ` the secret itself is the dot. ` +
	`A secret whose value is a JSON object or array is that, any other is a text. ` + "`define`, `block` and `template`" + `
are not available: a file is one template.

What is absent or null never becomes text: a key that does not exist is an error that names it and those that there are, ` +
	`and no file changes. Numbers stay as they were
written, and no error has a value in it. A template has at most %d kB, and the file that it makes at most %d MB. ` +
	`Mistakes of language are refused at admission.

## Functions

There are these and no others. Names and arguments are those of text/template and of Sprig; where Sprig makes something up, ` +
	`for a value that is absent or of another kind, these fail. The examples are of
secrets ` + "`api`" + `, which is ` + "`k-1`, `pem`, of the two lines `-----BEGIN` and `-----END`, and `db`:" + `

` + "```json\n%s\n```" + `

| function | gives | example | which is, ⏎ for a line end |
|---|---|---|---|
%s
## What other template languages have

| function | why it is refused |
|---|---|
%s`
