//go:build e2e

// Package e2e runs pods on a real Kubernetes and looks at what they got.
//
// Without KUBECONFIG it starts a cluster of its own, and removes it when all tests pass and E2E_KEEP is not set. With KUBECONFIG
// it uses that cluster, whose nodes must have the images.
package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

var (
	kubeconfig  string
	kubectlPath = "kubectl"
	repository  string
	own         *cluster // nil: the user's
)

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, m)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, m *testing.M) (err error) {
	if repository, err = filepath.Abs("../.."); err != nil {
		return err
	}
	if kubeconfig = os.Getenv("KUBECONFIG"); kubeconfig == "" {
		own = &cluster{dir: filepath.Join(repository, ".cluster-e2e"), program: filepath.Join(repository, "bin", "cluster")}
		if err := own.up(ctx); err != nil {
			return err
		}
		defer func() {
			if os.Getenv("E2E_KEEP") != "" || err != nil {
				fmt.Println("The cluster is left running: export KUBECONFIG=" + kubeconfig + "; remove it with CLUSTER_DIR=" + own.dir +
					" make cluster-down")
				return
			}
			err = own.run(context.WithoutCancel(ctx), os.Stdout, "down")
		}()
	}
	if err = install(ctx); err != nil {
		return fmt.Errorf("install the emulator and the webhook: %w", err)
	}
	stopped := context.AfterFunc(ctx, func() { // the tests have contexts of their own
		fmt.Fprintln(os.Stderr, "e2e: stopped; what it used is left as it is: export KUBECONFIG="+kubeconfig)
		os.Exit(1)
	})
	defer stopped()
	if code := m.Run(); code != 0 {
		err = fmt.Errorf("tests failed")
		return err
	}
	err = searchEtcd(ctx)
	return err
}

// cluster is the project's own cluster, started and stopped by the command that people use.
type cluster struct{ dir, program string }

// up builds the command and starts the cluster.
func (c *cluster) up(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(repository, "test/cluster"), "-o", c.program, "./cmd/cluster")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the command: %w\n%s", err, out)
	}
	if err := c.run(ctx, os.Stdout, "up"); err != nil {
		return err
	}
	var env strings.Builder
	if err := c.run(ctx, &env, "env"); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "sh", "-c", env.String()+`echo "$KUBECONFIG"; command -v kubectl`).Output()
	if err != nil {
		return fmt.Errorf("evaluate %q: %w", env.String(), err)
	}
	kubeconfig, kubectlPath, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	return nil
}

// run runs a command of test/cluster. An interrupt ends it as it would on a terminal.
func (c *cluster) run(ctx context.Context, out io.Writer, args ...string) error {
	cmd := exec.CommandContext(ctx, c.program, args...)
	cmd.Dir, cmd.Env = repository, append(os.Environ(), "CLUSTER_DIR="+c.dir)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("cluster %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// install puts the emulator and the webhook into the cluster, as the demo does.
func install(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "test/install/install.sh")
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "PATH="+filepath.Dir(kubectlPath)+":"+os.Getenv("PATH"))
	if own != nil {
		cmd.Env = append(cmd.Env, "CLUSTER_DIR="+own.dir, "OWN_CLUSTER=true")
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// installDir is where install.sh writes its kustomizations.
func installDir() string {
	if own != nil {
		return filepath.Join(own.dir, "install")
	}
	return filepath.Join(repository, "dist", "install")
}

// searchEtcd looks for every secret value of the run in the whole of etcd. Of the user's cluster only the API server can be
// asked, for the objects that pods, controllers and the webhook write.
func searchEtcd(ctx context.Context) error {
	sentinels.Lock()
	defer sentinels.Unlock()
	if len(sentinels.values) == 0 {
		fmt.Println("No test used a secret value: nothing to look for in etcd.")
		return nil
	}
	var dump bytes.Buffer
	if own != nil {
		if err := own.run(ctx, &dump, "etcd"); err != nil {
			return err
		}
	} else {
		out, err := tryKubectl(ctx, "", "get", "pods,events,secrets,configmaps,deployments,replicasets,jobs", "-A", "-o", "yaml")
		if err != nil {
			return err
		}
		dump.WriteString(out)
	}
	// What is certainly there must be found, or the search is blind.
	if !bytes.Contains(dump.Bytes(), []byte("kms-webhook")) {
		return errors.New("the search of etcd does not even find the webhook's Deployment")
	}
	var found error
	for _, v := range sentinels.values {
		if i := bytes.Index(dump.Bytes(), []byte(v)); i >= 0 {
			found = errors.Join(found, fmt.Errorf("a secret's value is in etcd, after %q", printable(dump.Bytes()[max(0, i-200):i])))
		}
	}
	if found == nil {
		fmt.Printf("None of the %d secret values of the run is in etcd (%d kB searched).\n", len(sentinels.values), dump.Len()/1024)
	}
	return found
}

func printable(b []byte) string {
	var out strings.Builder
	s := bufio.NewReader(bytes.NewReader(b))
	for {
		r, _, err := s.ReadRune()
		if errors.Is(err, io.EOF) {
			return out.String()
		}
		if r >= ' ' && r < 0x7f {
			out.WriteRune(r)
		}
	}
}
