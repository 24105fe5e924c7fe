// Command kms-sync is the controller that makes Secrets of secrets in KMS, by the custom resources of ack-secret-manager.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/internal/incluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/sync"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "kms-sync:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 && args[0] == "admission" {
		return admit(ctx, args[1:])
	}
	if err := openapi.RefuseLeaks(os.Getenv); err != nil {
		return err
	}
	var f flags
	o, err := f.parse(args)
	if err != nil {
		return err
	}
	if o.Log, err = incluster.NewLogger(f.level); err != nil {
		return err
	}
	for _, name := range f.withoutEffect {
		o.Log.Info("A flag of ack-secret-manager has no effect here; remove it", "flag", "--"+name)
	}
	if o.REST, err = incluster.APIServer(f.kubeconfig); err != nil {
		return err
	}
	return sync.Run(ctx, o)
}
