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

// onGitHub is how a page that is published outside of the repository, the chart's, links to the others.
const onGitHub = "https://github.com/kms-agent-injector/kms-agent-injector/blob/main/"

// TestLinks follows every link of the documents into the repository, to its heading.
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
			link, published := strings.CutPrefix(m[1], onGitHub)
			if strings.Contains(link, "://") {
				continue
			}
			path, anchor, _ := strings.Cut(link, "#")
			target := p.File
			switch {
			case published:
				target = path
			case path != "":
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
