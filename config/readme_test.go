package config

import (
	"flag"
	"os"
	"strings"
	"testing"
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
