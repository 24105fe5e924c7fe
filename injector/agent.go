package injector

import (
	"encoding/json"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// document is what the agent is told, but for what it takes for granted: pods have it twice.
func (in *Injector) document(r *request, a *permissions) agentconfig.Config {
	doc := agentconfig.Config{
		Namespace:       r.Namespace,
		ServiceAccount:  r.serviceAccount(),
		Identity:        r.Spec.Identity,
		KMS:             endpoint(in.kmsHost(&r.Spec), in.policy.KMS),
		STS:             endpoint("", in.policy.STS.Gateway),
		RefreshInterval: config.Duration(in.refreshInterval(&r.Spec)),
		OnChange:        r.Spec.OnChange,
		API:             r.Spec.API,
		MetricsPort:     in.metricsPort(r),
		LogLevel:        unless(r.Spec.LogLevel, config.DefaultLogLevel),
		LogFormat:       unless(r.Spec.LogFormat, config.DefaultLogFormat),
		Files:           make([]agentconfig.File, 0, len(r.Spec.Secrets)),
	}
	if len(r.Spec.Env) > 0 {
		doc.Env, doc.EnvMode = r.Spec.Env, a.mode
		if in.copiesProgram(&r.Pod.Spec) {
			doc.Program = agentconfig.Program
		}
	}
	if d := in.policy.STS.SessionDuration; d != nil {
		doc.SessionDuration = *d
	}
	for _, v := range r.fileSets {
		doc.ViewDirs = append(doc.ViewDirs, v.dir)
	}
	dirs := dirs(len(r.Spec.Secrets), r.fileSets)
	for i, s := range r.Spec.Secrets {
		mode := a.mode
		if s.Mode != nil {
			mode = agentconfig.FileMode(*s.Mode)
		}
		doc.Files = append(doc.Files, file(s, mode, dirs[i]))
	}
	return doc
}

func endpoint(host string, gateway clusterconfig.Gateway) agentconfig.Endpoint {
	e := agentconfig.Endpoint{Host: host, CABundle: gateway.CABundle}
	if ca := gateway.CAConfigMap; ca.Name != "" {
		e.CAConfigMap = ca.Name + "/" + ca.Key
	}
	return e
}

// unless is nothing where it would be the default.
func unless(value, initial string) string {
	if value == initial {
		return ""
	}
	return value
}

func file(s podconfig.Secret, mode agentconfig.FileMode, dirs []string) agentconfig.File {
	return agentconfig.File{
		Path: s.Path, Mode: mode, Secret: s.Name, From: s.From, VersionID: s.VersionID, VersionStage: s.VersionStage,
		Format: s.Format, Keys: s.Keys, Template: s.Template, RoleARN: s.RoleARN, OnChange: s.OnChange, Optional: s.Optional,
		Dirs: dirs,
	}
}

func (in *Injector) kmsHost(spec *podconfig.Spec) string {
	switch {
	case spec.Endpoint != "":
		return spec.Endpoint
	case spec.Region != "" && spec.Region != in.policy.Region:
		return in.policy.KMSHost(spec.Region)
	}
	return in.policy.KMS.Endpoint
}

// encode returns the text of agentconfig.Env, or of a part of it. The kubelet expands $(NAME) in environment variables and turns $$ into $.
// A dollar can only stand inside a JSON string, where its escape means the same and is left alone.
func encode(v any) string {
	var text strings.Builder
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // nothing in it cannot be encoded
	}
	return strings.ReplaceAll(strings.TrimSuffix(text.String(), "\n"), "$", `\u0024`)
}
