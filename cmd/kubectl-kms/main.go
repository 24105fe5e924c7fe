// Command kubectl-kms is a plugin of kubectl, kubectl kms: it shows what kms-agent-injector does to pods, and finds what is broken
// when a pod does not get its secrets.
package main

import (
	"cmp"
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	streams := command.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Getenv: os.Getenv}
	code := command.Execute(ctx, arguments(os.Args), streams, version())
	stop()
	os.Exit(code)
}

// arguments returns the arguments of the command line. For completions kubectl runs a program of another name, which is a link to this
// one.
func arguments(line []string) []string {
	if name := filepath.Base(line[0]); strings.TrimSuffix(name, ".exe") == "kubectl_complete-kms" {
		return append([]string{cobra.ShellCompRequestCmd}, line[1:]...)
	}
	return line[1:]
}

// version returns the version of the module, or the commit of a build from a checkout. It is the webhook's of the same release.
func version() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return "devel"
	}
	return strings.Trim(cmp.Or(info.Main.Version, "devel"), "()")
}
