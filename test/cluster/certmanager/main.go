// Command certmanager runs cert-manager's controller, cainjector or webhook, depending on the name of the executable.
//
// cert-manager's module has the programs' packages, but not their main packages, whose modules are not published. So this main
// package wires them, with the issuers that need no service outside the cluster. Its module path is below cert-manager's, because
// some of the packages are internal.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	logf "github.com/cert-manager/cert-manager/pkg/logs"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	ctrl.SetLogger(klog.Background())
	if err := run(logf.NewContext(ctx, logf.Log), filepath.Base(os.Args[0]), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "certmanager:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, name string, args []string) error {
	switch name {
	case "controller":
		return controller(ctx, args)
	case "cainjector":
		return cainjector(ctx)
	case "webhook":
		return webhook(ctx, args)
	}
	return fmt.Errorf("no program called %q; there are controller, cainjector, webhook", name)
}

// chartFlags returns a flag set that ignores flags of cert-manager's chart that are not needed here.
func chartFlags(name string) *pflag.FlagSet {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	return flags
}
