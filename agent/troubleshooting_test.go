package agent

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the catalogue of codes into docs/troubleshooting.md")

// The codes that docs/troubleshooting.md lists are those that the agent knows.
func TestTroubleshooting(t *testing.T) {
	const file, begin, end = "../docs/troubleshooting.md", "<!-- codes -->\n", "<!-- /codes -->"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	listed, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		t.Fatalf("%s has no %s…%s", file, begin, end)
	}
	catalogue := codes()
	if listed == catalogue {
		return
	}
	if !*update {
		t.Fatalf("the codes in %s are not the present ones; go test ./agent -run Troubleshooting -update writes them", file)
	}
	if err := os.WriteFile(file, []byte(before+begin+catalogue+end+after), 0o644); err != nil {
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
