package render

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf16"

	yaml3 "go.yaml.in/yaml/v3"
	"pgregory.net/rapid"
	yaml2 "sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// awkward draws text with the characters that the formats treat specially.
func awkward(without string) *rapid.Generator[string] {
	return rapid.Custom(func(t *rapid.T) string {
		special := []rune("'\"\\$`!# =:\n\r\t\f#{}[],&*|>-?%@~é€😀\u2028\u0085\x01\x7f\ufeff")
		s := rapid.StringOf(rapid.OneOf(rapid.SampledFrom(special), rapid.Rune())).Draw(t, "text")
		return strings.Map(func(r rune) rune {
			if strings.ContainsRune(without, r) || r == '\uFFFD' {
				return -1
			}
			return r
		}, s)
	})
}

func object(names, values *rapid.Generator[string]) *rapid.Generator[map[string]string] {
	return rapid.MapOfN(names, values, 0, 6)
}

func rendered(t *rapid.T, format config.Format, doc any) []byte {
	value, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	out, err := renderOne(format, nil, value, false)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEnvIsReadBackByAShellParser(t *testing.T) {
	names := rapid.StringMatching(`[A-Za-z_][A-Za-z0-9_]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		want := object(names, awkward("\x00")).Draw(t, "object")
		out := rendered(t, config.Env, want)
		if got := parseShell(string(out)); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q\nread back as %q\nwant         %q", out, got, want)
		}
	})
}

// parseShell reads assignments by the rules of POSIX shell quoting; no expansion is known to it.
func parseShell(file string) map[string]string {
	vars := map[string]string{}
	for file != "" {
		name, rest, ok := strings.Cut(file, "=")
		if !ok {
			return map[string]string{"no assignment": file}
		}
		var value strings.Builder
		quote := byte(0)
		i := 0
		for ; i < len(rest); i++ {
			c := rest[i]
			switch {
			case quote == '\'' && c != '\'', quote == '"' && c != '"' && !strings.ContainsRune("\\$`", rune(c)):
				value.WriteByte(c)
			case quote == c && quote != 0:
				quote = 0
			case quote == 0 && (c == '\'' || c == '"'):
				quote = c
			case quote == 0 && c == '\\':
				i++
				value.WriteByte(rest[i])
			case quote == 0 && c == '\n':
				goto end
			case quote == 0 && !strings.ContainsRune(" \t\r$`&|;<>()#*?[]{}~!\"'", rune(c)):
				value.WriteByte(c)
			default:
				return map[string]string{"special character": rest[i:]}
			}
		}
	end:
		vars[name] = value.String()
		file = rest[i+1:]
	}
	return vars
}

// TestEnvIsReadBackByTheShell asks the machine's own shell.
func TestEnvIsReadBackByTheShell(t *testing.T) {
	values := []string{"", "plain", "two words", "it's", `say "hi"`, `it's "so"`, "$HOME `id` \\n", "a\nb\n", "'", "''", `'"'`, "\t\r #x",
		"é€😀", "-n", `\`, `'\`}
	doc := map[string]string{}
	script := ". ./env\n"
	for i, v := range values {
		doc[fmt.Sprintf("V%02d", i)] = v
		script += fmt.Sprintf("printf '%%s\\0' \"$V%02d\"\n", i)
	}
	value, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	out, err := renderOne(config.Env, nil, value, false)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "env"), out, 0o600); err != nil {
		t.Fatal(err)
	}
	shell := exec.Command("/bin/sh", "-c", script)
	shell.Dir = dir
	printed, err := shell.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Split(strings.TrimSuffix(string(printed), "\x00"), "\x00"); !reflect.DeepEqual(got, values) {
		t.Errorf("the shell read %q\nwant           %q", got, values)
	}
}

func TestPropertiesAreReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := object(awkward(""), awkward("")).Draw(t, "object")
		out := rendered(t, config.Properties, want)
		for _, b := range out {
			if b != '\n' && (b < ' ' || b > '~') {
				t.Fatalf("%q has a byte outside printable ASCII", out)
			}
		}
		if got := parseProperties(string(out)); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q\nread back as %q\nwant         %q", out, got, want)
		}
	})
}

// parseProperties follows the documentation of java.util.Properties.load, for lines without continuation.
func parseProperties(file string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(file) {
		line = strings.TrimLeft(strings.TrimSuffix(line, "\n"), " \t\f")
		if line == "" || line[0] == '#' || line[0] == '!' {
			continue
		}
		end := 0
		for end < len(line) && !strings.ContainsRune("=: \t\f", rune(line[end])) {
			if line[end] == '\\' {
				end++
			}
			end++
		}
		rest := strings.TrimLeft(line[end:], " \t\f")
		if rest != "" && (rest[0] == '=' || rest[0] == ':') {
			rest = strings.TrimLeft(rest[1:], " \t\f")
		}
		all[unescapeJava(line[:end])] = unescapeJava(rest)
	}
	return all
}

func unescapeJava(s string) string {
	var units []uint16
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			units = append(units, uint16(s[i]))
			continue
		}
		i++
		switch s[i] {
		case 'n':
			units = append(units, '\n')
		case 'r':
			units = append(units, '\r')
		case 't':
			units = append(units, '\t')
		case 'f':
			units = append(units, '\f')
		case 'u':
			n, _ := strconv.ParseUint(s[i+1:i+5], 16, 16)
			units = append(units, uint16(n))
			i += 4
		default:
			units = append(units, uint16(s[i]))
		}
	}
	return string(utf16.Decode(units))
}

// TestYAMLAndJSONAreReadBack uses readers of YAML 1.2 and of 1.1, where "yes" and "0123" mean something else.
func TestYAMLAndJSONAreReadBack(t *testing.T) {
	scalar := rapid.OneOf(
		rapid.Map(awkward(""), func(s string) any { return s }),
		rapid.Map(rapid.SampledFrom([]string{"yes", "on", "y", "~", "null", "0x10", "0o7", "0123", "1:30", "1e3", ".inf", "=", "<<", "2001-01-01",
			"- a", "a: b", " a", "a ", "\n", " \n x", "\ta"}), func(s string) any { return s }),
		rapid.Map(rapid.Int64(), func(n int64) any { return json.Number(strconv.FormatInt(n, 10)) }),
		rapid.Just(any(true)),
	)
	rapid.Check(t, func(t *rapid.T) {
		doc := rapid.MapOfN(awkward(""), rapid.OneOf(scalar,
			rapid.Map(rapid.SliceOfN(scalar, 0, 3), func(l []any) any { return l })), 0, 5).Draw(t, "object")
		want, err := json.Marshal(doc)
		if err != nil {
			t.Fatal(err)
		}

		asJSON := rendered(t, config.JSON, doc)
		if got := canonical(t, asJSON); got != canonical(t, want) {
			t.Fatalf("json: %s\nwant  %s", got, want)
		}
		asYAML := rendered(t, config.YAML, doc)
		var back any
		if err := yaml3.Unmarshal(asYAML, &back); err != nil {
			t.Fatalf("%v in\n%s", err, asYAML)
		}
		again, err := json.Marshal(back)
		if err != nil {
			t.Fatal(err)
		}
		if got := canonical(t, again); got != canonical(t, want) {
			t.Fatalf("yaml 1.2:\n%s\nread as %s\nwant    %s", asYAML, got, want)
		}
		old, err := yaml2.YAMLToJSON(asYAML)
		if err != nil {
			t.Fatalf("%v in\n%s", err, asYAML)
		}
		if got := canonical(t, old); got != canonical(t, want) {
			t.Fatalf("yaml 1.1:\n%s\nread as %s\nwant    %s", asYAML, got, want)
		}
	})
}

func canonical(t *rapid.T, doc []byte) string {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
