package docs

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the examples print into README.md")

// readme is the English one.
func readme(t *testing.T) Page {
	t.Helper()
	all := pages(t)
	return all[slices.IndexFunc(all, func(p Page) bool { return p.File == "README.md" })]
}

// block is the one of the README with a note.
func block(t *testing.T, note string) Block {
	t.Helper()
	all := readme(t).Blocks
	i := slices.IndexFunc(all, func(b Block) bool { return b.Note == note })
	if i < 0 {
		t.Fatalf("README.md has no block %q", note)
	}
	return all[i]
}

// shows fails the test if the block of the README is another text.
func shows(t *testing.T, note, text string) {
	t.Helper()
	shown := block(t, note)
	switch {
	case shown.Text == text:
	case *update:
		begin := "<!-- " + note + " -->\n```\n"
		page := strings.Replace(readme(t).Text, begin+shown.Text, begin+text, 1)
		if err := os.WriteFile(filepath.Join(repository, "README.md"), []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("README.md shows\n%s\nand it is\n%s\ngo test ./test/docs -update writes it", shown.Text, text)
	}
}
