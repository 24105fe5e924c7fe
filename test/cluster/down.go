//go:build linux

package cluster

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/cgroup"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/progress"
)

// cleanupTimeout limits the wait until the kernel has released a killed cluster, usually a fraction of a second.
const cleanupTimeout = 30 * time.Second

// Down ends the cluster in any state and removes everything that it created. It returns nil if there is no cluster.
func Down(ctx context.Context, o Options) error {
	o, err := o.locate()
	if err != nil {
		return err
	}
	log := progress.New(o.Output)
	if _, err := os.Stat(o.Dir); errors.Is(err, fs.ErrNotExist) {
		// The directory was removed by hand. A cluster that still runs cannot be found, nor its cgroup removed.
		log.Line("no cluster in %s", o.Dir)
		return cgroup.Remove(ctx, cgroupName(o.Dir))
	}
	unlock, err := lockDir(ctx, o.Dir)
	if err != nil {
		return err
	}
	defer unlock()
	if err := clean(ctx, o.Dir); err != nil {
		return err
	}
	if err := removeAll(o.Dir); err != nil {
		return err
	}
	log.Line("cluster in %s is down, nothing of it is left", o.Dir)
	return nil
}

// clean ends every process of the cluster and removes what is outside its directory. The caller holds the lock.
func clean(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	if err := node.Kill(ctx, dir); err != nil {
		return err
	}
	return cgroup.Remove(ctx, cgroupName(dir))
}

// cgroupName returns the name of the cluster's cgroup in each hierarchy. It depends on the directory alone, so Down needs no
// record to find it.
func cgroupName(dir string) string {
	sum := sha256.Sum256([]byte(dir))
	return "kms-cluster-" + hex.EncodeToString(sum[:4])
}

// removeAll removes dir, and the lock last, so that no other process claims a directory that is half removed.
func removeAll(dir string) error {
	if err := emptyDir(dir); err != nil {
		return err
	}
	if err := os.Remove(filepath.Join(dir, lockFile)); err != nil {
		return err
	}
	if err := os.Remove(dir); !errors.Is(err, unix.ENOTEMPTY) {
		return err
	}
	return nil // another process waited for the lock and has claimed the directory
}

// emptyDir removes everything but the lock. It refuses to remove through a mount: the cluster's own mounts ended with its
// namespace.
func emptyDir(dir string) error {
	if err := refuseMounts(dir); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == lockFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove the cluster's state: %w", err)
		}
	}
	return nil
}

func refuseMounts(dir string) error {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir+"/") {
			return fmt.Errorf("%s is a mount point: unmount it first, so that what it shows is not removed with the cluster", fields[4])
		}
	}
	return lines.Err()
}
