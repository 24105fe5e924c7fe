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

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

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
	var f flags
	o, err := f.parse(args)
	if err != nil {
		return err
	}
	if o.Log, err = newLogger(f.level); err != nil {
		return err
	}
	for _, name := range f.withoutEffect {
		o.Log.Info("A flag of ack-secret-manager has no effect here; remove it", "flag", "--"+name)
	}
	if o.REST, err = apiServer(f.kubeconfig); err != nil {
		return err
	}
	return sync.Run(ctx, o)
}

// apiServer returns the configuration of a client for the API server of a kubeconfig, or of the pod's own cluster without one.
func apiServer(kubeconfig string) (config *rest.Config, err error) {
	if kubeconfig == "" {
		config, err = rest.InClusterConfig()
	} else {
		config, err = clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	return config, nil
}

// newLogger returns a logger of JSON lines on standard error, which becomes the libraries' too.
func newLogger(level string) (log logr.Logger, err error) {
	settings := zap.NewProductionConfig()
	settings.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	if settings.Level, err = zap.ParseAtomicLevel(level); err != nil {
		return log, fmt.Errorf("--log-level: %w", err)
	}
	logger, err := settings.Build()
	if err != nil {
		return log, fmt.Errorf("make a logger: %w", err)
	}
	log = zapr.NewLogger(logger)
	klog.SetLogger(log)
	ctrllog.SetLogger(log)
	return log, nil
}
