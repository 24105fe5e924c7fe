package config

import (
	"fmt"
	"slices"
	"strings"
)

// An IdentityKind is a way to be somebody to Alibaba Cloud. There is no fall-back from one to another.
type IdentityKind string

// The kinds of identity.
const (
	RRSA      IdentityKind = ""           // the role of the pod's ServiceAccount, by its projected token
	NodeRole  IdentityKind = "node-role"  // the role of the ECS instance under the node
	AccessKey IdentityKind = "access-key" // an access key, and maybe a role, in a Kubernetes Secret
	ClientKey IdentityKind = "client-key" // a client key of a KMS instance in a Kubernetes Secret
)

// IdentityKinds are all of them.
var IdentityKinds = []IdentityKind{RRSA, NodeRole, AccessKey, ClientKey}

// The keys of the Kubernetes Secret of an AccessKey identity, and the environment variables in which the agent finds them.
// The role and its session's name may be missing: without them the access key itself is the identity.
const (
	AccessKeyID          = "id"
	AccessKeySecret      = "secret"
	AccessKeyRole        = "rolearn"
	AccessKeySessionName = "rolesessionname"

	AccessKeyIDEnv          = "ALIBABA_CLOUD_ACCESS_KEY_ID"
	AccessKeySecretEnv      = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"
	AccessKeyRoleEnv        = RoleARNEnv
	AccessKeySessionNameEnv = "ALIBABA_CLOUD_ROLE_SESSION_NAME"
)

// The environment variables of RRSA, of STS and of the node's metadata, as ack-pod-identity-webhook and the SDKs name them.
const (
	RoleARNEnv          = "ALIBABA_CLOUD_ROLE_ARN"
	OIDCProviderARNEnv  = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN"
	OIDCTokenFileEnv    = "ALIBABA_CLOUD_OIDC_TOKEN_FILE"
	STSEndpointEnv      = "ALIBABA_CLOUD_STS_ENDPOINT"
	STSRegionEnv        = "ALIBABA_CLOUD_STS_REGION"
	VPCEndpointEnv      = "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED" // "true": STS and KMS are asked inside the VPC
	NodeRoleEnv         = "ALIBABA_CLOUD_ECS_METADATA"
	MetadataDisabledEnv = "ALIBABA_CLOUD_ECS_METADATA_DISABLED"
)

// The keys of the Kubernetes Secret of a ClientKey identity are files of these names in ClientKeyDir: the JSON document that
// KMS gives out when a client key is made, and its password.
const (
	ClientKeyDir      = "/var/run/kms/client-key"
	ClientKeyFile     = "clientKey"
	ClientKeyPassword = "password"
)

// An Identity is who the agent of a pod is. The zero value is RRSA.
type Identity struct {
	Kind   IdentityKind `json:"kind,omitempty"`
	Secret string       `json:"-"` // the Kubernetes Secret, in the pod's namespace, of AccessKey and ClientKey
}

// String is the identity as it is written in an annotation.
func (i Identity) String() string {
	switch {
	case i.Kind == RRSA:
		return "rrsa"
	case i.Secret == "":
		return string(i.Kind)
	}
	return string(i.Kind) + ":" + i.Secret
}

func (k IdentityKind) needsSecret() bool { return k == AccessKey || k == ClientKey }

func parseIdentity(p *parser, _, value string) []error {
	kind, secret, named := strings.Cut(value, ":")
	identity := Identity{Kind: IdentityKind(kind), Secret: secret}
	kinds := []string{"rrsa", string(NodeRole), string(AccessKey), string(ClientKey)}
	switch {
	case !slices.Contains(kinds, kind):
		return []error{notOneOf(value, []string{"rrsa", "node-role", "access-key:<Secret>", "client-key:<Secret>"})}
	case identity.Kind.needsSecret() && !hostName(secret):
		return []error{fmt.Errorf("%q does not name a Kubernetes Secret of the pod's namespace; write for example %s:kms-credentials", value,
			kind)}
	case !identity.Kind.needsSecret() && named:
		return []error{fmt.Errorf("%q: %s has no Secret; write %s", value, kind, kind)}
	case kind == "rrsa":
		identity.Kind = RRSA
	}
	p.Identity = identity
	return nil
}

// InstanceGateway reports whether a host is the gateway of a KMS instance, the only one that takes a client key.
func InstanceGateway(host string) bool { return instanceHost(host) }
