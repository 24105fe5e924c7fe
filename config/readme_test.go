package config

import (
	"flag"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the table of annotations into README.md")

// The README's table of annotations is made from the rows that parse them.
func TestReadmeAnnotations(t *testing.T) {
	const file, begin, end = "../README.md", "<!-- annotations -->\n", "<!-- /annotations -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	table, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no %s…%s", file, begin, end)
	}
	if table == AnnotationTable() {
		return
	}
	if !*update {
		t.Fatalf("the table of annotations in %s is not the present one; go test ./config -update writes it", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+AnnotationTable()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The README's examples are right: each is a pod's annotations but for the switch itself.
func TestReadmeExamples(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for block := range strings.SplitSeq(string(text), "```yaml\n") {
		example, _, closed := strings.Cut(block, "```")
		if !closed || !strings.HasPrefix(example, Prefix) {
			continue
		}
		found++
		annotations := map[string]string{Prefix + injectKey: "true"}
		if err := yaml.Unmarshal([]byte(example), annotations); err != nil {
			t.Fatalf("%v in\n%s", err, example)
		}
		if _, err := Parse(annotations); err != nil {
			t.Errorf("%v in\n%s", err, example)
		}
	}
	if found < 4 {
		t.Errorf("found %d examples", found)
	}
}
