//go:build unix

package build

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// source makes a module with one program that prints text.
func source(t *testing.T, text string) Module {
	t.Helper()
	dir := t.TempDir()
	for name, data := range map[string]string{
		"go.mod":  "module example.test/hello\n\ngo 1.26.0\n",
		"main.go": "package main\n\nfunc main() { print(\"" + text + "\") }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return Module{Name: "hello", Dir: dir, Steps: []Step{{Packages: []string{"."}}}, Links: []Link{{Name: "hi", Program: "hello"}}}
}

func TestEnsureBuildsOnce(t *testing.T) {
	cache, m := t.TempDir(), source(t, "one")
	dir, err := m.Ensure(t.Context(), cache, nil)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(filepath.Join(dir, "hi")).CombinedOutput(); err != nil || string(out) != "one" {
		t.Errorf("the program prints %q, %v", out, err)
	}
	before, err := os.Stat(filepath.Join(dir, "hello"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := m.Ensure(t.Context(), cache, nil)
	if err != nil || again != dir {
		t.Fatalf("second time: %s, %v; want %s", again, err, dir)
	}
	if after, err := os.Stat(filepath.Join(dir, "hello")); err != nil || !os.SameFile(before, after) {
		t.Errorf("built again though nothing changed: %v", err)
	}
	if cached, err := m.Cached(t.Context(), cache); !cached || err != nil {
		t.Errorf("Cached: %v, %v", cached, err)
	}
}

func TestFailedBuildLeavesNothing(t *testing.T) {
	cache, m := t.TempDir(), source(t, `one\`)
	_, err := m.Ensure(t.Context(), cache, nil)
	if err == nil || !strings.Contains(err.Error(), "main.go:3") {
		t.Errorf("error %v, want the compiler's", err)
	}
	left, err := filepath.Glob(filepath.Join(cache, "hello-*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range left {
		if !strings.HasSuffix(path, ".lock") {
			t.Errorf("%s is left of a failed build", path)
		}
	}
}

func TestKey(t *testing.T) {
	m := source(t, "one")
	base, err := keyOf(m, "go1.26.8 amd64")
	if err != nil {
		t.Fatal(err)
	}
	if other, _ := keyOf(m, "go1.26.9 amd64"); other == base {
		t.Error("another Go version, same key")
	}
	flagged := m
	flagged.Steps = []Step{{Packages: []string{"."}, LDFlags: "-s"}}
	if other, _ := keyOf(flagged, "go1.26.8 amd64"); other == base {
		t.Error("other flags, same key")
	}
	elsewhere := m
	elsewhere.Dir = source(t, "one").Dir
	if other, _ := keyOf(elsewhere, "go1.26.8 amd64"); other != base {
		t.Error("same sources elsewhere, another key")
	}
	if other, _ := keyOf(source(t, "two"), "go1.26.8 amd64"); other == base {
		t.Error("other sources, same key")
	}
	if err := os.WriteFile(filepath.Join(m.Dir, "go.sum"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if other, _ := keyOf(m, "go1.26.8 amd64"); other == base {
		t.Error("a go.sum more, same key")
	}
}

func TestLockWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second lock: %v", err)
	}
	unlock()
	again, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}
