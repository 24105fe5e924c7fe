package failure

import "github.com/kms-agent-injector/kms-agent-injector/agent/identity"

// advice is one entry of the catalogue: why a refusal happens, and what to do about it. In both, {role}, {caller},
// {provider}, {subject}, {issuer}, {audience}, {trust}, {secret}, {resource} and {host} are filled in from the refusal,
// and the words of words.go.
type advice struct {
	codes string // with commas between them; exact, or the beginning if it ends in *
	cause string
	cure  string
}

const (
	longSession = "STS gives no session of {role} for as long as {asked}: " +
		"the role's MaxSessionDuration is less"
	shortenSession = "set MaxSessionDuration of {role} in RAM to at least as much, or {shorter}"
	sitOut         = "{patience}; look at the status page of "
)

// What both actions of STS answer.
var (
	stsThrottled = advice{"Throttling*", "STS is asked too often in this account", "nothing for a while: {again}; {slower}"}
	stsOutage    = advice{"ServiceUnavailable*, Internal*", "STS is out of order", sitOut + "STS"}
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
		"STS does not accept a parameter; the role is {role}, the provider {provider}",
		"check both ARNs"},
}

// chainAdvice is about AssumeRole, by an access key or by a pod's first role; the codes are from its API reference and the
// gateway's.
var chainAdvice = []advice{
	{"NoPermission",
		"{caller} may not assume {role}: its own policies do not allow that, or the trust policy of {role} does not name it",
		"both must: a policy of {caller} allows sts:AssumeRole on {role}, " +
			"and the trust policy of {role} has its ARN, or the root of its account, as Principal.RAM"},
	{"EntityNotExist.Role*",
		"the role {role} does not exist",
		"create it, or correct {roleField}"},
	{"InvalidAccessKeyId*",
		"{caller} does not exist any more, or is disabled",
		"{newKey}"},
	{"SignatureDoesNotMatch",
		"the secret is not that of {caller}",
		"{onePair}"},
	{"InvalidSecurityToken*",
		"STS does not accept the session of {caller}, twice",
		"check the node's clock, and that the sessions of {caller} were not revoked"},
	{"InvalidTimeStamp*",
		"the clock of the node differs from that of STS by more than 15 minutes",
		"set the node's clock"},
	stsThrottled, stsOutage, stsDuration,
	{"InvalidParameter*",
		"STS does not accept a parameter; the role is {role}",
		"check the role's ARN, and {sessionField}: 2 to 64 letters, digits and .@_-"},
}

// nodeAdvice is about the metadata service of the node.
var nodeAdvice = []advice{
	{"HTTP 404",
		"the node has no RAM role, or not the one that was asked for",
		"attach a RAM role to the cluster's nodes, or {own}"},
	{"HTTP 403",
		"the metadata service does not give the node's role to {here}",
		"check what the cluster puts between {places} and {host}, or {rrsa}"},
	{identity.CodeMetadataDisabled,
		"the environment forbids {program} to ask for the node's role",
		"{disabled}"},
}

// kmsAdvice is about GetSecretValue; the codes are from its API reference and the gateway's.
var kmsAdvice = []advice{
	{"Forbidden.ResourceNotFound",
		"{host} has no secret {secret}, or not in that version",
		"check the name (capitals count), the version or stage, and the region{optional}"},
	{"Forbidden.KeyNotFound",
		"the key that encrypts {secret} does not exist any more",
		"restore the key in KMS, or write the secret anew under another"},
	{"Forbidden*",
		"{role} may not read {secret}",
		"a policy of {role} must allow kms:GetSecretValue on {resource}, and kms:Decrypt on the key that encrypts it " +
			"(acs:kms:*:*:key/<id>), since that is a right on keys; if it has a condition on kms:tag/…, the secret's tags must satisfy it"},
	{"Rejected.Disabled",
		"the key that encrypts {secret} is disabled, or the KMS instance is",
		"enable it in the KMS console"},
	{"InvalidAccessKeyId*",
		"KMS does not know the access key of {role}: it has been deleted or disabled",
		"{newKeyOfKMS}"},
	{"InvalidSecurityToken*",
		"KMS does not accept the session that STS gave to {role}, twice",
		"check the node's clock, and that the role's sessions were not revoked"},
	{"InvalidTimeStamp*",
		"the clock of the node differs from that of KMS by more than 15 minutes",
		"set the node's clock"},
	{"Signature*",
		"KMS computes another signature for the request to {host}; something in between changes it",
		"check for a proxy that rewrites requests, and that the endpoint is the name that KMS answers to; " +
			"{onePairOfKMS}"},
	{"ServiceUnavailable*, InternalFailure*, Rejected.Unavailable", "KMS is out of order", sitOut + "KMS"},
	{"Throttling*, Rejected.Throttling", "KMS is asked too often in this account and region", "nothing for a while: {again}"},
}
