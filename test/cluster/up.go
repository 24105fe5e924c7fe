//go:build linux

package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/progress"
)

var reexecCalled bool

// Reexec returns immediately, unless Up started this process as a node's PID 1: then it never returns.
func Reexec() {
	if os.Getenv(node.Marker) != "" {
		node.Main()
	}
	reexecCalled = true
}

// Up returns a running cluster. It reuses a healthy one, and replaces a broken one. Before, it installs missing Debian
// packages and builds missing programs, which takes minutes the first time.
//
// The cluster outlives this process. If ctx ends before Up returns, Up stops everything that it started.
func Up(ctx context.Context, o Options) (*Cluster, error) {
	if !reexecCalled {
		return nil, errors.New("cluster.Up: main must call cluster.Reexec first")
	}
	if os.Geteuid() != 0 {
		return nil, errors.New("a cluster needs root, for namespaces, mounts and cgroups: " +
			"run as root, or set KUBECONFIG to a cluster that exists")
	}
	o, err := o.locate()
	if err != nil {
		return nil, err
	}
	source, err := findSource()
	if err != nil {
		return nil, err
	}
	log := progress.New(o.Output)
	built, err := ensurePrograms(ctx, source, o.Version, log)
	if err != nil {
		return nil, err
	}
	unlock, err := lockDir(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()

	c, err := reuse(ctx, o, built, log)
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

// reuse returns the running cluster, or nil after removing a broken one.
func reuse(ctx context.Context, o Options, built programs, log *progress.Printer) (*Cluster, error) {
	c, err := Open(o.Dir)
	if err == nil && o.Version != "" && c.Kubernetes != built.kubernetes {
		return nil, fmt.Errorf("the cluster in %s is not of Kubernetes %s: take it down first, or set CLUSTER_DIR to another directory",
			c.dir, o.Version)
	}
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
