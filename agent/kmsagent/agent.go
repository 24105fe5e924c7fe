// Package kmsagent is the command line of Alibaba Cloud's KMS Agent: agent, token and get, with its config.toml. It runs the agent
// without the webhook.
//
// Its identity is RRSA's, from the ALIBABA_CLOUD_* environment variables. ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED=true asks KMS
// and STS inside the VPC. An authority of one's own, as KMS instances have, is named by SSL_CERT_FILE or SSL_CERT_DIR.
// Whoever has the token may read what the role may read.
package kmsagent

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
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
			Stale: cfg.Server.IgnoreTransientErrors, Region: cfg.KMS.Region, Log: log,
		}),
		Token: token, Allow: []string{"*"}, Headers: cfg.Server.SSRFHeaders, PathPrefix: cfg.Server.PathPrefix,
		MaxConn: cfg.Server.MaxConn, ResponseType: cfg.Server.ResponseType, Log: log,
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
