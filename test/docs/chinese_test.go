package docs

import (
	"slices"
	"strings"
	"testing"
)

func named(t *testing.T, file string) Page {
	t.Helper()
	all := pages(t)
	i := slices.IndexFunc(all, func(p Page) bool { return p.File == file })
	if i < 0 {
		t.Fatalf("there is no %s", file)
	}
	return all[i]
}

// TestReadmes holds the two READMEs to each other, and to the length that a user reads: what is to be typed is the same, in the
// same order.
func TestReadmes(t *testing.T) {
	const lines = 200
	if shown := named(t, "README.md").Section("demo"); shown == "" || shown != named(t, "README.zh-CN.md").Section("demo") {
		t.Error("the READMEs do not show the same of the demo")
	}
	typed := map[string][]Block{}
	for _, file := range []string{"README.md", "README.zh-CN.md"} {
		p := named(t, file)
		if n := strings.Count(p.Text, "\n"); n > lines {
			t.Errorf("%s has %d lines; %d are enough", file, n, lines)
		}
		for _, b := range p.Blocks {
			if b.Language != "" && b.Language != "mermaid" { // a picture's words are translated
				typed[file] = append(typed[file], Block{Language: b.Language, Text: b.Text})
			}
		}
	}
	english, chinese := typed["README.md"], typed["README.zh-CN.md"]
	if len(english) < 8 || len(english) != len(chinese) {
		t.Fatalf("README.md has %d blocks, README.zh-CN.md %d", len(english), len(chinese))
	}
	for i, b := range english {
		if chinese[i] != b {
			t.Errorf("README.zh-CN.md shows\n%s\nwhere README.md shows\n%s", chinese[i].Text, b.Text)
		}
	}
}

// TestChineseTables holds the Chinese tables of annotations and of the plugin's commands to the English ones: each row is there.
func TestChineseTables(t *testing.T) {
	annotations, _, _ := strings.Cut(named(t, "docs/annotations.md").Text, "\n## ")
	for _, c := range []struct{ page, table, prefix string }{
		{"docs/zh/annotations.md", annotations, "`"},
		{"docs/zh/kubectl-kms.md", named(t, "docs/kubectl-kms.md").Text, "`kubectl kms "},
	} {
		chinese, rows := named(t, c.page).Text, 0
		for row := range strings.Lines(c.table) {
			key, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
			if !strings.HasPrefix(row, "| "+c.prefix) {
				continue
			}
			rows++
			if !strings.Contains(chinese, "\n| "+key+" |") {
				t.Errorf("%s lacks the row %s", c.page, key)
			}
		}
		if rows < 9 {
			t.Errorf("found %d rows for %s", rows, c.page)
		}
	}
}
