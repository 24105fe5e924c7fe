package config

// An IdentityKind says how the agent authenticates to Alibaba Cloud. There is no fall-back from one to another.
type IdentityKind string

// The kinds of identity.
const (
	RRSA      IdentityKind = ""           // the role of the pod's ServiceAccount, by its projected token
	NodeRole  IdentityKind = "node-role"  // the role of the ECS instance under the node
	AccessKey IdentityKind = "access-key" // an access key, and maybe a role, in a Kubernetes Secret
	ClientKey IdentityKind = "client-key" // a client key of a KMS instance in a Kubernetes Secret
)

// The keys of the Kubernetes Secret of an AccessKey identity, which the agent finds in the AccessKey variables of its environment.
// The role and its session's name may be missing: without them the access key itself is the identity.
const (
	AccessKeyID          = "id"
	AccessKeySecret      = "secret"
	AccessKeyRole        = "rolearn"
	AccessKeySessionName = "rolesessionname"
)

// An Identity is the agent's identity towards Alibaba Cloud. The zero value is RRSA.
type Identity struct {
	Kind   IdentityKind `json:"kind,omitempty"`
	Secret string       `json:"-"` // the Kubernetes Secret, in the pod's namespace, of AccessKey and ClientKey
}

// String returns the identity as it is written in an annotation.
func (i Identity) String() string {
	switch {
	case i.Kind == RRSA:
		return "rrsa"
	case i.Secret == "":
		return string(i.Kind)
	}
	return string(i.Kind) + ":" + i.Secret
}

// NeedsSecret reports whether an identity of the kind is in a Kubernetes Secret.
func (k IdentityKind) NeedsSecret() bool { return k == AccessKey || k == ClientKey }

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
