package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Equal sources in another folder give equal bytes.
func TestBinaryDoesNotDependOnTheFolder(t *testing.T) {
	const pkg = "cmd/kms-agent"
	var binaries [][]byte
	for _, folder := range []string{"one", "another/and-deeper"} {
		sources, out := filepath.Join(t.TempDir(), folder), t.TempDir()
		copySources(t, sources, pkg)
		if err := build(t.Context(), sources, out, v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, devTag,
			[]string{"kms-agent"}); err != nil {
			t.Fatal(err)
		}
		built, err := os.ReadFile(filepath.Join(out, "kms-agent"))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(built, []byte(filepath.Base(folder)+"/"+pkg)) {
			t.Errorf("the binary names its sources' folder %s", sources)
		}
		binaries = append(binaries, built)
	}
	if !bytes.Equal(binaries[0], binaries[1]) {
		t.Error("the binaries of two folders with the same sources differ")
	}
}

// copySources copies the sources of a package of this module.
func copySources(t *testing.T, to, pkg string) {
	t.Helper()
	const root = "../.."
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if and .Module .Module.Main}}{{.ImportPath}}{{end}}", "./"+pkg)
	cmd.Dir = root
	list, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	copied := map[string]bool{}
	for path := range strings.FieldsSeq(string(list)) {
		top, _, _ := strings.Cut(strings.TrimPrefix(path, module+"/"), "/")
		if copied[top] {
			continue
		}
		copied[top] = true
		if err := os.CopyFS(filepath.Join(to, top), os.DirFS(filepath.Join(root, top))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
