package agentconfig

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

// The keys of the Kubernetes Secret of a ClientKey identity are files of these names in ClientKeyDir: the JSON document that
// KMS gives out when a client key is made, and its password.
const (
	ClientKeyDir      = "/var/run/kms/client-key"
	ClientKeyFile     = "clientKey"
	ClientKeyPassword = "password"
)

// EnvFile is where the agent writes the values of a pod's env.<NAME>, below SecretsDir: a JSON object of names and values. No
// secret.<file> can have that path.
const EnvFile = "..env"

// ProgramDir is where the volume with the agent's program is, in the agent's containers and in those that get variables, and
// Program is the program. Any container can run it, whatever its image has: it is linked statically.
const (
	ProgramDir = "/var/run/kms/bin"
	Program    = ProgramDir + "/kms-agent"
)
