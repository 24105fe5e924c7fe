//go:build linux

package cluster

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestKubernetesVersions holds each module file to what its name and its replacements say, so that a raised version cannot
// leave half of Kubernetes behind.
func TestKubernetesVersions(t *testing.T) {
	files, err := filepath.Glob("kubernetes/*.mod")
	if err != nil || len(files) < 2 {
		t.Fatalf("module files: %q, %v", files, err)
	}
	staging := regexp.MustCompile(`(?m)^\s+(k8s\.io/\S+) => k8s\.io/\S+ v0\.(\S+)$`)
	for _, file := range files {
		v, err := kubernetesVersion(file)
		if err != nil {
			t.Fatal(err)
		}
		if name := filepath.Base(file); name != defaultMod && name != "v"+v.minor()+".mod" {
			t.Errorf("%s is of Kubernetes %s", name, v.minor())
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pins := staging.FindAllStringSubmatch(string(text), -1)
		if len(pins) < 25 {
			t.Errorf("%s pins %d modules of Kubernetes", file, len(pins))
		}
		for _, pin := range pins {
			if "v1."+pin[2] != v[0] {
				t.Errorf("%s pins %s v0.%s beside Kubernetes %s", file, pin[1], pin[2], v[0])
			}
		}
	}
}

func TestKubernetesModule(t *testing.T) {
	newest, err := kubernetesModule("../..", "")
	if err != nil || newest.Mod != "" {
		t.Fatalf("default: go.mod is %q, %v", newest.Mod, err)
	}
	older, err := kubernetesModule("../..", "1.35")
	if err != nil || older.Mod != "v1.35.mod" || !strings.Contains(older.Steps[0].LDFlags, "gitVersion=v1.35.") {
		t.Errorf("1.35: go.mod is %q, flags %q, %v", older.Mod, older.Steps[0].LDFlags, err)
	}
	if _, err := kubernetesModule("../..", "1.2"); err == nil || !strings.Contains(err.Error(), "K8S_VERSION may be") {
		t.Errorf("1.2: %v", err)
	}
}
