//go:build linux

package cluster

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestConfigurations(t *testing.T) {
	files, err := settings{
		Layout:      node.TheLayout,
		CgroupRoot:  "/kms-cluster-01234567",
		Snapshotter: "overlayfs",
		PauseImage:  pauseImage,
		Emulator:    Emulator,
	}.render()
	if err != nil {
		t.Fatal(err)
	}
	golden, err := filepath.Glob("testdata/conf/*")
	if err != nil {
		t.Fatal(err)
	}
	if len(golden) != len(files) && !*update {
		t.Errorf("%d configurations, and golden files for %d", len(files), len(golden))
	}
	for name, got := range files {
		file := filepath.Join("testdata/conf", filepath.Base(name))
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s (-golden +rendered; -update accepts it):\n%s", name, diff)
		}
	}
}
