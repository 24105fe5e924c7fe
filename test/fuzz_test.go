package test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var target = regexp.MustCompile(`(?m)^(?:\./)?([a-z/]+) (Fuzz\w+)`)

// TestFuzzTargets finds the targets of make fuzz and of ClusterFuzzLite, which cannot be run here.
func TestFuzzTargets(t *testing.T) {
	for script, external := range map[string]bool{"run.sh": true, "../.clusterfuzzlite/build.sh": false} {
		text, err := os.ReadFile(script)
		if err != nil {
			t.Fatal(err)
		}
		targets := target.FindAllStringSubmatch(string(text), -1)
		if len(targets) < 5 {
			t.Errorf("%s has %d targets", script, len(targets))
		}
		for _, m := range targets {
			if !declares(t, filepath.Join("..", m[1]), m[2], external) {
				t.Errorf("%s: there is no %s in %s", script, m[2], m[1])
			}
		}
	}
}

// declares reports whether a folder has a fuzz target, which may be in an external test package or may not.
func declares(t *testing.T, folder, target string, external bool) bool {
	t.Helper()
	files, err := filepath.Glob(folder + "/*_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(source), "\nfunc "+target+"(f *testing.F) {") {
			return external || !strings.Contains(string(source), "_test\n\nimport")
		}
	}
	return false
}
