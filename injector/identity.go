package injector

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// The wiring of RRSA (RAM Roles for Service Accounts). Names, paths and the audience are those of ack-pod-identity-webhook:
// https://www.alibabacloud.com/help/en/ack/ack-managed-and-ack-dedicated/user-guide/ack-pod-identity-webhook
const (
	tokenDir      = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens"
	tokenFile     = "token"
	tokenAudience = "sts.aliyuncs.com"
)

// identity is what Alibaba Cloud's SDKs and the agent read. The address of the nodes' metadata service is switched off, so that
// nothing falls back to the node's role.
func (in *Injector) identity(roleARN string) []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: "ALIBABA_CLOUD_ROLE_ARN", Value: roleARN},
		{Name: "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", Value: in.policy.OIDCProviderARN},
		{Name: "ALIBABA_CLOUD_OIDC_TOKEN_FILE", Value: tokenDir + "/" + tokenFile},
		{Name: "ALIBABA_CLOUD_STS_REGION", Value: in.policy.Region},
		{Name: "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", Value: strconv.FormatBool(in.policy.VPC())},
		{Name: "ALIBABA_CLOUD_STS_ENDPOINT", Value: in.policy.STS.Endpoint},
		{Name: "ALIBABA_CLOUD_ECS_METADATA_DISABLED", Value: "true"},
	}
}

func tokenMount() corev1.VolumeMount {
	return corev1.VolumeMount{Name: TokenVolume, MountPath: tokenDir, ReadOnly: true}
}

// noAPIToken takes the place at which the API server would mount a token for itself into the agent's containers: they have no use
// for one, and its mount would have the API server call every webhook a second time. What is there instead is good for STS only.
func noAPIToken() corev1.VolumeMount {
	return corev1.VolumeMount{Name: TokenVolume, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}
}

// tokenVolume projects a token of the pod's ServiceAccount. DefaultMode is what the kubelet uses when neither fsGroup nor one
// user for all containers lets it narrow the file by itself; then it makes the file 0600 and that user's, or adds the group.
func tokenVolume(expirationSeconds int64) corev1.Volume {
	return corev1.Volume{Name: TokenVolume, VolumeSource: corev1.VolumeSource{
		Projected: &corev1.ProjectedVolumeSource{
			DefaultMode: new(int32(0o644)),
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience:          tokenAudience,
				ExpirationSeconds: new(expirationSeconds),
				Path:              tokenFile,
			}}},
		},
	}}
}
