// Command kubectl-kms is a plugin of kubectl, kubectl kms: it shows what kms-agent-injector does to pods, and finds what is broken
// when a pod does not get its secrets.
package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Execute(ctx, os.Args[1:], command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}, version())
	stop()
	os.Exit(code)
}

// version is that of the module, or the commit of a build from a checkout: the webhook's of the same release.
func version() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return "devel"
	}
	return strings.Trim(cmp.Or(info.Main.Version, "devel"), "()")
}
