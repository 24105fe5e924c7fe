package render

import (
	"errors"
	"flag"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

var update = flag.Bool("update", false, "write docs/templates.md")

const db = `{"AccountName":"app","AccountPassword":"p'w$d \"x\"","Port":3306,"Id":1234567890123456789,"Ratio":1.50,"Big":1e400,
"Tags":["a","b"],"Nested":{"Host":"db.local"},"On":true,"Note":"<&>"}`

func keys(pairs ...string) []config.Key {
	var out []config.Key
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, config.Key{Name: pairs[i], Path: pairs[i+1]})
	}
	return out
}

func TestRender(t *testing.T) {
	for _, test := range []struct {
		name   string
		format config.Format
		keys   []config.Key
		value  string
		want   string
	}{
		{"raw is byte for byte", config.Raw, nil, "\xff\x00 x\n\n", "\xff\x00 x\n\n"},
		{"raw with one key is that value", config.Raw, keys("p", "AccountPassword"), db, `p'w$d "x"`},
		{"raw with a key that is no string", config.Raw, keys("n", "Id"), db, "1234567890123456789"},
		{"json sorts keys and keeps numbers", config.JSON, nil, db,
			`{"AccountName":"app","AccountPassword":"p'w$d \"x\"","Big":1e400,"Id":1234567890123456789,"Nested":{"Host":"db.local"},` +
				`"Note":"<&>","On":true,"Port":3306,"Ratio":1.50,"Tags":["a","b"]}` + "\n"},
		{"json of picked keys", config.JSON, keys("user", "AccountName", "id", "Id", "host", "Nested.Host"), db,
			`{"host":"db.local","id":1234567890123456789,"user":"app"}` + "\n"},
		{"env keeps the order of keys", config.Env, keys("USER", "AccountName", "PASSWORD", "AccountPassword", "ID", "Id", "TAGS", "Tags"), db,
			"USER=app\nPASSWORD='p'\\''w$d \"x\"'\nID=1234567890123456789\nTAGS='[\"a\",\"b\"]'\n"},
		{"env without keys is sorted", config.Env, nil, `{"B":"two words","A":true}`, "A=true\nB='two words'\n"},
		{"properties", config.Properties, keys("spring.datasource.password", "AccountPassword", "a key", "Port"), db,
			"spring.datasource.password=p'w$d \"x\"\na\\ key=3306\n"},
		{"properties escape", config.Properties, nil, `{"k":" a\\b\n=#é😀"}`, "k=\\ a\\\\b\\n=#\\u00E9\\uD83D\\uDE00\n"},
		{"yaml keeps types and numbers", config.YAML, nil,
			`{"s":"yes","n":"0123","id":1234567890123456789,"r":1.50,"b":true,"z":null,"l":[1,"1"]}`,
			"b: true\nid: 1234567890123456789\nl:\n    - 1\n    - \"1\"\n\"n\": \"0123\"\nr: 1.50\ns: \"yes\"\nz: null\n"},
		{"yaml of several lines", config.YAML, nil, `{"pem":"-----BEGIN-----\nabc=\n-----END-----\n","odd":"\n x"}`,
			"odd: \"\\n x\"\npem: |\n    -----BEGIN-----\n    abc=\n    -----END-----\n"},
		{"yaml of picked keys", config.YAML, keys("user", "AccountName"), db, "user: app\n"},
		{"comparison of ordinary numbers", config.JSON, keys("m", "Port == `3306` && 'mysql' || 'other'"), db, `{"m":"mysql"}` + "\n"},
		{"alternative of a missing key", config.JSON, keys("h", "Host || Nested.Host"), db, `{"h":"db.local"}` + "\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := renderOne(test.format, test.keys, []byte(test.value), false)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// A JMESPath expression may have a result of any type of JSON. Null is an error in every format.
func TestKeysOfEveryType(t *testing.T) {
	const value = `{"s":"x","n":1.50,"l":[1,"a",{"k":null}],"o":{"b":1,"a":[]},"none":[]}`
	for _, test := range []struct{ path, json, env, yaml string }{
		{"s", `"x"`, "x", "x\n"},
		{"n", "1.50", "1.50", "1.50\n"},
		{"length(l)", "3", "3", "3\n"},
		{"`1.25`", "1.25", "1.25", "1.25\n"},
		{"n > `1`", "", "", ""}, // 1.50 is no number that can be written back as it was, once compared
		{"length(l) > `1`", "true", "true", "true\n"},
		{"`false`", "false", "false", "false\n"},
		{"l[0:2]", `[1,"a"]`, `'[1,"a"]'`, "\n    - 1\n    - a\n"},
		{"l[2]", `{"k":null}`, `'{"k":null}'`, "\n    k: null\n"},
		{"none", "[]", "'[]'", "[]\n"},
		{"keys(o) | sort(@)", `["a","b"]`, `'["a","b"]'`, "\n    - a\n    - b\n"},
		{"{p: s, q: o.b}", `{"p":"x","q":1}`, `'{"p":"x","q":1}'`, "\n    p: x\n    q: 1\n"},
		{"to_string(o.b)", `"1"`, "1", "\"1\"\n"},
		{"nothing", "", "", ""},
		{"l[2].k", "", "", ""},
		{"avg(none)", "", "", ""}, // 0/0
		{"{x: avg(none)}", "", "", ""},
	} {
		for format, want := range map[config.Format]string{
			config.Raw: strings.Trim(test.json, `"`), config.JSON: `{"K":` + test.json + "}\n",
			config.Env: "K=" + test.env + "\n", config.YAML: "K: " + test.yaml,
		} {
			got, err := renderOne(format, keys("K", test.path), []byte(value), false)
			switch {
			case test.json == "" && err == nil:
				t.Errorf("%s of %s: got %q", format, test.path, got)
			case test.json != "" && (err != nil || string(got) != strings.ReplaceAll(want, ": \n", ":\n")):
				t.Errorf("%s of %s: got %q, %v, want %q", format, test.path, got, err, want)
			}
		}
	}
}

func TestMistakesAreNamedWithoutValues(t *testing.T) {
	const secret = `{"user":"sentinel-1","n":null,"two-words":"sentinel-2"}`
	for _, test := range []struct {
		name   string
		format config.Format
		keys   []config.Key
		value  string
		binary bool
		want   []string
	}{
		{"missing key", config.Env, keys("A", "usr", "B", "user", "C", "pass"), secret, false,
			[]string{"key A", `"usr"`, "key C", `"pass"`, "n, two-words, user"}},
		{"null key", config.JSON, keys("A", "n"), secret, false, []string{"key A", "null"}},
		{"null without keys", config.Properties, nil, secret, false, []string{`"n"`, "null"}},
		{"not a variable's name", config.Env, nil, `{"two-words":"sentinel"}`, false, []string{`"two-words"`, "keys:"}},
		{"NUL", config.Env, nil, `{"A":"sentinel\u0000"}`, false, []string{`"A"`, "NUL"}},
		{"not JSON", config.Env, nil, "sentinel", false, []string{"format env", "not JSON", "raw"}},
		{"two documents", config.JSON, nil, `{"a":1}{"sentinel":1}`, false, []string{"format json", "not JSON"}},
		{"not an object", config.Env, nil, `["sentinel"]`, false, []string{"another kind of JSON"}},
		{"raw with keys of text", config.Raw, keys("A", "user"), "sentinel", false, []string{"raw with keys"}},
		{"raw with two keys", config.Raw, keys("A", "user", "B", "user"), secret, false, []string{"raw", "2"}},
		{"binary", config.JSON, nil, "sentinel", true, []string{"binary", "raw"}},
		{"wrong type", config.JSON, keys("A", "length(n)", "B", "sum(user)"), secret, false, []string{"key A", "key B", "another type"}},
		{"path of a list", config.JSON, keys("A", "user"), `["sentinel"]`, false, []string{"a list of 1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := renderOne(test.format, test.keys, []byte(test.value), test.binary)
			if err == nil {
				t.Fatalf("rendered %q", out)
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in: %v", want, err)
				}
			}
			if strings.Contains(err.Error(), "sentinel") {
				t.Errorf("leak: %v", err)
			}
		})
	}
}

// No format makes a file of more than a megabyte, and none takes much more memory to find out.
func TestFilesAreBounded(t *testing.T) {
	long := `{"s":"` + strings.Repeat("x", 30<<10) + `"}`
	var many []config.Key
	for i := range 2000 { // 60 MB
		many = append(many, config.Key{Name: fmt.Sprint("K", i), Path: "s"})
	}
	nested := strings.Repeat(`{"a":`, 5000) + "1" + strings.Repeat("}", 5000)
	for name, c := range map[string]struct {
		format config.Format
		keys   []config.Key
		value  string
	}{
		"json of many keys": {config.JSON, many, long}, "yaml of many keys": {config.YAML, many, long},
		"env of many keys": {config.Env, many, long}, "properties of many keys": {config.Properties, many, long},
		"yaml, nested": {config.YAML, nil, nested}, // each level is indented
		"raw":          {config.Raw, nil, strings.Repeat("x", maxOutput+1)},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		out, err := Render(c.format, c.keys, "", Input{Data: []byte(c.value)})
		if !errors.Is(err, errLarge) || out != nil {
			t.Errorf("%s: %d bytes, %v", name, len(out), err)
		}
		runtime.ReadMemStats(&after)
		if took := (after.TotalAlloc - before.TotalAlloc) >> 20; took > 64 {
			t.Errorf("%s: took %d MB", name, took)
		}
	}
}

func TestCheckKey(t *testing.T) {
	for _, good := range []string{"a", "a.b[0]", `"api-key"`, "a || b", "join(',', tags)"} {
		if err := CheckKey(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "api-key", "a[", "a b", "@@", "a\u0080"} {
		if err := CheckKey(bad); err == nil || !strings.Contains(err.Error(), "double quotes") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// Every user who may create pods can send the webhook such a key, and the webhook has 256 MB for all users.
func TestCheckOfADeepKeyTakesLittleMemory(t *testing.T) {
	for _, bracket := range []string{"(", "[", "{a:", "!"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		done := make(chan error) // in a goroutine, whose stack is its own
		go func() { done <- CheckKey(strings.Repeat(bracket, 64<<10/len(bracket))) }()
		if err := <-done; err == nil {
			t.Errorf("%s… was taken", bracket)
		}
		runtime.ReadMemStats(&after)
		if most := uint64(16 << 20); after.Sys > before.Sys+most {
			t.Errorf("%s… took %d MB", bracket, (after.Sys-before.Sys)>>20)
		}
	}
	if err := CheckKey(strings.Repeat("(", 2000) + "a" + strings.Repeat(")", 2000)); err != nil {
		t.Error(err)
	}
}

// An error that names the keys there are is short, however many and long they are, and paths that find nothing cost little.
func TestNamesAreShort(t *testing.T) {
	doc := map[string]any{}
	for i := range 30 {
		doc[fmt.Sprintf("%02d%s", i, strings.Repeat("é", 1000))] = ""
	}
	if got := Names(doc); len(got) > 2000 || !strings.HasPrefix(got, "00é") || !strings.HasSuffix(got, "é… and 10 more") {
		t.Errorf("%d bytes: %s", len(got), got)
	}
	paths := make([]string, 2000)
	for i := range paths {
		paths[i] = fmt.Sprint("a", i)
	}
	steps := float64(StepsOfFile)
	bounds.Allocations(t, 100*len(paths), func() { _, _ = Search(doc, paths, &steps) })
}
