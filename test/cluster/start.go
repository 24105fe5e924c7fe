//go:build linux

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/cgroup"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/progress"
)

// start starts a cluster in a directory that is empty but for the lock.
func start(ctx context.Context, o Options, built programs, log *progress.Printer) (*Cluster, error) {
	step := log.Begin("starting the cluster")
	outcome := "cluster failed to start"
	defer func() { step.Done("%s", outcome) }()

	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return nil, fmt.Errorf("open a port for the API server: %w", err)
	}
	defer listener.Close()
	c := &Cluster{dir: o.Dir, description: description{
		Kubernetes: built.kubernetes, Containerd: built.containerd, Server: "https://" + listener.Addr().String(),
	}}
	pauseTarball, err := c.prepare(built)
	if err != nil {
		return nil, err
	}
	cfg := node.Config{Dir: c.dir, Kubernetes: c.Kubernetes, Containerd: c.Containerd}
	if o.Encryption != nil {
		cfg.APIServer = append(cfg.APIServer, o.Encryption.arguments()...)
		if err := c.Encrypt(*o.Encryption); err != nil {
			return nil, err
		}
	}
	if o.StorageVersionMigration {
		const gate = "--feature-gates=StorageVersionMigrator=true"
		cfg.APIServer = append(cfg.APIServer, gate, "--runtime-config=storagemigration.k8s.io/v1beta1=true")
		cfg.ControllerManager = append(cfg.ControllerManager, gate)
	}
	starting, err := node.Start(cfg, listener)
	if err != nil {
		return nil, err
	}
	defer starting.Abandon() // without effect once detached
	stop := context.AfterFunc(ctx, starting.Abandon)
	defer stop()

	loaded := make(chan error, 1)
	err = starting.AwaitReady(func(done string) {
		step.Update("starting the cluster: %s", done)
		log.Line("%s", done)
		if done == node.ContainerdAnswers {
			go func() { loaded <- c.LoadImages(ctx, append([]string{pauseTarball}, o.Images...)...) }()
		}
	})
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w (logs are in %s)", err, c.LogDir())
	}
	if err := <-loaded; err != nil {
		return nil, err
	}
	if err := c.describe(); err != nil {
		return nil, err
	}
	if !stop() { // ctx ended at the last moment, and took the node with it
		return nil, context.Cause(ctx)
	}
	outcome = "cluster started"
	return c, starting.Detach()
}

// prepare fills the state directory and makes the cgroup.
func (c *Cluster) prepare(built programs) (pauseTarball string, err error) {
	for _, dir := range node.Dirs() {
		if err := os.MkdirAll(filepath.Join(c.dir, dir), 0o755); err != nil {
			return "", err
		}
	}
	if err := writeCredentials(c.dir, c.Server); err != nil {
		return "", err
	}
	if err := writeConfigurations(c.dir); err != nil {
		return "", err
	}
	pauseTarball = filepath.Join(c.dir, "pause.tar")
	if err := writePauseImage(filepath.Join(built.pause, "pause"), pauseTarball); err != nil {
		return "", fmt.Errorf("make the pause image: %w", err)
	}
	return pauseTarball, cgroup.Create(cgroupName(c.dir))
}

func (c *Cluster) describe() error {
	data, err := json.MarshalIndent(c.description, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(c.descriptionFile(), append(data, '\n'), 0o644)
}

func (c *Cluster) descriptionFile() string { return filepath.Join(c.dir, "cluster.json") }
