package injector

import (
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

const (
	agentBinary = "/kms-agent"
	viewsDir    = "/var/run/kms/views" // of the volumes of views, by number
)

// memoryLimitEnv tells Go's runtime, and the agent, the memory limit of their own container. Without one it is the node's memory.
const memoryLimitEnv = `{"name":"GOMEMLIMIT","valueFrom":{"resourceFieldRef":{"resource":"limits.memory","divisor":"0"}}}`

// document is what the agent is told, but for what it takes for granted: pods have it twice.
func (in *Injector) document(r *Request, a *access) config.Agent {
	doc := config.Agent{
		Namespace:       r.Namespace,
		ServiceAccount:  r.serviceAccount(),
		Identity:        r.Spec.Identity,
		KMS:             config.Endpoint{Host: in.kmsHost(&r.Spec), CABundle: in.policy.KMS.CABundle},
		STS:             config.Endpoint{CABundle: in.policy.STS.CABundle},
		RefreshInterval: config.Duration(in.refreshInterval(&r.Spec)),
		OnChange:        r.Spec.OnChange,
		API:             r.Spec.API,
		MetricsPort:     in.metricsPort(r),
		LogLevel:        unless(r.Spec.LogLevel, config.DefaultLogLevel),
		LogFormat:       unless(r.Spec.LogFormat, config.DefaultLogFormat),
		Files:           make([]config.File, 0, len(r.Spec.Secrets)),
	}
	if len(r.Spec.Env) > 0 {
		doc.Env, doc.EnvMode = r.Spec.Env, a.mode
		if in.copiesProgram(&r.Pod.Spec) {
			doc.Program = config.Program
		}
	}
	if d := in.policy.STS.SessionDuration; d != nil {
		doc.SessionDuration = *d
	}
	for _, v := range r.views {
		doc.ViewDirs = append(doc.ViewDirs, v.dir)
	}
	dirs := dirs(len(r.Spec.Secrets), r.views)
	for i, s := range r.Spec.Secrets {
		mode := a.mode
		if s.Mode != nil {
			mode = config.FileMode(*s.Mode)
		}
		doc.Files = append(doc.Files, file(s, mode, dirs[i]))
	}
	return doc
}

// unless is nothing where it would be the default.
func unless(value, initial string) string {
	if value == initial {
		return ""
	}
	return value
}

func file(s config.Secret, mode config.FileMode, dirs []string) config.File {
	return config.File{
		Path: s.Path, Mode: mode, Secret: s.Name, From: s.From, VersionID: s.VersionID, VersionStage: s.VersionStage,
		Format: s.Format, Keys: s.Keys, Template: s.Template, RoleARN: s.RoleARN, OnChange: s.OnChange, Optional: s.Optional,
		Dirs: dirs,
	}
}

func (in *Injector) kmsHost(spec *config.Spec) string {
	switch {
	case spec.Endpoint != "":
		return spec.Endpoint
	case spec.Region != "" && spec.Region != in.policy.Region:
		return in.policy.KMSHost(spec.Region)
	}
	return in.policy.KMS.Endpoint
}

// shared is what the agent's containers of a pod have in common. The memory's document is in it.
func (in *Injector) shared(r *Request, a *access, resources string, memory *memory) *shared {
	memory.env = append(memory.env[:0], `[{"name":"`+config.AgentEnv+`","value":`...)
	memory.env = rawjson.AppendString(memory.env, memory.document)
	memory.env = append(memory.env, `},{"name":"`+config.PodNameEnv+`","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}},`+memoryLimitEnv...)
	memory.env = appendItems(memory.env, in.identity(r), appendVariable)
	var mounts []Mount
	for _, v := range r.views {
		mounts = append(mounts, Mount{Name: v.volume, MountPath: v.dir})
	}
	if len(r.Spec.Env) > 0 && in.copiesProgram(&r.Pod.Spec) {
		mounts = append(mounts, programMount(false))
	}
	memory.mounts = appendItems(append(memory.mounts[:0], in.fragments.mounts[r.Spec.Identity.Kind]...), mounts, appendMount)
	return &shared{fragments: &in.fragments, env: memory.env, resources: resources, mounts: memory.mounts, uid: a.uid, gid: a.gid}
}

// agent is the container of a name, InitContainerName or ContainerName; the latter may be a native sidecar.
func (in *Injector) agent(r *Request, name string, native bool, both *shared) agent {
	if name == InitContainerName {
		return agent{name: name, command: config.CommandInit, shared: both}
	}
	forever := agent{name: name, command: config.CommandRun, native: native, port: in.metricsPort(r), shared: both}
	if r.Spec.API != nil {
		forever.env, forever.mounts = []variable{apiTokenEnv}, []Mount{apiMount(false)}
	}
	forever.gate = r.Spec.Mode == config.ModeSingle || r.Spec.API != nil
	return forever
}

// containers are the agent's, in the order in which they run.
func (in *Injector) containers(r *Request, both *shared) []agent {
	once := in.agent(r, InitContainerName, false, both)
	if r.Spec.Mode == config.ModeInit {
		return []agent{once}
	}
	forever := in.agent(r, ContainerName, in.native(), both)
	if r.Spec.Mode == config.ModeSingle || !fetches(&r.Spec) {
		return []agent{forever}
	}
	return []agent{once, forever}
}

// native counts auto as yes: that is what it means in any cluster of today, and who knows the cluster has replaced it.
func (in *Injector) native() bool {
	return in.policy.Agent.NativeSidecar != config.NativeNever
}
