// Package incluster is what the programs that run in a cluster begin with: a client of the API server, and a log.
package incluster

import (
	"fmt"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// APIServer returns the configuration of a client for the API server of a kubeconfig, or of the pod's own cluster without one.
func APIServer(kubeconfig string) (config *rest.Config, err error) {
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

// NewLogger returns a logger of the level (debug, info, error) that writes JSON lines to standard error. The libraries' loggers, which
// are global, become this one.
func NewLogger(level string) (log logr.Logger, err error) {
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
