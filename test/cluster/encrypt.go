//go:build linux

package cluster

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
)

func (e Encryption) arguments() []string {
	return []string{
		"--encryption-provider-config=" + node.TheLayout.ConfDir + "/" + encryptionFile,
		"--encryption-provider-config-automatic-reload=" + strconv.FormatBool(e.Reload),
	}
}

// Encrypt changes the Encryption of a cluster that was started with one. The API server uses the new one after its next start, see
// Restart, or, with Reload, within a minute or two.
func (c *Cluster) Encrypt(e Encryption) error {
	text, err := e.configuration()
	if err != nil {
		return err
	}
	file := filepath.Join(c.dir, node.ConfDir, encryptionFile)
	if err := os.WriteFile(file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(file+".new", file) // at once: the API server may be reading it
}

// Component returns the machine's process ID of a component, such as kube-apiserver; 0 if it does not run.
func (c *Cluster) Component(name string) (pid int, err error) {
	process, err := node.Find(c.dir)
	if err != nil {
		return 0, err
	}
	if process == nil {
		return 0, fmt.Errorf("%w in %s", ErrNotRunning, c.dir)
	}
	inside, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", process.PID))
	if err != nil {
		return 0, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		namespace, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)) // processes end meanwhile
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if namespace == inside && strings.HasPrefix(string(args), name+"\x00") {
			return pid, nil
		}
	}
	return 0, nil
}

// Restart kills the API server, which the supervisor restarts, and returns when it is ready.
func (c *Cluster) Restart(ctx context.Context) error {
	const name = "kube-apiserver"
	before, err := c.Component(name)
	if err != nil {
		return err
	}
	if before == 0 {
		return fmt.Errorf("%s does not run", name)
	}
	if err := syscall.Kill(before, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill %s: %w", name, err)
	}
	for {
		now, err := c.Component(name)
		if err != nil {
			return err
		}
		if now != 0 && now != before && c.ready(ctx) == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s to be ready again: %w", name, context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (c *Cluster) ready(ctx context.Context) error {
	return exec.CommandContext(ctx, c.Kubectl(), "--kubeconfig", c.Kubeconfig(), "get", "--raw=/readyz", "--request-timeout=5s").Run()
}
