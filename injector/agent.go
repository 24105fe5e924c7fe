package injector

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const (
	agentBinary = "/kms-agent"
	// Where the agent's own containers have the volumes. Fixed, whatever the mount path in the app's containers is: that one may
	// be a folder that the agent needs, such as /etc/ssl/certs.
	secretsDir = "/var/run/kms/secrets"
	stateDir   = "/var/run/kms/agent"
	viewsDir   = "/var/run/kms/views" // of the volumes of views, by number
)

// document is the text of config.AgentEnv.
func (in *Injector) document(r Request, a access) (string, error) {
	doc := config.Agent{
		Namespace:       r.Namespace,
		ServiceAccount:  r.serviceAccount(),
		Identity:        r.Spec.Identity,
		SessionPolicy:   *in.policy.Agent.NarrowSessions,
		KMS:             config.Endpoint{Host: in.kmsHost(r.Spec), CABundle: in.policy.KMS.CABundle},
		STS:             config.Endpoint{CABundle: in.policy.STS.CABundle},
		SecretsDir:      secretsDir,
		StateDir:        stateDir,
		RefreshInterval: config.Duration(r.Spec.RefreshInterval),
		OnChange:        r.Spec.OnChange,
		API:             r.Spec.API,
		MetricsPort:     in.metricsPort(r),
		LogLevel:        r.Spec.LogLevel,
		LogFormat:       r.Spec.LogFormat,
		Files:           []config.File{},
	}
	if len(r.Spec.Env) > 0 {
		doc.Env, doc.EnvMode = r.Spec.Env, a.mode
		if in.copiesProgram() {
			doc.Program = config.Program
		}
	}
	views := views(r.Spec)
	for _, v := range views {
		doc.ViewDirs = append(doc.ViewDirs, v.dir)
	}
	for _, s := range r.Spec.Secrets {
		mode := a.mode
		if s.Mode != nil {
			mode = config.FileMode(*s.Mode)
		}
		doc.Files = append(doc.Files, config.File{
			Path: s.Path, Mode: mode, Secret: s.Name, From: s.From, VersionID: s.VersionID, VersionStage: s.VersionStage,
			Format: s.Format, Keys: s.Keys, Template: s.Template, RoleARN: s.RoleARN, OnChange: s.OnChange, Optional: s.Optional,
			Dirs: dirs(s, views),
		})
	}
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		return "", fmt.Errorf("encode the agent's document: %w", err)
	}
	// The kubelet expands $(NAME) in environment variables and turns $$ into $. A dollar can only stand inside a JSON string, where
	// its escape means the same and is left alone.
	return string(bytes.ReplaceAll(bytes.TrimRight(out.Bytes(), "\n"), []byte("$"), []byte(`\u0024`))), nil
}

func (in *Injector) kmsHost(spec config.Spec) string {
	switch {
	case spec.Endpoint != "":
		return spec.Endpoint
	case spec.Region != "" && spec.Region != in.policy.Region:
		return in.policy.KMSHost(spec.Region)
	}
	return in.policy.KMS.Endpoint
}

// containers are the agent's, in the order in which they run. Restartable ones are native sidecars.
func (in *Injector) containers(r Request, a access, resources corev1.ResourceRequirements) ([]corev1.Container, error) {
	document, err := in.document(r, a)
	if err != nil {
		return nil, err
	}
	base := corev1.Container{
		Image:           in.policy.Agent.Image,
		ImagePullPolicy: corev1.PullPolicy(in.policy.Agent.ImagePullPolicy),
		Command:         []string{agentBinary},
		Env: append([]corev1.EnvVar{
			{Name: config.AgentEnv, Value: document},
			{Name: config.PodNameEnv, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
		}, in.identity(r)...),
		VolumeMounts: append([]corev1.VolumeMount{
			{Name: SecretsVolume, MountPath: secretsDir},
			{Name: StateVolume, MountPath: stateDir},
		}, identityMounts(r.Spec.Identity.Kind)...),
		Resources: resources,
		// The agent writes why it stopped; its log is the next best if it could not even do that.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext:          restricted(a),
	}
	for _, v := range views(r.Spec) {
		base.VolumeMounts = append(base.VolumeMounts, corev1.VolumeMount{Name: v.volume, MountPath: v.dir})
	}
	if len(r.Spec.Env) > 0 && in.copiesProgram() {
		base.VolumeMounts = append(base.VolumeMounts, programMount(false))
	}
	once, forever := base, base
	once.Name, once.Args = InitContainerName, []string{config.CommandInit}
	forever.Name, forever.Args = ContainerName, []string{config.CommandRun}
	if r.Spec.Mode == config.ModeInit {
		return []corev1.Container{once}, nil
	}
	in.serve(&forever, r)
	if r.Spec.Mode == config.ModeSingle || !fetches(r.Spec) {
		return []corev1.Container{forever}, nil
	}
	return []corev1.Container{once, forever}, nil
}

// serve completes the agent that stays: what it listens on, and what the containers after it wait for.
func (in *Injector) serve(agent *corev1.Container, r Request) {
	if in.native() {
		agent.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	}
	if port := in.metricsPort(r); port != 0 {
		agent.Ports = []corev1.ContainerPort{{Name: metricsPortName, ContainerPort: int32(port)}}
	}
	if r.Spec.API != nil {
		agent.Env = append(slices.Clone(agent.Env), apiTokenEnv)
		agent.VolumeMounts = append(slices.Clone(agent.VolumeMounts), apiMount(false))
	}
	if r.Spec.Mode == config.ModeSingle || r.Spec.API != nil {
		// Ten minutes for the first set of files; an outage of KMS longer than that restarts the agent and goes on.
		agent.StartupProbe = &corev1.Probe{
			ProbeHandler:     corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{agentBinary, config.CommandReady}}},
			PeriodSeconds:    1,
			TimeoutSeconds:   5,
			FailureThreshold: 600,
		}
	}
}

// native counts auto as yes: that is what it means in any cluster of today, and who knows the cluster has replaced it.
func (in *Injector) native() bool {
	return in.policy.Agent.NativeSidecar != config.NativeNever
}

// restricted is what Pod Security "restricted" asks of a container, stated on the container so that it holds in any pod.
func restricted(a access) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsUser:                new(a.uid),
		RunAsGroup:               new(a.gid),
		RunAsNonRoot:             new(true),
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// tmpfs is an emptyDir in memory. It counts against the memory limits of the containers that write to it.
func (in *Injector) tmpfs(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: new(in.volumeSize)},
	}}
}
