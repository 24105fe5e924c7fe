//go:build unix

// Package build compiles the programs of a Go module once and keeps them in the user's cache directory.
package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/progress"
)

// Module is a set of programs that are compiled and cached together.
type Module struct {
	Name  string // of the cache entry
	Dir   string // where its sources and, for a module of its own, go.mod are
	Mod   string // its module file in Dir, for one that has several; default go.mod
	Steps []Step // go build invocations
	Links []Link // further names of its programs
}

// Step is one go build.
type Step struct {
	Packages []string // import paths, or "."; a program's file has the package's last element for a name
	Tags     string   // comma list
	LDFlags  string
	Cgo      bool
}

// Link is a symbolic link to a program, for one that goes by the name it is called by.
type Link struct{ Name, Program string }

// partial ends the name of a directory that is being filled or removed.
const partial = ".partial"

// Ensure returns the directory of the module's programs. It compiles them unless the cache has them, built from the same sources,
// flags and Go version. Concurrent runs wait for each other. A run that compiles also removes programs that were not used for a
// month.
func (m Module) Ensure(ctx context.Context, cache string, log *progress.Printer) (string, error) {
	key, err := m.key(ctx)
	if err != nil {
		return "", fmt.Errorf("identify the build of %s: %w", m.Name, err)
	}
	dir := filepath.Join(cache, m.Name+"-"+key)
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	unlock, err := lock(ctx, dir+".lock")
	if err != nil {
		return "", err
	}
	defer unlock()
	if exists(dir) {
		now := time.Now()
		return dir, os.Chtimes(dir, now, now) // for prune
	}
	if err := m.compileInto(ctx, dir, log); err != nil {
		return "", fmt.Errorf("build %s: %w", m.Name, err)
	}
	if err := prune(cache, time.Now().Add(-unused)); err != nil {
		log.Line("%s: old programs are still there: %v", m.Name, err)
	}
	return dir, nil
}

// Cached reports whether the cache has the module's programs.
func (m Module) Cached(ctx context.Context, cache string) (bool, error) {
	key, err := m.key(ctx)
	return err == nil && exists(filepath.Join(cache, m.Name+"-"+key)), err
}

// compileInto builds beside dir and renames, so that dir is complete or absent, also after a power cut of the build.
func (m Module) compileInto(ctx context.Context, dir string, log *progress.Printer) error {
	// Only the holder of the lock uses this name: an existing directory is from a killed run.
	work := dir + partial
	if err := os.RemoveAll(work); err != nil {
		return err
	}
	if err := os.Mkdir(work, 0o755); err != nil {
		return err
	}
	defer os.RemoveAll(work)
	log.Line("%s: not built yet; this is done once", m.Name)
	for _, step := range m.Steps {
		if err := m.compile(ctx, step, work, log); err != nil {
			return err
		}
	}
	for _, link := range m.Links {
		if err := os.Symlink(link.Program, filepath.Join(work, link.Name)); err != nil {
			return err
		}
	}
	return os.Rename(work, dir)
}

func exists(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}

// lock takes the file lock at path, waiting until ctx ends. The file stays: removing it would let two runs hold it.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			f.Close()
			return nil, &fs.PathError{Op: "lock", Path: path, Err: err}
		}
		select {
		case <-ctx.Done():
			f.Close()
			return nil, context.Cause(ctx)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// goCommand runs the Go tool in the module's directory, without the caller's flags and workspace: equal sources give every
// user equal programs.
func (m Module) goCommand(ctx context.Context, cgo bool, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = m.Dir
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "GOFLAGS", "GOWORK", "GOOS", "GOARCH", "CGO_ENABLED", "GO111MODULE", "GOEXPERIMENT", "GODEBUG":
		default:
			cmd.Env = append(cmd.Env, kv)
		}
	}
	// The compiler collects less garbage, for a fifth of its time and 100 MB more memory: the linker takes 2.5 GB anyway.
	cmd.Env = append(cmd.Env, "GOFLAGS=", "GOWORK=off", "CGO_ENABLED=0", "GOGC="+cmp.Or(os.Getenv("GOGC"), "400"))
	if cgo {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // go removes its temporary files
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
