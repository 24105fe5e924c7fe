package podconfig

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the table of annotations into README.md, and docs/annotations.md")

// The README's table of annotations is made from the rows that parse them.
func TestReadmeAnnotations(t *testing.T) {
	const file, begin, end = "../../README.md", "<!-- annotations -->\n", "<!-- /annotations -->"
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
		t.Fatalf("the table of annotations in %s is not the present one; go test ./config/podconfig -update writes it", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+AnnotationTable()+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// The README's examples are right: each is a pod's annotations but for the switch itself.
func TestReadmeExamples(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
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

func TestAnnotationsPage(t *testing.T) {
	const file = "../../docs/annotations.md"
	if *update {
		if err := os.WriteFile(file, []byte(annotationsText()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != annotationsText() {
		t.Errorf("%s is not the present one; go test ./config/podconfig -update writes it (%v)", file, err)
	}
}

// annotationsText has the table of the annotations, and an example of each.
func annotationsText() string {
	var b strings.Builder
	b.WriteString("# Annotations of pods\n\nMade from the source by `go test ./config/podconfig -update`; changes are lost.\n\n" +
		"On the pod, or on the pod template of a workload. `kubectl kms explain ANNOTATION` says the same in a terminal; how the long form of\n" +
		"`secret.<file>` is used is in the [README](../README.md#annotations).\n\n" + AnnotationTable())
	for _, a := range Annotations() {
		fmt.Fprintf(&b, "\n## `%s`\n\n%s. Value: %s. Default: %s.\n\n```yaml\n%s\n```\n", strings.TrimPrefix(a.Key, Prefix),
			strings.ToUpper(a.Effect[:1])+a.Effect[1:], a.Value, a.Default, strings.TrimSpace(a.Example))
		if len(a.Fields) > 0 {
			b.WriteString("\n| field | value | default | effect |\n|---|---|---|---|\n")
		}
		for _, f := range a.Fields {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.Name, f.Value, f.Default, f.Effect)
		}
	}
	return b.String()
}
