//go:build linux

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		mountinfo string
		want      []hierarchy
	}{
		"version 1 and an empty version 2": {
			mountinfo: `25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/root rw
31 30 0:27 / /sys/fs/cgroup/cpu rw,relatime shared:5 - cgroup cgroup rw,cpu
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
`,
			want: []hierarchy{{dir: "/sys/fs/cgroup/cpu"}, {dir: "/sys/fs/cgroup/memory"}, {dir: "/sys/fs/cgroup/unified", unified: true}},
		},
		"version 2, and a part of it mounted elsewhere": {
			mountinfo: `31 30 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
40 30 0:27 /system.slice /mnt/part rw - cgroup2 cgroup2 rw
`,
			want: []hierarchy{{dir: "/sys/fs/cgroup", unified: true}},
		},
		"none": {mountinfo: "25 1 254:0 / / rw - ext4 /dev/root rw\n"},
	} {
		got, err := parse(strings.NewReader(c.mountinfo))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, got, cmp.AllowUnexported(hierarchy{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestEnableControllers(t *testing.T) {
	root := t.TempDir()
	child := filepath.Join(root, "child")
	if err := os.Mkdir(child, 0o755); err != nil {
		t.Fatal(err)
	}
	controllers := func(names string) {
		if err := os.WriteFile(filepath.Join(root, "cgroup.controllers"), []byte(names+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	controllers("cpuset cpu")
	if err := enableControllers(root, child); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("without the memory controller: %v", err)
	}
	controllers("cpu memory pids")
	if err := enableControllers(root, child); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, child} { // a plain file keeps the last write only
		if got, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); err != nil || string(got) != "+pids" {
			t.Errorf("%s: %q, %v", dir, got, err)
		}
	}
}
