package localapi

import (
	"log/slog"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/failure"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// pod is the cloud, and the environment of a pod whose role may read two secrets.
type pod struct {
	*emulatortest.Server
	t   *testing.T
	env map[string]string
}

func startPod(t *testing.T) *pod {
	cloud := emulatortest.Start(t)
	dev := map[string]string{"env": "dev"}
	cloud.Put(t,
		emulator.Secret{Name: "app/db", Type: "Rds", Tags: dev, Value: emulator.Value{Text: `{"AccountName":"app"}`}},
		emulator.Secret{Name: "app/key", Tags: dev, Value: emulator.Value{Text: "sentinel-key-1"}})
	return &pod{cloud, t, map[string]string{
		config.RoleARNEnv: emulatortest.RoleARN, config.OIDCProviderARNEnv: emulatortest.ProviderARN,
		config.OIDCTokenFileEnv: cloud.Issuer.TokenFile(t, emulatortest.Subject),
	}}
}

// source returns the Source of cfg, which reads as the pod.
func (p *pod) source(cfg Config) *Source {
	p.t.Helper()
	endpoint := agentconfig.Endpoint{Host: p.Addr, CABundle: string(emulatortest.CAPEM())}
	src, err := source.Open(agentconfig.Config{KMS: endpoint, STS: endpoint}, func(name string) string { return p.env[name] }, metrics.New())
	if err != nil {
		p.t.Fatal(err)
	}
	cfg.Read, cfg.Who, cfg.Log = src.Read, failure.Adviser{Role: src.Role, Host: p.Addr}, slog.New(slog.DiscardHandler)
	return New(cfg)
}
