//go:build linux

package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestDownLeavesForeignDirectoryAlone(t *testing.T) {
	dir := t.TempDir()
	precious := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(precious, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err := Down(t.Context(), Options{Dir: dir})
	if err == nil || !strings.Contains(err.Error(), "holds no cluster") {
		t.Errorf("Down of a directory that is not a cluster's: %v", err)
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("Down removed a file that is not the cluster's: %v", err)
	}
}

func TestDownRemovesWhatACrashLeft(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	unlock, err := lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock() // as if killed
	if err := os.MkdirAll(filepath.Join(dir, "etcd/member"), 0o700); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := Down(t.Context(), Options{Dir: dir}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Fatalf("the directory is still there: %v", err)
		}
	}
}

func TestLockExcludesAndSurvivesRemoval(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	unlock, err := lockDir(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	if _, err := lockDir(ctx, dir); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a second lock: %v, want to wait until the context ends", err)
	}
	// One waits while another removes the directory: it must end up with the lock of the new one.
	got := make(chan error)
	go func() {
		again, err := lockDir(t.Context(), dir)
		if err == nil {
			defer again()
			_, err = os.Stat(filepath.Join(dir, lockFile))
		}
		got <- err
	}()
	if err := removeAll(dir); err != nil {
		t.Fatal(err)
	}
	unlock()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestCgroupNameIsTheDirectorys(t *testing.T) {
	if a, b := cgroupName("/a"), cgroupName("/b"); a == b || a != cgroupName("/a") || !strings.HasPrefix(a, "kms-cluster-") {
		t.Errorf("cgroups of /a and /b: %s, %s", a, b)
	}
}

func TestTrueNameFollowsLinks(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	got, err := trueName(filepath.Join(link, "absent"))
	if want := filepath.Join(dir, "absent"); err != nil || got != want {
		t.Errorf("trueName: %s, %v; want %s", got, err, want)
	}
}
