//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// The demo ends well, and the README shows what it prints.
func TestDemo(t *testing.T) {
	var transcript bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "make", "demo")
	cmd.Dir = repository
	cmd.Env = os.Environ()
	if own != nil {
		cmd.Env = append(cmd.Env, "CLUSTER_DIR="+own.dir)
	}
	cmd.Stdout = io.MultiWriter(&transcript, os.Stdout)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	printed := strings.Split(normal(transcript.String()), "\n")
	shown := strings.Split(normal(section(t, "demo")), "\n")
	if len(shown) < 20 {
		t.Fatalf("the README shows only %d lines of the demo", len(shown))
	}
	for _, line := range shown {
		line = strings.TrimSpace(line)
		if line == "" || line == "…" || strings.HasPrefix(line, "```") {
			continue
		}
		next := 0
		for next < len(printed) && !strings.Contains(printed[next], line) {
			next++
		}
		if next == len(printed) {
			t.Fatalf("the README shows a line that the demo did not print (there): %q", line)
		}
		printed = printed[next+1:]
	}
}

// The steps of make test that the README shows are those of its script.
func TestReadmeSteps(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(repository, "test/run.sh"))
	if err != nil {
		t.Fatal(err)
	}
	steps := regexp.MustCompile(`(?m)^\[ *[0-9.]+s\] (.*)$`).FindAllStringSubmatch(section(t, "test"), -1)
	if len(steps) < 6 {
		t.Fatalf("the README shows only %d steps of make test", len(steps))
	}
	for _, s := range steps {
		if !strings.Contains(string(script), `"`+s[1]+`"`) {
			t.Errorf("the README shows a step that make test does not have: %s", s[1])
		}
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func section(t *testing.T, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(readme(t), "<!-- "+name+" -->\n")
	text, _, closed := strings.Cut(rest, "<!-- /"+name+" -->")
	if !found || !closed {
		t.Fatalf("README.md has no section %q", name)
	}
	return strings.TrimSpace(text)
}

var differs = regexp.MustCompile(`\[ *[0-9.]+s\]|-[a-z0-9]{6,10}-[a-z0-9]{5}\b|[0-9A-F]{8}-[0-9A-F-]+|\b([0-9]+[dhms])+\b|[0-9]+(\.[0-9]+)?|[ \t]+`)

// normal leaves out of a transcript what is different each time: times, numbers, names of pods, ids of requests.
func normal(text string) string {
	return differs.ReplaceAllStringFunc(text, func(s string) string {
		if strings.TrimSpace(s) == "" {
			return " "
		}
		return "#"
	})
}
