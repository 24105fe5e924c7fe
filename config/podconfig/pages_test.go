package podconfig

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write docs/annotations.md")

// The examples of these pages are right: each is a pod's annotations but for the switch itself.
func TestPageExamples(t *testing.T) {
	for file, want := range map[string]int{"formats": 4, "identities": 1, "local-api": 1} {
		text, err := os.ReadFile("../../docs/" + file + ".md")
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
				t.Fatalf("%s: %v in\n%s", file, err, example)
			}
			if _, err := Parse(annotations); err != nil {
				t.Errorf("%s: %v in\n%s", file, err, example)
			}
		}
		if found != want {
			t.Errorf("%s: found %d examples, want %d", file, found, want)
		}
	}
}

// docs/annotations.md is made from the rows that parse the annotations.
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
	b.WriteString("# Annotations of pods\n\n[中文](zh/annotations.md)\n\n" +
		"Made from the source by `go test ./config/podconfig -update`; changes are lost.\n\n" +
		"On the pod, or on the pod template of a workload. `kubectl kms explain ANNOTATION` says the same in a terminal; how the long form of\n" +
		"`secret.<file>` is used is in the page on [secret files](formats.md).\n" +
		"In a namespace with injection `kubectl apply` refuses a wrong annotation and says what to write; elsewhere it warns.\n\n" +
		annotationTable())
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

// annotationTable returns the documentation of the pod annotations: a table in Markdown, a row an annotation.
func annotationTable() string {
	var b strings.Builder
	fmt.Fprintf(&b, "| annotation `%s…` | value | default | effect |\n|---|---|---|---|\n", Prefix)
	for _, r := range rows() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.key+r.argument(), r.value, r.initial, r.doc)
	}
	return b.String()
}
