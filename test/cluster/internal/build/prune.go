//go:build unix

package build

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// unused is how long programs stay after Ensure last returned them.
const unused = 30 * 24 * time.Hour

// Hold keeps a directory that Ensure returned from being removed for as long as this process lives.
func Hold(dir string) error {
	_, err := flockDir(dir, unix.LOCK_SH) // the kernel closes it
	return err
}

func flockDir(dir string, how int) (fd int, err error) {
	if fd, err = unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return 0, &fs.PathError{Op: "open", Path: dir, Err: err}
	}
	if err := unix.Flock(fd, how|unix.LOCK_NB); err != nil {
		unix.Close(fd) //nolint:errcheck // nothing was written
		return 0, &fs.PathError{Op: "lock", Path: dir, Err: err}
	}
	return fd, nil
}

// entry matches what Ensure makes in a cache.
var entry = regexp.MustCompile(`-[0-9a-f]{12}(\.partial)?$`)

// prune removes the programs that were last used before a time and that no process holds, and what is left of builds that were killed
// then.
func prune(cache string, before time.Time) error {
	entries, err := os.ReadDir(cache)
	for _, e := range entries {
		if e.IsDir() && entry.MatchString(e.Name()) {
			err = errors.Join(err, removeUnused(filepath.Join(cache, e.Name()), before))
		}
	}
	return err
}

func removeUnused(dir string, before time.Time) error {
	atOnce, cancel := context.WithCancel(context.Background())
	cancel()
	built := strings.TrimSuffix(dir, partial)
	unlock, err := lock(atOnce, built+".lock")
	if errors.Is(err, context.Canceled) {
		return nil // a run is about to use it
	}
	if err != nil {
		return err
	}
	defer unlock()
	if info, err := os.Stat(dir); err != nil || info.ModTime().After(before) {
		return err
	}
	fd, err := flockDir(dir, unix.LOCK_EX)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil // held
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	// Renamed first: what is half removed must not pass for complete.
	work := built + partial
	if dir != work {
		if err := errors.Join(os.RemoveAll(work), os.Rename(dir, work)); err != nil {
			return err
		}
	}
	return os.RemoveAll(work)
}
