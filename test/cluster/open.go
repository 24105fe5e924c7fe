//go:build linux

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
)

// Open returns the cluster that runs in dir, or an error that is ErrNotRunning.
func Open(dir string) (*Cluster, error) {
	o, err := Options{Dir: dir}.locate()
	if err != nil {
		return nil, err
	}
	process, err := node.Find(o.Dir)
	if err != nil {
		return nil, err
	}
	if process == nil {
		return nil, fmt.Errorf("%w in %s", ErrNotRunning, o.Dir)
	}
	c := &Cluster{dir: o.Dir}
	data, err := os.ReadFile(c.descriptionFile())
	if err != nil {
		return nil, fmt.Errorf("%w in %s: it has not finished starting", ErrNotRunning, o.Dir)
	}
	if err := json.Unmarshal(data, &c.description); err != nil {
		return nil, fmt.Errorf("read %s: %w", c.descriptionFile(), err)
	}
	return c, nil
}

// Healthy waits up to twenty seconds until the API server, at its address for users, shows a Ready node.
func (c *Cluster) Healthy(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, c.Kubectl(), "--kubeconfig", c.Kubeconfig(),
		"wait", "--for=condition=Ready", "node/"+node.Name, "--timeout=20s", "--request-timeout=25s").CombinedOutput()
	if err != nil {
		return fmt.Errorf("ask for the node: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
