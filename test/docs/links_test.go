package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const repository = "../.."

func pages(t *testing.T) []Page {
	t.Helper()
	all, err := Read(repository)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("found %d documents", len(all))
	}
	return all
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	noSlug  = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// TestLinks follows every relative link of the documents, to its heading.
func TestLinks(t *testing.T) {
	anchors := map[string]map[string]bool{}
	for _, p := range pages(t) {
		anchors[p.File] = map[string]bool{"": true}
		for _, h := range heading.FindAllStringSubmatch(p.Prose(), -1) {
			slug := strings.ReplaceAll(noSlug.ReplaceAllString(strings.ToLower(h[1]), ""), " ", "-")
			anchors[p.File][slug] = true
		}
	}
	for _, p := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(p.Prose(), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			path, anchor, _ := strings.Cut(m[1], "#")
			target := p.File
			if path != "" {
				target = filepath.Join(filepath.Dir(p.File), path)
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s: the link %s leads nowhere", p.File, m[1])
			} else if known := anchors[target]; known != nil && !known[anchor] {
				t.Errorf("%s: the link %s leads to no heading of %s", p.File, m[1], target)
			}
		}
	}
}
