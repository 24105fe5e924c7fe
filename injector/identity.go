package injector

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// The wiring of RRSA (RAM Roles for Service Accounts). Names, paths and the audience are those of ack-pod-identity-webhook:
// https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/ack-pod-identity-webhook
const (
	tokenDir      = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens"
	tokenFile     = "token"
	tokenAudience = "sts.aliyuncs.com"
)

var noNodeRole = corev1.EnvVar{Name: config.MetadataDisabledEnv, Value: "true"}

// identity is what Alibaba Cloud's SDKs and the agent read. The address of the nodes' metadata service is switched off, so that
// nothing falls back to the node's role, unless that role is the identity.
func (in *Injector) identity(r *request) []corev1.EnvVar {
	sts := []corev1.EnvVar{ // where the agent, or an application, finds STS
		{Name: config.STSRegionEnv, Value: in.policy.Region},
		{Name: config.VPCEndpointEnv, Value: strconv.FormatBool(in.policy.VPC())},
		{Name: config.STSEndpointEnv, Value: in.policy.STS.Endpoint},
	}
	switch r.Spec.Identity.Kind {
	case config.NodeRole:
		return sts
	case config.AccessKey:
		return append(append(accessKey(r.Spec.Identity.Secret), sts...), noNodeRole)
	case config.ClientKey:
		return []corev1.EnvVar{noNodeRole}
	}
	return append(append([]corev1.EnvVar{
		{Name: config.RoleARNEnv, Value: r.RoleARN},
		{Name: config.OIDCProviderARNEnv, Value: in.policy.OIDCProviderARN},
		{Name: config.OIDCTokenFileEnv, Value: tokenDir + "/" + tokenFile},
	}, sts...), noNodeRole)
}

// accessKey has the kubelet put the keys of a Secret into the agent's environment. A Secret without the first two keeps the
// container from starting, with an event that says so.
func accessKey(secret string) []corev1.EnvVar {
	from := func(name, key string, optional *bool) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: secret}, Key: key, Optional: optional,
		}}}
	}
	return []corev1.EnvVar{
		from(config.AccessKeyIDEnv, config.AccessKeyID, nil),
		from(config.AccessKeySecretEnv, config.AccessKeySecret, nil),
		from(config.AccessKeyRoleEnv, config.AccessKeyRole, new(true)),
		from(config.AccessKeySessionNameEnv, config.AccessKeySessionName, new(true)),
	}
}

// identityMounts returns the mounts that the agent's containers need for their identity.
func identityMounts(kind config.IdentityKind) []corev1.VolumeMount {
	switch kind {
	case config.RRSA:
		return []corev1.VolumeMount{tokenMount(), noAPIToken(agentconfig.TokenVolume)}
	case config.ClientKey:
		return []corev1.VolumeMount{{Name: agentconfig.ClientKeyVolume, MountPath: agentconfig.ClientKeyDir, ReadOnly: true},
			noAPIToken(agentconfig.StateVolume)}
	}
	return []corev1.VolumeMount{noAPIToken(agentconfig.StateVolume)}
}

func tokenMount() corev1.VolumeMount {
	return corev1.VolumeMount{Name: agentconfig.TokenVolume, MountPath: tokenDir, ReadOnly: true}
}

// noAPIToken takes the place at which the API server would mount a token for itself into the agent's containers: they have no use
// for one, and its mount would have the API server call every webhook a second time. What is there instead is a volume that they
// have anyway: a token that is good for STS only, or the agent's own state.
func noAPIToken(volume string) corev1.VolumeMount {
	return corev1.VolumeMount{Name: volume, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}
}

// tokenVolume projects a token of the pod's ServiceAccount. DefaultMode, 0644, is what the kubelet uses when neither fsGroup nor one
// user for all containers lets it narrow the file by itself; then it makes the file 0600 and that user's, or adds the group.
func tokenVolume(expirationSeconds int64) corev1.Volume {
	return corev1.Volume{Name: agentconfig.TokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
		Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
			Audience: tokenAudience, ExpirationSeconds: &expirationSeconds, Path: tokenFile,
		}}},
		DefaultMode: new(int32(0o644)),
	}}}
}

// clientKeyVolume returns the volume with the two files of a client key. The kubelet gives them to root, and to fsGroup if the pod has
// one. Without fsGroup they are world-readable, since the agent runs as another user; only the agent mounts the volume.
func clientKeyVolume(secret string, a *permissions) corev1.Volume {
	mode := int32(0o444)
	if a.fsGroup {
		mode = 0o440
	}
	return corev1.Volume{Name: agentconfig.ClientKeyVolume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
		SecretName: secret,
		Items: []corev1.KeyToPath{
			{Key: agentconfig.ClientKeyFile, Path: agentconfig.ClientKeyFile},
			{Key: agentconfig.ClientKeyPassword, Path: agentconfig.ClientKeyPassword},
		},
		DefaultMode: &mode,
	}}}
}
