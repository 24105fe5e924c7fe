// Package written compares the parts of the documents that are made of the code with the code. Tests of several packages use it.
package written

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is made of the code into the documents")

// Check fails the test unless a file has a part, between comments of its name, that is as it would be made now.
func Check(t *testing.T, file, part, want string) {
	t.Helper()
	begin, end := "<!-- "+part+" -->\n", "<!-- /"+part+" -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	listed, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no %s…%s", file, begin, end)
	}
	if listed == want {
		return
	}
	if !*update {
		t.Fatalf("the %s in %s are not the present ones; go test -run %s -update in this package writes them", part, file, t.Name())
	}
	if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
