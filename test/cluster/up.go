//go:build linux

package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/cgroup"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/progress"
)

var reexecCalled bool

// Reexec returns at once, unless Up started this process to be a node's PID 1: then it is that, and never returns.
func Reexec() {
	if os.Getenv(node.Marker) != "" {
		node.Main()
	}
	reexecCalled = true
}

// Up returns the running cluster. If it runs already and is healthy, that is all; if it is broken, it is removed first.
// Whatever its programs lack is installed (Debian packages) and built (once: minutes) before.
//
// The cluster outlives this process. If ctx ends before Up returns, nothing keeps running.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	if !reexecCalled {
		return nil, errors.New("cluster.Up: main must call cluster.Reexec first")
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a cluster needs root, for namespaces, mounts and cgroups: run as root, or set KUBECONFIG to a cluster that exists")
	}
	o, err := o.locate()
	if err != nil {
		return nil, err
	}
	if o.Source == "" {
		if o.Source, err = findSource(); err != nil {
			return nil, err
		}
	}
	log := progress.New(o.Output)
	built, err := ensurePrograms(ctx, o.Source, log)
	if err != nil {
		return nil, err
	}
	unlock, err := lockDir(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	c, err := reuse(ctx, o, log)
	if err != nil || c != nil {
		return c, err
	}
	if c, err = start(ctx, o, built, log); err != nil {
		// The directory stays, for its logs; the next Up or Down removes it.
		return nil, errors.Join(err, clean(context.WithoutCancel(ctx), o.Dir))
	}
	log.Line("cluster is up: export KUBECONFIG=%s", c.Kubeconfig())
	return c, nil
}

// reuse returns the cluster that runs already, or nil after removing what there is of one.
func reuse(ctx context.Context, o Options, log *progress.Printer) (*Cluster, error) {
	c, err := Open(o.Dir)
	if err == nil {
		if err = c.Healthy(ctx); err == nil {
			log.Line("cluster in %s is up already", c.dir)
			return c, c.LoadImages(ctx, o.Images...)
		}
		log.Line("cluster in %s runs but does not work, starting anew: %v", o.Dir, err)
	}
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err := clean(ctx, o.Dir); err != nil {
		return nil, err
	}
	return nil, emptyDir(o.Dir)
}

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

func (c *Cluster) descriptionFile() string { return filepath.Join(c.dir, "cluster.json") }

// Healthy asks the API server, through the door that users take, for a Ready node, for up to twenty seconds.
func (c *Cluster) Healthy(ctx context.Context) error {
	out, err := exec.CommandContext(ctx, c.Kubectl(), "--kubeconfig", c.Kubeconfig(),
		"wait", "--for=condition=Ready", "node/"+node.Name, "--timeout=20s", "--request-timeout=25s").CombinedOutput()
	if err != nil {
		return fmt.Errorf("ask for the node: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// start starts a cluster in a directory that has nothing but the lock.
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
	starting, err := node.Start(node.Config{Dir: c.dir, Kubernetes: c.Kubernetes, Containerd: c.Containerd}, listener)
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
