// Command certmanager is cert-manager's controller, cainjector and webhook in one binary, chosen by the name that it was called by.
//
// cert-manager's module has the programs' parts, but not their main packages, whose modules are not published. So this is a main
// package over the parts, with those issuers that need no service outside the cluster. The module is below cert-manager's path
// because some of the parts are internal to it.
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

// chartFlags returns a set that passes over the flags which cert-manager's chart gives and nothing here needs.
func chartFlags(name string) *pflag.FlagSet {
	flags := pflag.NewFlagSet(name, pflag.ContinueOnError)
	flags.ParseErrorsAllowlist.UnknownFlags = true
	return flags
}
