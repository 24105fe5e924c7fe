package agent

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what is made of the code into docs/troubleshooting.md and docs/operations.md")

// The codes that docs/troubleshooting.md lists are those that the agent knows.
func TestTroubleshooting(t *testing.T) {
	written(t, "../docs/troubleshooting.md", "codes", codes())
}

// written fails the test unless a file has a part, between comments of its name, that is as it would be made now.
func written(t *testing.T, file, part, want string) {
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
		t.Fatalf("the %s in %s are not the present ones; go test ./agent -run %s -update writes them", part, file, t.Name())
	}
	if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// codes are the catalogues as Markdown.
func codes() string {
	var b strings.Builder
	for _, of := range []struct {
		call      string
		catalogue []advice
	}{
		{"STS, `AssumeRoleWithOIDC`: the pod's ServiceAccount becomes its role", stsAdvice},
		{"STS, `AssumeRole`: a second role, or that of an access key", chainAdvice},
		{"KMS, `GetSecretValue`", kmsAdvice},
		{"The node's metadata service, with `identity: node-role`", nodeAdvice},
	} {
		fmt.Fprintf(&b, "\n### %s\n\n| code | why | fix |\n|---|---|---|\n", of.call)
		for _, entry := range of.catalogue {
			fmt.Fprintf(&b, "| `%s` | %s | %s |\n", entry.code, entry.cause, entry.cure)
		}
	}
	return b.String() + "\n"
}
