package failure

import "github.com/kms-agent-injector/kms-agent-injector/agent/identity"

// advice is one entry of the catalogue: the cause of a refusal and its cure. Placeholders are filled in from the refusal ({role}, {caller},
// {provider}, {subject}, {issuer}, {audience}, {trust}, {secret}, {resource}, {host}) and from the words of words.go.
type advice struct {
	codes string // with commas between them; exact, or the beginning if it ends in *
	cause string
	cure  string
}

const (
	longSession    = "{asked} is longer than MaxSessionDuration of {role}"
	shortenSession = "raise MaxSessionDuration of {role} in RAM, or {shorter}"
	sitOut         = "{patience}; check the status page of "
)

// The refusals that both actions of STS share.
var (
	stsThrottled = advice{"Throttling*", "too many STS calls in this account", "wait: {again}; {slower}"}
	stsOutage    = advice{"ServiceUnavailable*, Internal*", "STS has an outage", sitOut + "STS"}
	stsDuration  = advice{"InvalidParameter.DurationSeconds", longSession, shortenSession}
)

// stsAdvice is about AssumeRoleWithOIDC; the codes are from its API reference. The first match counts.
var stsAdvice = []advice{
	{"AuthenticationFail.NoPermission",
		"the trust policy of {role} does not let {this} in, or the OIDC provider {provider} does not exist",
		"the trust policy must allow oidc:sub {subject}, oidc:iss {issuer}, oidc:aud {audience}; this statement does: {trust}. " +
			"Or {another}"},
	{"AuthenticationFail.OIDCToken.Expired",
		"{expired}",
		"{clocks}"},
	{"AuthenticationFail.OIDCToken.AudienceNotMatch",
		"the token is for the audience {audience}, which the OIDC provider {provider} does not list",
		"{audiences}"},
	{"AuthenticationFail.OIDCToken.IssuerNotMatch",
		"the token is issued by {issuer}, which is not the issuer of {provider}",
		"check that the administrator's cluster ID is this cluster's, so that {provider} is this cluster's provider"},
	{"AuthenticationFail.OIDCToken*",
		"STS cannot verify the token of {subject} against the provider {provider}",
		"check that RRSA is enabled for this cluster, and that {provider} has the issuer {issuer} and its keys"},
	{"EntityNotExist.Role*",
		"the role {role} does not exist",
		"create it, or correct the annotation ack.alibabacloud.com/role-arn or pod-identity.alibabacloud.com/role-name of the ServiceAccount"},
	{"EntityNotExist*",
		"the role {role} or the OIDC provider {provider} does not exist",
		"check both names in RAM; the provider exists once RRSA is enabled for the cluster"},
	stsThrottled, stsOutage, stsDuration,
	{"InvalidParameter*",
		"STS rejects a parameter; the role is {role}, the provider {provider}",
		"check both ARNs"},
}

// chainAdvice is about AssumeRole, by an access key or by a pod's first role; the codes are from its API reference and the
// gateway's.
var chainAdvice = []advice{
	{"NoPermission",
		"{caller} may not assume {role}: its own policies do not allow that, or the trust policy of {role} does not name it",
		"both are needed: a policy of {caller} that allows sts:AssumeRole on {role}, " +
			"and its ARN, or the root of its account, as Principal.RAM in the trust policy of {role}"},
	{"EntityNotExist.Role*",
		"the role {role} does not exist",
		"create it, or correct {roleField}"},
	{"InvalidAccessKeyId*",
		"{caller} was deleted or disabled",
		"{newKey}"},
	{"SignatureDoesNotMatch",
		"the access key secret is not the one of {caller}",
		"{onePair}"},
	{"InvalidSecurityToken*",
		"STS rejected the session of {caller}, and a new one too",
		"check the node's clock, and that the sessions of {caller} were not revoked"},
	{"InvalidTimeStamp*",
		"the clock of the node differs from that of STS by more than 15 minutes",
		"set the node's clock"},
	stsThrottled, stsOutage, stsDuration,
	{"InvalidParameter*",
		"STS rejects a parameter; the role is {role}",
		"check the role's ARN, and {sessionField}: 2 to 64 letters, digits and .@_-"},
}

// nodeAdvice is about the metadata service of ECS.
var nodeAdvice = []advice{
	{"HTTP 404",
		"the node has no RAM role, or another than the requested one",
		"attach a RAM role to the cluster's nodes, or {own}"},
	{"HTTP 403",
		"the metadata service does not give the node's role to {here}",
		"check for a proxy or a network policy between {places} and {host}, or {rrsa}"},
	{identity.CodeMetadataDisabled,
		"{program}'s environment disables the node's role",
		"{disabled}"},
}

// kmsAdvice is about GetSecretValue; the codes are from its API reference and the gateway's.
var kmsAdvice = []advice{
	{"Forbidden.ResourceNotFound",
		"{host} has no secret {secret}, or no such version of it",
		"check the name (case matters), the version or stage, and the region{optional}"},
	{"Forbidden.KeyNotFound",
		"the key that encrypts {secret} was deleted",
		"restore the key in KMS, or create the secret again with another key"},
	{"Forbidden*",
		"{role} may not read {secret}",
		"a policy of {role} must allow kms:GetSecretValue on {resource}, and kms:Decrypt on the key that encrypts it " +
			"(acs:kms:*:*:key/<id>), because Decrypt is a right on keys; if the policy has a condition on kms:tag/…, " +
			"the secret's tags must satisfy it"},
	{"Rejected.Disabled",
		"the key that encrypts {secret} is disabled, or the KMS instance is",
		"enable it in the KMS console"},
	{"InvalidAccessKeyId*",
		"the access key of {role} was deleted or disabled",
		"{newKeyOfKMS}"},
	{"InvalidSecurityToken*",
		"KMS rejected the STS session of {role}, and a new one too",
		"check the node's clock, and that the role's sessions were not revoked"},
	{"InvalidTimeStamp*",
		"the clock of the node differs from that of KMS by more than 15 minutes",
		"set the node's clock"},
	{"Signature*",
		"KMS computes another signature for the request to {host}: something on the way changes the request",
		"check that no proxy rewrites requests, and that the endpoint is a host name of KMS; " +
			"{onePairOfKMS}"},
	{"ServiceUnavailable*, InternalFailure*, Rejected.Unavailable", "KMS has an outage", sitOut + "KMS"},
	{"Throttling*, Rejected.Throttling", "too many KMS calls in this account and region", "wait: {again}"},
}
