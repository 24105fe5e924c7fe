// Package test holds the repository's list of Go modules to what is there.
package test

import (
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

func TestModules(t *testing.T) {
	list, err := os.ReadFile("modules")
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for line := range strings.Lines(string(list)) {
		if !strings.HasPrefix(line, "#") {
			kind, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
			if kind != "code" && kind != "pin" {
				t.Errorf("%q is neither code nor pin", line)
			}
			listed = append(listed, path.Join(dir, "go.mod"))
		}
	}
	files := exec.CommandContext(t.Context(), "git", "ls-files", "--cached", "--others", "--exclude-standard", "go.mod", "*/go.mod")
	files.Dir = ".."
	out, err := files.Output()
	if err != nil {
		t.Fatal(err)
	}
	found := strings.Fields(string(out))
	slices.Sort(listed)
	slices.Sort(found)
	if !slices.Equal(listed, found) {
		t.Errorf("test/modules lists\n%s\nthe repository has\n%s", strings.Join(listed, "\n"), strings.Join(found, "\n"))
	}
}

// Other modules can require the root's only while it replaces nothing.
func TestRootReplacesNothing(t *testing.T) {
	text, err := os.ReadFile("../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "\nreplace ") {
		t.Error("the root's go.mod has a replace")
	}
}
