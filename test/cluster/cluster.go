// Package cluster runs a real Kubernetes of one node, built from source, for tests and demonstrations.
//
// It has etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, CoreDNS, containerd and runc,
// and nothing that is made for tests only. All of it lives in namespaces and one directory of its own: it cannot touch
// another Kubernetes on the machine, and killing one process ends it.
//
// A program that calls Up must call Reexec first thing in main (in TestMain, for a test): Up starts the same program again
// to become the node's PID 1.
package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ErrNotRunning is returned by Open when there is no live cluster in the directory.
var ErrNotRunning = errors.New("no cluster is running")

// Options say where a cluster is and how it starts. The zero value is the cluster of `make cluster-up`.
type Options struct {
	// Dir holds all of the cluster's state and is removed by Down. The default is the environment variable CLUSTER_DIR,
	// and without it .cluster in the repository.
	Dir string
	// Version is the minor version of Kubernetes, such as 1.35; test/cluster/kubernetes has a module file for each that can be
	// built. The default is the environment variable K8S_VERSION, and without it the newest.
	Version    string
	Images     []string    // tarballs, of OCI layouts or written by `docker save`, that the node gets before Up returns
	Encryption *Encryption // how the API server stores resources in etcd, which Encrypt changes later. Nil is as they are, for good.
	// StorageVersionMigration has the cluster serve and carry out StorageVersionMigrations, from Kubernetes 1.35 on.
	StorageVersionMigration bool
	Output                  io.Writer // receives a line per step. Nil is silence.
}

// Cluster is a running cluster.
type Cluster struct {
	dir string
	description
}

// description is what Up writes down for later processes.
type description struct {
	Kubernetes string // directory of the built programs
	Containerd string
	Server     string // the API server's URL for the machine's users
}

// Dir returns the state directory, absolute.
func (c *Cluster) Dir() string { return c.dir }

// Kubeconfig returns the file that makes its reader a cluster administrator, from anywhere on the machine.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

// Kubectl returns the kubectl of the cluster's version.
func (c *Cluster) Kubectl() string { return filepath.Join(c.Kubernetes, "kubectl") }

// LogDir has a log per component, the supervisor's node.log and, below pods, the containers'.
func (c *Cluster) LogDir() string { return filepath.Join(c.dir, "log") }

const modulePath = "github.com/kms-agent-injector/kms-agent-injector"

// locate fills in the defaults. Dir gets its one true name, as the cluster's cgroup is named after it.
func (o Options) locate() (Options, error) {
	var err error
	if o.Dir == "" {
		o.Dir = os.Getenv("CLUSTER_DIR")
	}
	if o.Dir == "" {
		source, err := findSource()
		if err != nil {
			return o, err
		}
		o.Dir = filepath.Join(source, ".cluster")
	}
	if o.Version == "" {
		o.Version = os.Getenv("K8S_VERSION")
	}
	o.Dir, err = trueName(o.Dir)
	return o, err
}

func trueName(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, fs.ErrNotExist) { // not yet, or no longer
		parent, err := filepath.EvalSymlinks(filepath.Dir(dir))
		if err != nil {
			return dir, nil
		}
		return filepath.Join(parent, filepath.Base(dir)), nil
	}
	return resolved, err
}

// findSource finds the repository, whose test/cluster has the sources of the cluster's programs: it walks up from the working
// directory to the repository's go.mod.
func findSource() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if moduleOf(filepath.Join(dir, "go.mod")) == modulePath {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside a checkout of %s: change to one", start, modulePath)
		}
	}
}

func moduleOf(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if path, ok := strings.CutPrefix(lines.Text(), "module "); ok {
			return strings.TrimSpace(path)
		}
	}
	return ""
}
