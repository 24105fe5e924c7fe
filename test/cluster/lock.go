//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The process that holds the lock on this file may start or stop the cluster. The file also marks the directory as a
// cluster's, which may be removed with its content.
const lockFile = "kms-cluster.lock"

// lockDir locks dir, which must be a cluster's directory or new. It waits for the lock until ctx ends.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	path := filepath.Join(dir, lockFile)
	for {
		if err := claim(dir); err != nil {
			return nil, err
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // just removed by a Down
		}
		if err != nil {
			return nil, err
		}
		held, err := tryLock(f, path)
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		if held {
			return func() { f.Close() }, nil
		}
		f.Close()
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for another process that starts or stops the cluster in %s: %w", dir, context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// tryLock locks f, and checks that the file has not been removed since it was opened.
func tryLock(f *os.File, path string) (bool, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			return false, nil
		}
		return false, err
	}
	ours, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(ours, there), err
}

// claim makes dir a cluster's directory, unless it has other content.
func claim(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // dir was removed in between: the caller comes again
	}
	if err != nil {
		return err
	}
	// One look only: another process may remove the directory at any time.
	if slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == lockFile }) {
		return nil
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty and holds no cluster: "+
			"`cluster down` would remove what is in it, so choose another directory (CLUSTER_DIR)", dir)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_WRONLY, 0o644)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // so was it here
	}
	if err != nil {
		return err
	}
	return f.Close()
}
