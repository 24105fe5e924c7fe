package main

import (
	"fmt"

	"github.com/go-logr/logr"
	"github.com/go-logr/zapr"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
)

// newLogger writes JSON lines to standard error. The libraries' loggers, which are global, become this one.
func newLogger(level string) (logr.Logger, error) {
	settings := zap.NewProductionConfig()
	settings.EncoderConfig.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	var err error
	if settings.Level, err = zap.ParseAtomicLevel(level); err != nil {
		return logr.Logger{}, fmt.Errorf("--log-level: %w", err)
	}
	logger, err := settings.Build()
	if err != nil {
		return logr.Logger{}, fmt.Errorf("make a logger: %w", err)
	}
	log := zapr.NewLogger(logger)
	klog.SetLogger(log)
	ctrllog.SetLogger(log)
	return log, nil
}
