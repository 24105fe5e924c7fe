// Command kms-emulator answers as Alibaba Cloud's STS and KMS do, for tests and demonstrations without an account.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command.Run(ctx, command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "kms-emulator:", err)
		stop()
		os.Exit(1)
	}
}
