//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// kubectl runs the command that a person would type and returns what it printed; anything but success ends the test.
func kubectl(t testing.TB, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t.Context(), "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// apply applies manifests; anything but success ends the test.
func apply(t testing.TB, manifests string) {
	t.Helper()
	if _, err := tryKubectl(t.Context(), manifests, "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// refused applies manifests that must not be accepted and returns what kubectl said.
func refused(t testing.TB, manifests string) string {
	t.Helper()
	out, err := tryKubectl(t.Context(), manifests, "apply", "--dry-run=server", "-f", "-")
	if err == nil {
		t.Fatalf("accepted, but should have been refused: %s\n%s", out, manifests)
	}
	return err.Error()
}

// tryKubectl runs kubectl with stdin. The error says the command and what it printed to stderr.
func tryKubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, kubectlPath, args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// helm runs a command of Helm's, with which a test may also clean up.
func helm(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join(repository, "test/tools/run.sh"), append([]string{"helm"}, args...)...)
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// patience is how long a test waits for what should happen: so long that only a broken cluster exceeds it, however slow the machine.
const patience = 5 * time.Minute

// eventually asks again until check has no error, at most for a time that only a broken cluster exceeds.
func eventually(t testing.TB, limit time.Duration, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not within %s: %v", limit, err)
		case <-tick.C:
		}
	}
}

var errNotYet = errors.New("not yet")
