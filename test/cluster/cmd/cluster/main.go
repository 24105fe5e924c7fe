// Command cluster starts and stops a real one-node Kubernetes, built from source, for tests and demonstrations.
package main

import (
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

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster"
)

const usage = `usage: cluster COMMAND

  build           build all that a cluster needs, and cert-manager, and start nothing
  up              start the cluster, or do nothing if it runs; builds it first if need be
  down            stop it and remove all that it made
  status          say whether it runs and works; status 1 if not
  load FILE...    give the node images from tarballs
  kubectl ARG...  run the cluster's kubectl as administrator
  env             print shell commands that point kubectl at it
  logs NAME       print a component's log (node, etcd, kube-apiserver, kubelet, containerd, coredns, ...)
  etcd            write etcd's database to standard output, to search it
  cert-manager    build cert-manager and give the node its images; prints the folder of its chart

The cluster's state is in .cluster in the repository, or where CLUSTER_DIR says.
K8S_VERSION chooses another minor version of Kubernetes than the newest, for example 1.35.
`

func main() {
	cluster.Reexec()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if exit := (*kubectlError)(nil); errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	name, args := args[0], args[1:]
	switch name {
	case "build":
		return cluster.Build(ctx, cluster.Options{Output: out})
	case "up":
		_, err := cluster.Up(ctx, cluster.Options{Output: out})
		return err
	case "down":
		return cluster.Down(ctx, cluster.Options{Output: out})
	case "help", "-h", "--help":
		_, err := io.WriteString(out, usage)
		return err
	}
	c, err := cluster.Open("")
	if err != nil {
		return err
	}
	switch name {
	case "status":
		if err = c.Healthy(ctx); err == nil {
			fmt.Fprintf(out, "cluster in %s is up at %s\n", c.Dir(), c.Server)
		}
	case "load":
		err = c.LoadImages(ctx, args...)
	case "kubectl":
		err = kubectl(ctx, c, args, out)
	case "env":
		_, err = fmt.Fprintf(out, "export KUBECONFIG=%s\nexport PATH=%s:$PATH\n", quote(c.Kubeconfig()), quote(filepath.Dir(c.Kubectl())))
	case "logs":
		err = logs(c, args, out)
	case "etcd":
		err = c.EtcdDump(ctx, out)
	case "cert-manager":
		var chart string
		if chart, err = c.LoadCertManager(ctx, os.Stderr); err == nil {
			_, err = fmt.Fprintln(out, chart)
		}
	default:
		err = fmt.Errorf("no command %q\n%s", name, usage)
	}
	return err
}

// quote makes one word of s for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// A kubectlError has been explained by kubectl already; its exit status is passed on.
type kubectlError struct{ *exec.ExitError }

func kubectl(ctx context.Context, c *cluster.Cluster, args []string, out io.Writer) error {
	cmd := exec.CommandContext(ctx, c.Kubectl(), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, out, os.Stderr
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return &kubectlError{exit}
	}
	return err
}

func logs(c *cluster.Cluster, names []string, out io.Writer) error {
	for _, name := range names {
		f, err := os.Open(filepath.Join(c.LogDir(), filepath.Base(name)+".log"))
		if err != nil {
			return err
		}
		_, err = io.Copy(out, f)
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
