package docs

import (
	"slices"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// TestChineseReadme holds the Chinese README to the English one: what is to be typed is the same, and the annotations are all there.
func TestChineseReadme(t *testing.T) {
	all := pages(t)
	named := func(file string) Page { return all[slices.IndexFunc(all, func(p Page) bool { return p.File == file })] }
	english, chinese := named("README.md"), named("README.zh-CN.md")
	typed := 0
	for _, b := range chinese.Blocks {
		if b.Language == "" {
			continue
		}
		typed++
		if !slices.ContainsFunc(english.Blocks, func(e Block) bool { return e.Language == b.Language && e.Text == b.Text }) {
			t.Errorf("README.md does not have this block of README.zh-CN.md:\n%s", b.Text)
		}
	}
	if typed < 6 {
		t.Errorf("found %d blocks", typed)
	}
	for row := range strings.Lines(podconfig.AnnotationTable()) {
		key, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
		if strings.HasPrefix(key, "`") && !strings.Contains(chinese.Text, "\n| "+key+" |") {
			t.Errorf("README.zh-CN.md lacks the annotation %s", key)
		}
	}
}
