package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kmsagent"
)

// runKMSAgent returns an error only if it ends a container: get is for people, in a container that goes on.
func runKMSAgent(ctx context.Context, name string, args []string) (int, error) {
	if err := refuseLeaks(os.Getenv); err != nil {
		return exitMisuse, err
	}
	err := kmsagent.Commands()[name](ctx, args, os.Getenv, os.Stdout, os.Stderr)
	var usage *kmsagent.Usage
	code := 0
	switch {
	case errors.As(err, &usage):
		code = exitMisuse
	case err != nil:
		code = exitFailed
	}
	if err != nil && name == "get" {
		fmt.Fprintln(os.Stderr, "kms-agent:", err)
		return code, nil
	}
	return code, err
}
