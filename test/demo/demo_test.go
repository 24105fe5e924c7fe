package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/docs"
)

// agent builds the agent's program, and makes the repository's folder the current one.
func agent(t *testing.T) string {
	t.Helper()
	t.Chdir("../..")
	program := filepath.Join(t.TempDir(), "kms-agent")
	if out, err := exec.Command("go", "build", "-o", program, "./cmd/kms-agent").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// The README shows what the demo prints.
func TestReadme(t *testing.T) {
	var printed bytes.Buffer
	if err := run(t.Context(), []string{agent(t)}, &printed); err != nil {
		t.Fatalf("%v after\n%s", err, &printed)
	}
	pages, err := docs.Read(".")
	if err != nil {
		t.Fatal(err)
	}
	readme := pages[slices.IndexFunc(pages, func(p docs.Page) bool { return p.File == "README.md" })]
	transcript := readme.Section("demo")
	if n := strings.Count(transcript, "\n"); n < 20 {
		t.Errorf("the README shows only %d lines", n)
	}
	if line := docs.Unprinted(transcript, printed.String()); line != "" {
		t.Errorf("the README shows a line that was not printed there: %s\n%s", line, &printed)
	}
	removed(t, printed.String())
}

// Whenever a person presses Ctrl-C, nothing is left.
func TestInterrupted(t *testing.T) {
	program := agent(t)
	for _, at := range []string{"POD=", "secret shop/prod/db put", "kms-agent: /kms-agent run", "secret shop/prod/db rotated", "kind: Pod"} {
		ctx, cancel := context.WithCancel(t.Context())
		var printed bytes.Buffer
		err := run(ctx, []string{program}, io.MultiWriter(&printed, writer(func(p []byte) {
			if strings.Contains(string(p), at) {
				cancel()
			}
		})))
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("at %q it ended with %v", at, err)
		}
		removed(t, printed.String())
	}
}

type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

// removed fails the test if the folder of the volumes is still there.
func removed(t *testing.T, printed string) {
	t.Helper()
	dir := regexp.MustCompile(`POD=(\S+) `).FindStringSubmatch(printed)
	if dir == nil {
		t.Fatalf("no folder is named:\n%s", printed)
	}
	if _, err := os.Stat(dir[1]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", dir[1], err)
	}
}
