package injector

import (
	"fmt"
	"path"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

const (
	agentBinary = "/kms-agent"
	viewsDir    = "/var/run/kms/views" // of the volumes of views, by number
)

// sharedContainer returns the fields that all of the agent's containers in a pod share.
func (in *Injector) sharedContainer(r *request, a *permissions, document string, resources corev1.ResourceRequirements) corev1.Container {
	c := corev1.Container{
		Image:   in.policy.Agent.Image,
		Command: []string{agentBinary},
		Env: append([]corev1.EnvVar{
			{Name: agentconfig.Env, Value: document},
			{Name: agentconfig.PodNameEnv, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.name"}}},
			// The memory limit of the container, for Go's runtime and the agent. Without a limit it is the node's memory.
			{Name: "GOMEMLIMIT", ValueFrom: &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: "limits.memory"}}},
		}, in.identity(r)...),
		Resources: resources,
		VolumeMounts: append([]corev1.VolumeMount{
			{Name: agentconfig.SecretsVolume, MountPath: config.DefaultSecretsDir},
			{Name: agentconfig.StateVolume, MountPath: config.DefaultStateDir},
		}, identityMounts(r.Spec.Identity.Kind)...),
		// The agent writes why it stopped. Its log is the fallback.
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		ImagePullPolicy:          corev1.PullPolicy(in.policy.Agent.ImagePullPolicy),
		// Pod Security "restricted" demands these fields. They are on the container so that they hold in any pod.
		SecurityContext: &corev1.SecurityContext{
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			RunAsUser:                &a.uid,
			RunAsGroup:               &a.gid,
			RunAsNonRoot:             new(true),
			ReadOnlyRootFilesystem:   new(true),
			AllowPrivilegeEscalation: new(false),
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
	}
	if len(in.authorities()) > 0 {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: agentconfig.CAVolume, MountPath: agentconfig.CADir, ReadOnly: true})
	}
	for _, v := range r.fileSets {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: v.volume, MountPath: v.dir})
	}
	if len(r.Spec.Env) > 0 && in.copiesProgram(&r.Pod.Spec) {
		c.VolumeMounts = append(c.VolumeMounts, programMount(false))
	}
	return c
}

// initContainer writes the files before the other containers start.
func initContainer(shared corev1.Container) corev1.Container {
	shared.Name, shared.Args = agentconfig.InitContainerName, []string{agentconfig.CommandInit}
	return shared
}

// sidecar keeps the files fresh and serves the local API.
func (in *Injector) sidecar(r *request, shared corev1.Container, native bool, metricsPort int) corev1.Container {
	c := shared
	c.Name, c.Args = agentconfig.ContainerName, []string{agentconfig.CommandRun}
	if metricsPort != 0 {
		c.Ports = []corev1.ContainerPort{{Name: metricsPortName, ContainerPort: int32(metricsPort)}} //nolint:gosec // a port
	}
	if native {
		c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
	}
	if r.Spec.API != nil {
		c.Env = append(slices.Clip(c.Env), apiTokenEnv)
		c.VolumeMounts = append(slices.Clip(c.VolumeMounts), apiMount(false))
	}
	if r.Spec.Mode == podconfig.ModeSingle || r.Spec.API != nil { // the containers after it wait until it is ready
		// The kubelet runs a startup probe once a second, and only after the container's state is in the pod's status: that takes twice
		// as long as the agent. A hook ends at once, and fails with the agent, after a minute at most.
		c.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{
			Exec: &corev1.ExecAction{Command: []string{agentBinary, agentconfig.CommandReady, agentconfig.FlagWait}},
		}}
	}
	return c
}

// containers returns the agent's containers, in the order in which they run.
func (in *Injector) containers(r *request, shared corev1.Container) []corev1.Container {
	if r.Spec.Mode == podconfig.ModeInit {
		return []corev1.Container{initContainer(shared)}
	}
	sidecar := in.sidecar(r, shared, in.native(r), in.metricsPort(r))
	if r.Spec.Mode == podconfig.ModeSingle || !fetches(&r.Spec) {
		return []corev1.Container{sidecar}
	}
	return []corev1.Container{initContainer(shared), sidecar}
}

// volumes returns the volumes that the pod needs.
func (in *Injector) volumes(r *request, a *permissions) []corev1.Volume {
	spec := &r.Spec
	volumes := []corev1.Volume{in.tmpfs(agentconfig.SecretsVolume), in.tmpfs(agentconfig.StateVolume)}
	switch spec.Identity.Kind {
	case config.RRSA:
		volumes = append(volumes, tokenVolume(spec.TokenExpiration))
	case config.ClientKey:
		volumes = append(volumes, clientKeyVolume(spec.Identity.Secret, a))
	}
	if authorities := in.authorities(); len(authorities) > 0 {
		volumes = append(volumes, corev1.Volume{Name: agentconfig.CAVolume, VolumeSource: corev1.VolumeSource{
			Projected: &corev1.ProjectedVolumeSource{Sources: authorities, DefaultMode: new(int32(agentconfig.CAFileMode))},
		}})
	}
	for _, v := range r.fileSets {
		volumes = append(volumes, in.tmpfs(v.volume))
	}
	if spec.API != nil {
		volumes = append(volumes, in.tmpfs(agentconfig.APIVolume))
	}
	if len(spec.Env) > 0 {
		volumes = append(volumes, in.programVolume())
	}
	return volumes
}

// authorities returns the projections of the ConfigMaps with the certificate authorities of KMS and STS. They are optional, so that the
// agent reports a missing one: the kubelet would block the pod with an event that names neither KMS nor the administrator.
func (in *Injector) authorities() (sources []corev1.VolumeProjection) {
	for _, from := range []struct {
		ca   clusterconfig.ConfigMapKey
		file string
	}{{in.policy.KMS.CAConfigMap, agentconfig.KMSCAFile}, {in.policy.STS.CAConfigMap, agentconfig.STSCAFile}} {
		if from.ca.Name != "" {
			sources = append(sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: from.ca.Name},
				Items:                []corev1.KeyToPath{{Key: from.ca.Key, Path: path.Base(from.file)}}, Optional: new(true),
			}})
		}
	}
	return sources
}

// tmpfs returns a volume in memory. It counts against the memory limits of the containers that write to it.
func (in *Injector) tmpfs(name string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: &in.volumeSize},
	}}
}

// native reports whether a sidecar is a native one.
func (in *Injector) native(r *request) bool {
	switch in.policy.Agent.NativeSidecar {
	case clusterconfig.NativeAlways:
		return true
	case clusterconfig.NativeNever:
		return false
	}
	return !r.PlainSidecars
}

// maxDocument is the longest agent configuration. Linux starts no program with a longer environment variable (MAX_ARG_STRLEN), name and
// closing zero included; the pod would fail with "argument list too long", which does not explain it.
const maxDocument = 128<<10 - len(agentconfig.Env+"=\x00")

// shortestDocument returns a lower bound of a configuration's length, so that one that is far too long is not encoded.
func shortestDocument(spec *podconfig.Spec) (length int) {
	for _, s := range spec.Secrets {
		length += len(`{"path":"","mode":"0400","secret":"","format":"raw"}`) + len(s.Path) + len(s.Name) + len(s.Template)
	}
	return length
}

// documentTooLong reports a configuration that is too long, at the file that takes most of it.
func (in *Injector) documentTooLong(spec *podconfig.Spec, length string) config.Mistakes {
	longest, most := 0, -1
	for i, s := range spec.Secrets { // all of them encoded would take as much memory again
		if n := len(s.Template) + len(s.Path) + len(s.Name); n > most {
			longest, most = i, n
		}
	}
	where := podconfig.Prefix + "inject"
	if most >= 0 {
		where, most = podconfig.Prefix+"secret."+spec.Secrets[longest].File, len(encode(file(spec.Secrets[longest], 0, nil)))
	}
	problem := fmt.Sprintf("all that the annotations tell the agent, and this most of all with %d bytes, is %s bytes long, and at most %d "+
		"fit into an environment variable; shorten the template, or spread the files over several pods", max(most, 0), length, maxDocument)
	if ca := len(in.policy.KMS.CABundle) + len(in.policy.STS.CABundle); ca > maxDocument/4 {
		problem += fmt.Sprintf("; %d bytes are the administrator's caFile, which the administrator can shorten", ca)
	}
	return config.Mistakes{{Where: where, Problem: problem}}
}

// metricsPortName is the name by which a PodMonitor selects the port.
const metricsPortName = "kms-metrics"

// apiTokenEnv tells a command in the agent's container, and users of Alibaba Cloud's KMS Agent know it by that name.
var apiTokenEnv = corev1.EnvVar{Name: "KMS_TOKEN", Value: "file://" + config.APITokenFile}

func apiMount(readOnly bool) corev1.VolumeMount {
	return corev1.VolumeMount{Name: agentconfig.APIVolume, MountPath: config.APITokenDir, ReadOnly: readOnly}
}

// metricsPort is where the pod's agent serves its metrics. In a pod on the node's network every agent of the node would want the
// same port, and in one with a container that has it already one of the two would fail; such pods have no metrics.
func (in *Injector) metricsPort(r *request) int {
	port := *in.policy.Agent.MetricsPort
	if port == 0 || r.Spec.Mode == podconfig.ModeInit || r.Pod.Spec.HostNetwork || r.listener(port) != "" {
		return 0
	}
	return port
}

// listener returns the container of the pod's own that says it listens on a port: all of them share one network.
func (r *request) listener(port int) string {
	for c := range r.Pod.Spec.each {
		if !ours(c.Name) && c.listens(port) {
			return c.Name
		}
	}
	return ""
}
