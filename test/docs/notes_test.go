package docs

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write what the examples print into their pages")

// noted is the one block of all pages whose note begins so, and its page.
func noted(t *testing.T, note string) (page Page, block Block) {
	t.Helper()
	found := 0
	for _, p := range pages(t) {
		for _, b := range p.Blocks {
			if strings.HasPrefix(b.Note, note) {
				page, block = p, b
				found++
			}
		}
	}
	if found != 1 {
		t.Fatalf("%d blocks are noted as %q", found, note)
	}
	return page, block
}

// shows fails the test if the block with the note is another text.
func shows(t *testing.T, note, text string) {
	t.Helper()
	page, shown := noted(t, note)
	switch {
	case shown.Text == text:
	case *update:
		begin := "<!-- " + note + " -->\n```\n"
		changed := strings.Replace(page.Text, begin+shown.Text, begin+text, 1)
		if err := os.WriteFile(filepath.Join(repository, page.File), []byte(changed), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s shows\n%s\nand it is\n%s\ngo test ./test/docs -update writes it", page.File, shown.Text, text)
	}
}
