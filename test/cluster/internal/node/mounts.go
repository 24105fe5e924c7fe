//go:build linux

package node

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// shownSysctls are kernel settings that kubelet insists on and would set for the whole machine. It is shown files with
// these values instead.
var shownSysctls = map[string]string{
	"vm/overcommit_memory": "1",
	"kernel/panic":         "10",
	"kernel/panic_on_oops": "1",
}

// mountAll gives the node its own view of the file system. It needs a private mount namespace, and changes nothing in any
// other.
func mountAll(cfg Config) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	// The mounts below may hide these directories' paths. A descriptor cannot be hidden.
	sources := map[string]string{stateDir: cfg.Dir, kubernetesDir: cfg.Kubernetes, containerdDir: cfg.Containerd}
	handles := map[string]*os.File{}
	for target, dir := range sources {
		f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		handles[target] = f
	}

	if err := mount("tmpfs", "/run", "tmpfs", "mode=755"); err != nil {
		return err
	}
	if err := os.MkdirAll("/run/lock", 0o1777); err != nil {
		return err
	}
	for target, f := range handles {
		if err := bind(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), target); err != nil {
			return err
		}
	}
	if err := overlayVar(); err != nil {
		return err
	}
	for target, part := range stateMounts {
		if err := bind(filepath.Join(stateDir, part), target); err != nil {
			return err
		}
	}
	if err := mount("proc", "/proc", "proc", ""); err != nil {
		return err
	}
	if err := showSysctls(); err != nil {
		return err
	}
	// Containers get copies of these mounts; what kubelet mounts later must reach them.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make mounts shared: %w", err)
	}
	return nil
}

// overlayVar makes what is written below /var go to memory. Kubelet and containerd have paths there that no flag moves
// (/var/log/containers, /var/lib/kubelet/device-plugins), and the machine's must stay untouched.
func overlayVar() error {
	const upper, work = "/run/var/upper", "/run/var/work"
	for _, dir := range []string{upper, work} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	return mount("overlay", "/var", "overlay", "lowerdir=/var,upperdir="+upper+",workdir="+work)
}

func showSysctls() error {
	const dir = "/run/sysctl"
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for name, value := range shownSysctls {
		file := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return err
		}
		if err := unix.Mount(file, filepath.Join("/proc/sys", name), "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("show kubelet %s=%s: %w", name, value, err)
		}
	}
	return nil
}

func mount(source, target, kind, options string) error {
	if err := unix.Mount(source, target, kind, 0, options); err != nil {
		return fmt.Errorf("mount %s on %s: %w", kind, target, err)
	}
	return nil
}

func bind(source, target string) error {
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s to %s: %w", source, target, err)
	}
	return nil
}
