package config

// The environment variables of identities, of STS and of the node's metadata, as ack-pod-identity-webhook and the SDKs name them.
const (
	RoleARNEnv          = "ALIBABA_CLOUD_ROLE_ARN"
	OIDCProviderARNEnv  = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN"
	OIDCTokenFileEnv    = "ALIBABA_CLOUD_OIDC_TOKEN_FILE"
	STSEndpointEnv      = "ALIBABA_CLOUD_STS_ENDPOINT"
	STSRegionEnv        = "ALIBABA_CLOUD_STS_REGION"
	VPCEndpointEnv      = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED" // "true": STS and KMS are asked inside the VPC
	NodeRoleEnv         = "ALIBABA_CLOUD_ECS_METADATA"
	MetadataDisabledEnv = "ALIBABA_CLOUD_ECS_METADATA_DISABLED"

	AccessKeyIDEnv          = "ALIBABA_CLOUD_ACCESS_KEY_ID"
	AccessKeySecretEnv      = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"
	AccessKeyRoleEnv        = RoleARNEnv
	AccessKeySessionNameEnv = "ALIBABA_CLOUD_ROLE_SESSION_NAME"
)
