package render

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	gotemplate "text/template"

	"pgregory.net/rapid"

	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// inputs are pairs of an alias and a value.
func inputs(pairs ...string) []Input {
	var out []Input
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Input{Alias: pairs[i], Data: []byte(pairs[i+1])})
	}
	return out
}

func fromTemplate(text string, inputs ...Input) ([]byte, error) {
	return Render(config.Template, nil, text, inputs...)
}

var two = inputs("db", db, "api", "k-'\"1")

func TestTemplate(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"text alone", "no action\n", "no action\n"},
		{"nothing", "", ""},
		{"the contract's example", "user = {{ .db.AccountName | quote }}\nkey  = {{ .api | quote }}\n", "user = \"app\"\nkey  = \"k-'\\\"1\"\n"},
		{"numbers are as written", "{{.db.Id}} {{.db.Ratio}} {{.db.Big}} {{toJson .db.Ratio}}", "1234567890123456789 1.50 1e400 1.50"},
		{"comments and trimming", "a {{- /* no */ -}} b\n{{- with .db }} {{ .Nested.Host }}{{ end }}", "ab db.local"},
		{"if, else if", `{{if eq .db.Port 3307}}a{{else if and .db.On (gt .db.Port 3305)}}b{{else}}c{{end}}`, "b"},
		{"number and its other form", `{{eq .db.Ratio 1.5}} {{lt .db.Id 1234567890123456790}} {{ne .api "x"}} {{ge "b" "a"}} {{le 1 1}}`,
			"true true true true true"},
		{"one of several", `{{eq .db.AccountName "x" "app"}}`, "true"},
		{"range over a list", `{{range $i, $t := .db.Tags}}{{if $i}},{{end}}{{$i}}={{$t}}{{else}}none{{end}}`, "0=a,1=b"},
		{"range over an object is sorted", `{{range $k, $v := .db.Nested}}{{$k}}:{{$v}};{{end}}`, "Host:db.local;"},
		{"break and continue", `{{range splitList "," "a,b,c,d"}}{{if eq . "b"}}{{continue}}{{end}}{{if eq . "d"}}{{break}}{{end}}{{.}}{{end}}`,
			"ac"},
		{"variables", `{{$u := .db.AccountName}}{{with .api}}{{$u}}{{$u = "z"}}{{end}}{{$u}}{{$.db.Port}}`, "appz3306"},
		{"with of a variable", `{{with $p := .db.Port}}{{$p}}{{.}}{{end}}`, "33063306"},
		{"chain", `{{(index .db "Nested").Host}} {{(split ":" "h:1")._1}}`, "db.local 1"},
		{"index", `{{index .db "Tags" 1}}{{index .db.Tags 0}}`, "ba"},
		{"hasKey", `{{if hasKey .db "Replica"}}{{.db.Replica}}{{else}}none{{end}}`, "none"},
		{"and, or, not stop early", `{{or .db.On .nowhere}} {{and (not .db.On) .nowhere}} {{.db.Tags | len | and true}}`, "true false 2"},
		{"quote is JSON, TOML and YAML", "{{\"a\\x7f<&>\\u00e9\\ufeff\\n\" | quote}}", `"a\u007f<&>é\ufeff\n"`},
		{"base64", `{{printf "%s:%s" .db.AccountName .db.Port | b64enc}} {{b64dec "YWI="}}`, "YXBwOjMzMDY= ab"},
		{"toJson", `{{toJson .db.Nested}} {{.db.Tags | toJson}}`, `{"Host":"db.local"} ["a","b"]`},
		{"json", `{{(json "{\"a\":{\"b\":1.50}}").a.b}} {{index (.api | printf "[%q,2]" | fromJson) 1}} {{json "7"}}` +
			`{{if eq (json "null") nil}}n{{end}}`, "1.50 2 7n"},
		{"indent", "k:{{nindent 2 \"a\\nb\"}}|{{indent 1 \"c\\n\"}}", "k:\n  a\n  b| c\n "},
		{"text", `{{trim " a "}}{{upper "b"}}{{lower "C"}}{{replace "x" "y" "xx"}}{{squote "s"}}{{join "+" .db.Tags}}`, "aBcyy's'a+b"},
		{"printf", `{{printf "%d %v %q %%" .db.Port .db.On "a\"b"}}`, `3306 true "a\"b" %`},
		{"null is asked for", `{{if eq nil nil}}x{{end}}`, "x"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := fromTemplate(test.text, two...)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestTemplateOfOneSecret(t *testing.T) {
	for value, want := range map[string]string{
		`{"a":{"b":1.0}}`: "1.0", // an object is its own root
	} {
		if got, err := fromTemplate("{{.a.b}}", Input{Data: []byte(value)}); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", value, got, err)
		}
	}
	for value, want := range map[string]string{
		"plain": "plain", "12": "12", `"text"`: `"text"`, "null": "null", `{"a":1}{`: `{"a":1}{`, "": "",
	} { // anything else is its text
		if got, err := fromTemplate("{{.}}", Input{Data: []byte(value)}); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", value, got, err)
		}
	}
	binary := Input{Alias: "k", Data: []byte("{}\xff\x00"), Binary: true}
	if got, err := fromTemplate("{{.k}} {{b64enc .k}}", binary); err != nil || string(got) != "{}\xff\x00 e33/AA==" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTemplateMistakesAreFoundAtAdmission(t *testing.T) {
	for text, want := range map[string]string{
		"a\n{{ .x ":                        "line 2",
		"{{ end }}":                        "unexpected {{end}}",
		"{{ $x }}":                         "undefined variable",
		"a\n{{ .a | nosuch }}":             "line 2: nosuch: function nosuch is not known; there are and, b64dec",
		`{{ default "x" .a }}`:             "function default is not available: a key that does not exist is an error here",
		`{{ env "HOME" }}`:                 "not available: the agent's environment",
		`{{ if (randAlphaNum 3) }}{{end}}`: "equal secrets must make equal files",
		`{{ range .a }}{{ now }}{{ end }}`: "equal secrets",
		`{{ with .a }}{{else}}{{ sha256sum . }}{{ end }}`: "do not make new ones",
		`{{ include "x" . }}`:                             "nothing else that is read",
		`{{ println .a }}`:                                "use printf",
		`{{ quote }}`:                                     "takes 1 arguments, not 0",
		`{{ .a | replace "x" }}`:                          "takes 3 arguments, not 2",
		`{{ index .a }}`:                                  "at least 2",
		`{{ eq quote 1 }}`:                                "takes 1 arguments, not 0",
		`{{ .a "x" }}`:                                    "is not a function",
		`{{ "x" | .a }}`:                                  "is not a function",
		`{{ eq .a 0x1F }}`:                                "write numbers as JSON does",
		`{{ eq .a 'c' }}`:                                 "write numbers as JSON does",
		`{{ define "x" }}{{ end }}`:                       "a file is one template",
		`a{{ block "x" . }}{{ end }}`:                     "a file is one template",
		`{{ template "template" . }}`:                     "a file is one template",
		strings.Repeat("x", maxTemplate+1):                "at most 65536",
	} {
		if err := CheckTemplate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, want %q", text, err, want)
		}
	}
}

// A file is made of what is there, or not at all: nothing absent, null or of another type becomes text.
func TestTemplateFailsWithNamesAndWithoutValues(t *testing.T) {
	secret := `{"user":"sentinel-1","n":null,"l":["sentinel-2"],"o":{"in":"sentinel-3"},"two-words":"sentinel-4","num":77777,` +
		`"i":123456789012345678901,"j":123456789012345678902}`
	for text, want := range map[string]string{
		"a\n\n{{ .db.usr }}":                   `template line 3: .db.usr: key "usr" does not exist; .db has i, j, l, n, num, o, two-words, user`,
		"{{ .dbb.user }}":                      `key "dbb" does not exist; the value has api, db`,
		"{{ .db.o.inn }}":                      `key "inn" does not exist; .db.o has in`,
		"{{ .db.user.x }}":                     `.db.user has no keys, it is a text`,
		"{{ .api.x }}":                         `.api has no keys, it is a text`,
		"{{ .db.n }}":                          "null",
		"{{ .db.n.x }}":                        ".db.n has no keys, it is null",
		"{{ quote .db.n }}":                    "null",
		"{{ $x := .db.n }}{{ $x }}":            "null",
		"{{ nil | toJson }}{{ .db.o }}":        "an object",
		"{{ .db.l }}":                          "a list, not one value",
		"{{ .db }}":                            "an object",
		"{{ range .db.user }}{{end}}":          "range needs a list or an object, and this is a text",
		"{{ range .db.num }}{{end}}":           "this is a number",
		"{{ range 99999999999 }}{{end}}":       "this is a number",
		"{{ range .db.n }}{{end}}":             "null",
		`{{ index .db "two words" }}`:          "that key does not exist; the object has i, j, l, n",
		`{{ index .db.l 1 }}`:                  "that item does not exist; it is a list of 1",
		`{{ index .db.l .db.user }}`:           "that item does not exist",
		`{{ index .db.user 0 }}`:               "index needs an object or a list",
		`{{ eq .db.user 1 }}`:                  "a text and a number cannot be compared",
		`{{ lt .db.n 1 }}`:                     "null and a number",
		`{{ eq .db.i .db.j }}`:                 "so many digits",
		`{{ b64dec .db.user }}`:                "not base64",
		`{{ squote "it's" }}`:                  "use quote",
		`{{ json .db.user }}`:                  "the value is not JSON",
		`{{ json .db.o }}`:                     "an object",
		`{{ (json "{}").x }}`:                  `key "x" does not exist`,
		`{{ b64dec "/w==" | quote }}`:          "b64enc",
		`{{ b64dec "/w==" | toJson }}`:         "b64enc",
		`{{ indent -1 .db.user }}`:             "whole number",
		`{{ indent .db.user "x" }}`:            "whole number",
		`{{ join "," .db.user }}`:              "needs a list",
		`{{ join "," (splitList "," .db.o) }}`: "an object",
		`{{ printf "%5s" .db.user }}`:          "without widths",
		`{{ printf "%s" }}`:                    "fewer values",
		`{{ printf "x" .db.user }}`:            "more values",
		`{{ printf "%d" .db.user }}`:           "%d writes a number",
		`{{ printf .db.num }}`:                 "begins with a text",
		`{{ hasKey .db.user "x" }}`:            "hasKey needs an object",
		`{{ hasKey .db 1 }}`:                   "a key is a text",
		`{{ len .db.num }}`:                    "has no length",
	} {
		got, err := fromTemplate(text, inputs("db", secret, "api", "sentinel-5")...)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v, want %q", text, got, err, want)
			continue
		}
		if got != nil || strings.Contains(err.Error(), "sentinel") || strings.Contains(err.Error(), "77777") {
			t.Errorf("%s: %q, %v", text, got, err)
		}
	}
}

// Whatever a template does, it ends soon and takes little memory.
func TestTemplateIsBounded(t *testing.T) {
	long := strings.Repeat("x", 32<<10)
	list, _ := json.Marshal(strings.Split(strings.Repeat("y,", 16<<10), ","))
	for name, text := range map[string]string{
		"output":             `{{range .l}}{{$.s}}{{end}}`,
		"ranges in ranges":   `{{range .l}}{{range $.l}}{{range $.l}}{{end}}{{end}}{{end}}`,
		"replace by large":   `{{$x := replace "x" .s .s}}`,
		"replace of nothing": `{{$x := replace "" .s .s}}`,
		"indent":             `{{$x := indent 1000 (join "\n" .l)}}`,
		"wide indent":        `{{$x := indent 9999999999 "x"}}`,
		"join":               `{{$x := join .s .l}}`,
		"printf":             `{{$x := printf "` + strings.Repeat("%s", 100) + `"` + strings.Repeat(" .s", 100) + `}}`,
		"many documents":     `{{range .l}}{{$x := json $.doc}}{{end}}`,
		"many lists":         `{{range .l}}{{$x := splitList "x" $.s}}{{end}}`,
		"many comparisons":   `{{range .l}}{{$x := eq $.s "y"}}{{end}}`,
		"many parts":         `{{$x := splitList "" .s}}`,
		"many variables":     `{{range .l}}` + strings.Repeat(`{{$x := replace "a" "" $.s}}`, 1000) + `{{end}}`,
	} {
		if _, err := fromTemplate(text, Input{Alias: "s", Data: []byte(long)}, Input{Alias: "l", Data: list},
			Input{Alias: "doc", Data: []byte(`"` + long + `"`)}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for name, text := range map[string]string{
		"parentheses": "{{" + strings.Repeat("(", maxTemplate/2-10) + ".s" + strings.Repeat(")", maxTemplate/2-10) + "}}",
		"ifs":         strings.Repeat("{{if .s}}", maxTemplate/20) + strings.Repeat("{{end}}", maxTemplate/20),
		"elses":       strings.Repeat("{{if .s}}{{else}}", 2000) + strings.Repeat("{{end}}", 2000),
	} {
		if err := CheckTemplate(text); err == nil {
			if _, err = fromTemplate(text, Input{Alias: "s", Data: []byte("x")}); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// templates draws templates over the keys of oracleRoot.
func templates(depth int) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		value := rapid.SampledFrom([]string{".", "$", ".s", ".n", ".o.k", ".o", ".l", ".t", ".f", ".empty", "$.s", "$.o.k", ".nope", "$x",
			`"lit"`, "3", "true", "(.o).k", "(index .l 0)", "(len .l)"})
		call := rapid.SampledFrom([]string{"%s", "%s | upper", "upper %s", "%s | trim | lower", "not %s", "len %s", "and %s .s", "or %s .s",
			`eq %s "a"`, "eq %s 3", "lt %s 5", "index .l 1", "hasKey .o %s", `%s | printf "%%v-%%v" .s`})
		expression := func() string { return fmt.Sprintf(call.Draw(t, "call"), value.Draw(t, "value")) }
		var out strings.Builder
		for range rapid.IntRange(1, 3).Draw(t, "parts") {
			kinds := []string{"text", "action", "variable", "assignment"}
			if depth > 0 {
				kinds = append(kinds, "if", "with", "range", "range2")
			}
			body := func() string { return templates(depth-1).Draw(t, "body") }
			switch rapid.SampledFrom(kinds).Draw(t, "kind") {
			case "text":
				out.WriteString(rapid.SampledFrom([]string{"a", " \n", "{{- /* c */ -}}", "}}"}).Draw(t, "text"))
			case "action":
				fmt.Fprintf(&out, "{{%s}}", expression())
			case "variable":
				fmt.Fprintf(&out, "{{$x := %s}}", expression())
			case "assignment":
				fmt.Fprintf(&out, "{{$x = %s}}", expression())
			case "if":
				fmt.Fprintf(&out, "{{if %s}}%s{{else if %s}}%s{{else}}%s{{end}}", expression(), body(), expression(), body(), body())
			case "with":
				fmt.Fprintf(&out, "{{with $x := %s}}%s{{else}}%s{{end}}", expression(), body(), body())
			case "range":
				fmt.Fprintf(&out, "{{range %s}}%s{{else}}%s{{end}}", value.Draw(t, "over"), body(), body())
			case "range2":
				fmt.Fprintf(&out, "{{range $i, $x := %s}}{{if eq $i 1}}{{continue}}{{end}}%s{{end}}", value.Draw(t, "over"), body())
			}
		}
		return out.String()
	})
}

// What is rendered is what text/template renders.
func TestTemplateAgreesWithTheStandardLibrary(t *testing.T) {
	const root = `{"s":"a","n":3,"o":{"k":"v","z":"w"},"l":["p","q","r"],"t":true,"f":false,"empty":[]}`
	oracleRoot := map[string]any{
		"s": "a", "n": 3, "o": map[string]any{"k": "v", "z": "w"}, "l": []any{"p", "q", "r"}, "t": true, "f": false, "empty": []any{},
	}
	oracle := gotemplate.New("").Option("missingkey=error").Funcs(gotemplate.FuncMap{
		"upper":  func(v any) string { return strings.ToUpper(fmt.Sprint(v)) },
		"lower":  func(v any) string { return strings.ToLower(fmt.Sprint(v)) },
		"trim":   func(v any) string { return strings.TrimSpace(fmt.Sprint(v)) },
		"hasKey": func(m map[string]any, key string) bool { _, ok := m[key]; return ok },
	})
	succeeded := 0
	rapid.Check(t, func(t *rapid.T) {
		text := "{{$x := .s}}" + templates(2).Draw(t, "template")
		got, err := fromTemplate(text, Input{Data: []byte(root)})
		if err != nil {
			return
		}
		succeeded++
		var want strings.Builder
		parsed, err := gotemplate.Must(oracle.Clone()).Parse(text)
		if err == nil {
			err = parsed.Execute(&want, oracleRoot)
		}
		if err != nil || string(got) != want.String() {
			t.Fatalf("%s\ngot  %q\nwant %q, %v", text, got, want.String(), err)
		}
	})
	if succeeded < 10 {
		t.Errorf("only %d templates could be compared", succeeded)
	}
}

// Nothing panics, and no error repeats a value.
func FuzzTemplate(f *testing.F) {
	for _, seed := range []string{"{{.db.user | quote}}", "{{range $k, $v := .db}}{{$k}}{{$v}}{{end}}", "{{with .api}}{{b64dec .}}{{end}}",
		`{{(index .db.l 0).x}}`, "{{define"} {
		f.Add(seed)
	}
	const document = `{"user":"s3ntinel","l":[{"x":"s3ntinel"}],"n":null,"i":1e400}`
	in := inputs("db", document, "api", "s3ntinel")
	f.Fuzz(func(t *testing.T, text string) {
		var out []byte
		var err error
		bounds.Allocations(t, len(text)+len(document), func() { out, err = fromTemplate(text, in...) })
		if err != nil && !strings.Contains(text, "s3ntinel") && strings.Contains(err.Error(), "s3ntinel") {
			t.Errorf("%q: %v", text, err)
		}
		if len(out) > maxOutput || err != nil && out != nil || strings.Contains(string(out), "<no value>") &&
			!strings.Contains(text, "no value") {
			t.Errorf("%q: %q, %v", text, out, err)
		}
		var checked error
		bounds.Allocations(t, len(text), func() { checked = CheckTemplate(text) })
		if err == nil && checked != nil {
			t.Errorf("%q renders, but is refused: %v", text, checked)
		}
	})
}
