package command

import (
	"os"
	"strings"
	"testing"
)

// What the page shows of the plugin is what the plugin prints.
func TestPage(t *testing.T) {
	text, err := os.ReadFile("../../../../docs/kubectl-kms.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "<!-- kubectl-kms -->\n```\n")
	shown, _, closed := strings.Cut(rest, "```\n<!-- /kubectl-kms -->")
	if !found || !closed {
		t.Fatal("the page has no section kubectl-kms")
	}
	for transcript := range strings.SplitSeq(strings.TrimPrefix(shown, "$ kubectl kms "), "\n$ kubectl kms ") {
		line, want, _ := strings.Cut(transcript, "\n")
		_, stdout, stderr := run(t, "", strings.Fields(line)...)
		if got := stdout + stderr; strings.TrimSpace(got) != strings.TrimSpace(want) {
			t.Errorf("kubectl kms %s prints\n%s", line, got)
		}
	}
	// Every command is in the table.
	for _, name := range []string{"inject", "validate", "explain", "status", "doctor", "at-rest status", "at-rest migrate", "migrate"} {
		if !strings.Contains(string(text), "| `kubectl kms "+name) {
			t.Errorf("the page does not show kubectl kms %s", name)
		}
	}
}
