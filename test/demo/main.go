// Command demo tells the story of a pod and its secret without a cluster: it decides as the webhook does, STS and KMS are the
// emulator, and the agent's containers are processes. It runs in the repository's folder; its argument is the agent's program.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// run leaves nothing behind, also when it fails or ctx ends.
func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return errors.New("usage: demo KMS-AGENT")
	}
	dir, kind, err := volumesDir()
	if err != nil {
		return fmt.Errorf("make a folder for the volumes: %w", err)
	}
	defer os.RemoveAll(dir)
	cloud, err := startCloud()
	if err != nil {
		return fmt.Errorf("start the emulator: %w", err)
	}
	defer cloud.stop()
	err = newStory(kubelet{agent: args[0], dir: dir, kind: kind, cloud: cloud}, out).tell(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// volumesDir makes a folder, and says of what kind: in memory where an ordinary user can, which is on Linux.
func volumesDir() (dir, kind string, err error) {
	if dir, err = os.MkdirTemp("/dev/shm", "kms-demo-"); err == nil {
		return dir, "a tmpfs", nil
	}
	dir, err = os.MkdirTemp("", "kms-demo-")
	return dir, "not a tmpfs, on this machine", err
}
