package test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"strings"
	"testing"
)

// TestImportDepth: a chain of the products' packages that import each other has at most five of them, the programs themselves aside.
func TestImportDepth(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Name,Imports", "./agent/...", "./cmd/...", "./config/...",
		"./injector/...", "./webhook/...")
	cmd.Dir = ".."
	stdout, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	type listed struct {
		ImportPath, Name string
		Imports          []string
	}
	packages := map[string]listed{}
	for dec := json.NewDecoder(strings.NewReader(string(stdout))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	longest := map[string][]string{}
	var chain func(path string) []string
	chain = func(path string) []string {
		if known, ok := longest[path]; ok {
			return known
		}
		var below []string
		for _, imported := range packages[path].Imports {
			if _, ours := packages[imported]; ours && len(chain(imported)) > len(below) {
				below = chain(imported)
			}
		}
		longest[path] = append([]string{path}, below...)
		return longest[path]
	}
	if len(packages) < 30 {
		t.Errorf("%d packages found", len(packages))
	}
	for path, p := range packages {
		if found := chain(path); p.Name != "main" && len(found) > 5 {
			t.Errorf("%d packages deep: %s", len(found), strings.Join(found, " → "))
		}
	}
}
