//go:build e2e && linux

package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/image"
)

func up(t *testing.T, o cluster.Options) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func down(t *testing.T, o cluster.Options) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience) // t's own has ended when Cleanup runs
	defer cancel()
	if err := cluster.Down(ctx, o); err != nil {
		t.Error(err)
	}
}

func kill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("kill process %d: %v", pid, err)
	}
}

func kubectl(t *testing.T, c *cluster.Cluster, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t.Context(), c, args...)
	if err != nil {
		t.Fatalf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func tryKubectl(ctx context.Context, c *cluster.Cluster, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, c.Kubectl(), append([]string{"--kubeconfig", c.Kubeconfig()}, args...)...)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		return out.String() + problems.String(), fmt.Errorf("%w: %s", err, problems.String())
	}
	return out.String(), nil
}

// patience is how long what should happen may take on a slow machine.
const patience = 5 * time.Minute

// eventually tries until there is no error, and reports the last one when the time is over.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Errorf("still after %s: %v", patience, err)
			return
		}
	}
}

func buildProbe(t *testing.T) (tarball string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "probe")
	cmd := exec.Command("go", "build", "-o", program, "./internal/probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the probe: %v\n%s", err, out)
	}
	data, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	tarball = program + ".tar"
	config := v1.Config{Entrypoint: []string{"/probe"}}
	if err := image.Write(tarball, "cluster-test/probe:dev", config, image.File{Path: "probe", Data: data}); err != nil {
		t.Fatal(err)
	}
	return tarball
}
