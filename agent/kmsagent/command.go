// Package kmsagent is the command line of Alibaba Cloud's KMS Agent: agent, token and get, with its config.toml. It runs the agent
// without the webhook.
//
// Its identity is RRSA's, from the ALIBABA_CLOUD_* environment variables. ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED=true asks KMS
// and STS inside the VPC. SSL_CERT_FILE or SSL_CERT_DIR names a private certificate authority, as KMS
// instances have. A client with the token may read what the role may read.
package kmsagent

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/localapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// Run serves the local API until ctx ends, which is no error. With a tokenFile, the token is the one in that file, which is
// written if it is not there; else it is what the environment says. Its log goes to stderr.
func Run(ctx context.Context, cfg Config, tokenFile string, getenv func(string) string, stderr io.Writer) error {
	level, err := cfg.Log.level()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level}))
	if cfg.Log.LogPath != "" {
		log.Info("the log goes to standard error, where kubectl logs finds it; LogPath, MaxSize and MaxBackups have no effect",
			logkey.LogPath, cfg.Log.LogPath)
	}
	token, err := readToken(tokenFile, getenv, cfg.Server.SSRFEnvVariables)
	if err != nil {
		return err
	}
	host := cfg.KMS.host(strings.EqualFold(getenv(config.VPCEndpointEnv), "true"))
	src, err := source.Open(agentconfig.Config{KMS: agentconfig.Endpoint{Host: host}}, withRegion(getenv, cfg.KMS.Region), metrics.New())
	if err != nil {
		return fmt.Errorf("the agent's identity, RRSA, is not complete in the environment: %w", err)
	}
	server, err := httpapi.New(httpapi.Config{
		Source: localapi.New(localapi.Config{
			Read: src.Read, Who: failure.Adviser{Role: src.Role, Host: host},
			TTL: time.Duration(cfg.Cache.TTLSeconds) * time.Second, Size: cfg.Cache.CacheSize,
			Stale: cfg.Server.IgnoreTransientErrors, Log: log,
		}),
		Token: token, Allow: []string{"*"}, Headers: cfg.Server.SSRFHeaders, PathPrefix: cfg.Server.PathPrefix,
		MaxConn: cfg.Server.MaxConn, ResponseType: cfg.Server.ResponseType, ARNPrefix: cfg.KMS.arnPrefix(src.Role), Log: log,
	})
	if err != nil {
		return err
	}
	listener, err := httpapi.Listen(ctx, httpapi.Address(cfg.Server.HTTPPort, ""))
	if err != nil {
		return err
	}
	log.Info("serving", logkey.Address, listener.Addr().String(), logkey.KMS, host)
	return server.Serve(ctx, listener)
}

func readToken(file string, getenv func(string) string, variables []string) (string, error) {
	if file != "" {
		return httpapi.KeepToken(file)
	}
	return httpapi.TokenFromEnv(getenv, variables)
}

// withRegion lets STS be asked in the region of the KMS, unless the environment names another: it is near, and goes on when
// the central one does not.
func withRegion(getenv func(string) string, region string) func(string) string {
	return func(name string) string {
		if name == config.STSRegionEnv {
			return cmp.Or(getenv(name), region)
		}
		return getenv(name)
	}
}

// addressVariable says where the local API is: a port on loopback, host:port, or the path of a socket.
const addressVariable = "KMS_AGENT_API"

// Usage describes the arguments of a Command.
type Usage struct{ Line string }

func (u *Usage) Error() string { return "usage: kms-agent " + u.Line }

// Command does what the arguments after its name say. Wrong arguments are a *Usage.
type Command func(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error

// Commands returns the agent's commands that need no configuration from the webhook.
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
	r.Name = flags.Arg(0)
	token, err := clientToken(getenv)
	if err != nil {
		return err
	}
	value, err := httpapi.Client{Address: address(getenv), Token: token}.Get(ctx, r)
	if refusal, ok := errors.AsType[*httpapi.Error](err); ok {
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

// address returns the address of the local API: the environment's, the webhook's in an injected container, or the KMS Agent's default.
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
