package agent

import (
	"io"
	"log/slog"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// NewLogger writes log lines of the level and format that doc asks for; by default info and above as JSON.
func NewLogger(w io.Writer, doc config.Agent) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo}
	switch doc.LogLevel {
	case "debug":
		options.Level = slog.LevelDebug
	case "error":
		options.Level = slog.LevelError
	}
	if doc.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}
