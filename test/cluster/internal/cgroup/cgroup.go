//go:build linux

// Package cgroup makes and removes one cgroup, by name, in every hierarchy of the machine.
package cgroup

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// hierarchy is one mounted cgroup file system.
type hierarchy struct {
	dir     string
	unified bool // version 2
}

// Create makes the cgroup name at the root of every hierarchy. Where version 2 is the only one, it also hands the
// controllers down, since a container's limits need them in each cgroup above it.
func Create(name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		dir := filepath.Join(h.dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("create cgroup: %w", err)
		}
		if h.unified && len(all) == 1 {
			if err := enableControllers(h.dir, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// needed are the controllers without which no pod's limits can be set.
var needed = []string{"cpu", "memory", "pids"}

// enableControllers hands down every controller that root offers: to its children, and to those of dir, one of them.
func enableControllers(root, dir string) error {
	data, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("list cgroup controllers: %w", err)
	}
	offered := strings.Fields(string(data))
	for _, controller := range needed {
		if !slices.Contains(offered, controller) {
			return fmt.Errorf("cgroup controller %s is not available in %s (it has %q): "+
				"run where it is delegated, for example on the machine itself instead of in a container", controller, root, offered)
		}
	}
	for _, d := range []string{root, dir} {
		for _, controller := range offered { // one by one: a single refused controller must not take the others with it
			err := os.WriteFile(filepath.Join(d, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
			if err != nil && slices.Contains(needed, controller) {
				return fmt.Errorf("enable cgroup controller %s below %s: %w", controller, d, err)
			}
		}
	}
	return nil
}

// Remove deletes the cgroup name and all below it. Their processes must have been killed; the kernel takes a moment to
// let go of them, so Remove tries until ctx ends.
func Remove(ctx context.Context, name string) error {
	all, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range all {
		dir := filepath.Join(h.dir, name)
		for {
			err := removeTree(dir)
			if err == nil {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("remove cgroup: %w", err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// removeTree removes directories only, leaves first: a cgroup's files go with it and cannot be unlinked.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func hierarchies() ([]hierarchy, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found, err := parse(f)
	if err != nil {
		return nil, fmt.Errorf("read /proc/self/mountinfo: %w", err)
	}
	if len(found) == 0 {
		return nil, errors.New("no cgroup file system is mounted: mount one at /sys/fs/cgroup")
	}
	return found, nil
}

// parse reads proc_pid_mountinfo(5): fields 4 and 5 are the root and the mount point; the type follows a lone hyphen.
func parse(r io.Reader) ([]hierarchy, error) {
	var found []hierarchy
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(kind) == 0 || fields[3] != "/" {
			continue
		}
		h := hierarchy{dir: fields[4], unified: kind[0] == "cgroup2"}
		if (kind[0] == "cgroup" || h.unified) && !slices.Contains(found, h) {
			found = append(found, h)
		}
	}
	return found, lines.Err()
}
