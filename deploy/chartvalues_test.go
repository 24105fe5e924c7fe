package deploy_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var updateValues = flag.Bool("update-values", false, "write the tables of the charts' README.md anew")

// Every value of a chart has a comment, of its own or of its group, and is in the schema.
func TestValuesAreDocumented(t *testing.T) {
	for _, chart := range []string{"kms-agent-injector", "kms-sync"} {
		t.Run(chart, func(t *testing.T) {
			documented(t, "chart/"+chart+"/")
		})
	}
}

// documented compares the table in a chart's README.md with its values.
func documented(t *testing.T, folder string) {
	t.Helper()
	var document yaml.Node
	if err := yaml.Unmarshal([]byte(read(t, folder+"values.yaml")), &document); err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal([]byte(read(t, folder+"values.schema.json")), &root); err != nil {
		t.Fatal(err)
	}
	table := valuesTable{t: t, root: root}
	table.add("", document.Content[0], root)
	const header = "| value | default | meaning |\n|---|---|---|\n"
	path := folder + "README.md"
	text, _, found := strings.Cut(read(t, path), header)
	if !found {
		t.Fatalf("%s has no table of values", path)
	}
	if *updateValues {
		if err := os.WriteFile(path, []byte(text+header+table.rows.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if read(t, path) != text+header+table.rows.String() {
		t.Errorf("%s does not have the present values; run make chart-values", path)
	}
}

type valuesTable struct {
	t    *testing.T
	root schema
	rows strings.Builder
}

// add writes a row for each value, in the file's order.
func (v *valuesTable) add(path string, mapping *yaml.Node, s schema) {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		s = v.root.Defs[name]
	}
	for i := 0; i < len(mapping.Content); i += 2 {
		key, value := mapping.Content[i], mapping.Content[i+1]
		at := path + key.Value
		of, known := s.Properties[key.Value]
		if !known {
			v.t.Errorf("%s is not in the schema", at)
			continue
		}
		said := words(key.HeadComment)
		if said == "" {
			said = strings.TrimSuffix(describe(of, v.root), ".")
		}
		if said == "" {
			v.t.Errorf("%s has no comment in values.yaml and no description in the schema", at)
		}
		group := value.Kind == yaml.MappingNode && value.Style&yaml.FlowStyle == 0 && of.named(v.root)
		initial := ""
		if !group {
			text, err := yaml.Marshal(value)
			if err != nil {
				v.t.Fatal(err)
			}
			value.HeadComment, value.LineComment, value.FootComment = "", "", ""
			if initial = "`" + strings.Join(strings.Fields(string(text)), " ") + "`"; strings.Count(string(text), "\n") > 1 {
				initial = "see values.yaml"
			}
		}
		fmt.Fprintf(&v.rows, "| `%s` | %s | %s |\n", at, initial, strings.NewReplacer("|", `\|`, "<", `\<`).Replace(said))
		if group {
			v.add(at+".", value, of)
		}
	}
}

func describe(s, root schema) string {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok && s.Description == "" {
		return root.Defs[name].Description
	}
	return s.Description
}

// named reports whether the schema lists the allowed keys.
func (s schema) named(root schema) bool {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		s = root.Defs[name]
	}
	return len(s.Properties) > 0
}

// example matches a commented-out example.
var example = regexp.MustCompile(`^(  .*|- .*|\w+: [\[{].*)$`)

// words returns a comment's text about the value below it: the last paragraph, without examples and the text before them.
func words(comment string) string {
	var lines []string
	fresh := false // the last line was an example, empty, or dashes
	for line := range strings.SplitSeq(comment, "\n") {
		line = strings.TrimPrefix(strings.TrimPrefix(line, "#"), " ")
		switch {
		case line == "" || strings.HasPrefix(line, "----") || example.MatchString(line):
			fresh = true
		case fresh:
			lines, fresh = []string{line}, false
		default:
			lines = append(lines, line)
		}
	}
	return strings.TrimSuffix(strings.Join(lines, " "), ".")
}
