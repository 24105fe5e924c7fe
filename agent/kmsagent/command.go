package kmsagent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// addressVariable says where the local API is: a port on loopback, host:port, or the path of a socket.
const addressVariable = "KMS_AGENT_API"

// Usage is what a Command's arguments must be.
type Usage struct{ Line string }

func (u *Usage) Error() string { return "usage: kms-agent " + u.Line }

// Command does what the arguments after its name say. Wrong arguments are a *Usage.
type Command func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error

// Commands are the agent's that need no document of the webhook's.
func Commands() map[string]Command {
	return map[string]Command{"agent": runAgent, "token": writeToken, "get": getSecret}
}

func runAgent(ctx context.Context, args []string, getenv func(string) string, _, stderr io.Writer) error {
	flags := newFlags("agent")
	tokenFile := flags.String("token-file", "", "")
	if flags.Parse(args) != nil || flags.NArg() != 1 {
		return &Usage{"agent [--token-file=PATH] <config.toml>"}
	}
	cfg, err := ReadConfig(flags.Arg(0))
	if err != nil {
		return err
	}
	return Run(ctx, cfg, *tokenFile, getenv, stderr)
}

func writeToken(_ context.Context, args []string, _ func(string) string, _, _ io.Writer) error {
	flags := newFlags("token")
	if flags.Parse(args) != nil || flags.NArg() != 1 {
		return &Usage{"token <path>, as in kms-agent token " + config.APITokenFile}
	}
	_, err := httpapi.WriteToken(flags.Arg(0))
	return err
}

// getSecret prints a value, byte for byte.
func getSecret(ctx context.Context, args []string, getenv func(string) string, stdout, _ io.Writer) error {
	var r httpapi.Request
	flags := newFlags("get")
	flags.StringVar(&r.VersionID, "version-id", "", "")
	flags.StringVar(&r.VersionStage, "version-stage", "", "")
	flags.BoolVar(&r.RefreshNow, "refresh-now", false, "")
	if flags.Parse(args) != nil || flags.NArg() != 1 {
		return &Usage{"get [--version-id=ID] [--version-stage=STAGE] [--refresh-now] <secretId>"}
	}
	r.SecretID = flags.Arg(0)
	token, err := clientToken(getenv)
	if err != nil {
		return err
	}
	value, err := httpapi.Client{Address: address(getenv), Token: token}.Get(ctx, r)
	var refusal *httpapi.Error
	if errors.As(err, &refusal) {
		err = fmt.Errorf("get %s: %w", r, refusal)
		if refusal.Recommend != "" {
			err = fmt.Errorf("%w\n  %s", err, refusal.Recommend)
		}
	}
	if err != nil {
		return err
	}
	_, err = stdout.Write(value)
	return err
}

func newFlags(name string) *flag.FlagSet {
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // Usage says it
	return flags
}

func clientToken(getenv func(string) string) (string, error) {
	for _, name := range httpapi.DefaultTokenVariables() {
		if getenv(name) != "" {
			return httpapi.TokenFromEnv(getenv, []string{name})
		}
	}
	token, err := httpapi.ReadToken(config.APITokenFile)
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no token: %s is not there, and KMS_TOKEN is not set; "+
			"is the annotation kms.alibabacloud.com/api set to true?", config.APITokenFile)
	}
	return token, err
}

// address is what the environment says, the webhook's document in an injected container, or the KMS Agent's own.
func address(getenv func(string) string) string {
	setting := getenv(addressVariable)
	switch {
	case strings.ContainsAny(setting, ":/"):
		return setting
	case setting != "":
		return "127.0.0.1:" + setting
	}
	if doc, err := agentconfig.Read([]byte(getenv(agentconfig.Env))); err == nil && doc.API != nil {
		return httpapi.Address(doc.API.Port, doc.API.Socket)
	}
	return httpapi.Address(config.DefaultAPIPort, "")
}
