package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

const (
	commandStatus = "status"
	probeLimit    = 20 * time.Second
)

// printStatus prints, as JSON and without values, what the container's agent has written, and with --probe what STS and KMS say now. It
// is for people, and runs beside the agent.
func printStatus(ctx context.Context, args []string, out io.Writer) (int, error) {
	if len(args) > 0 && !slices.Equal(args, []string{"--probe"}) {
		return exitMisuse, errors.New("kms-agent status takes --probe and nothing else")
	}
	doc, err := configured()
	if err != nil {
		return exitMisuse, err
	}
	held, err := agent.Status(doc)
	switch {
	case err != nil:
		held.Causes = []status.Problem{{Link: status.Files, Says: err.Error()}}
	case len(held.Secrets) == 0 && held.LastError != nil:
		held.Causes = held.LastError.Causes
	}
	if len(args) > 0 {
		a, err := open(doc, slog.New(slog.DiscardHandler))
		if err != nil {
			return exitMisuse, err
		}
		ctx, cancel := context.WithTimeout(ctx, probeLimit)
		defer cancel()
		held.Causes, held.Asked = a.Probe(ctx)
	}
	for _, problem := range held.Causes {
		held.Problems = append(held.Problems, problem.String())
	}
	text, err := encode(held)
	fmt.Fprintln(out, text)
	return 0, err
}

func encode(held status.Status) (string, error) {
	text, err := json.Marshal(held)
	return string(text), err
}

// initialized leaves, as the init container's last words, what the pod started with, where that fits.
func initialized(doc agentconfig.Config, path string) {
	held, err := agent.Status(doc)
	if err != nil {
		return
	}
	if text, err := encode(held); err == nil && text == terminationMessage(text) {
		terminated(path, text)
	}
}
