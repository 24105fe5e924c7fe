package agent

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// advice is one entry of the catalogue: why a refusal happens, and what to do about it. In both, {role}, {provider},
// {subject}, {issuer}, {audience}, {trust}, {secret}, {resource} and {host} are filled in from the refusal.
type advice struct {
	code  string // exact, or the beginning if it ends in *
	cause string
	cure  string
}

// stsAdvice is about AssumeRoleWithOIDC; the codes are from its API reference. The first match counts.
var stsAdvice = []advice{
	{"AuthenticationFail.NoPermission",
		"the trust policy of {role} does not let this pod in, or the OIDC provider {provider} does not exist",
		"the trust policy must allow oidc:sub {subject}, oidc:iss {issuer}, oidc:aud {audience}; this statement does: {trust}. " +
			"Or give the pod a ServiceAccount that the role trusts, or the ServiceAccount another role"},
	{"AuthenticationFail.OIDCToken.Expired",
		"the pod's ServiceAccount token has expired; the kubelet renews it, unless the node's clock is wrong",
		"check the clock and the kubelet of the node, then delete the pod"},
	{"AuthenticationFail.OIDCToken.AudienceNotMatch",
		"the token is for the audience {audience}, which the OIDC provider {provider} does not list",
		"the audience of the volume rrsa-oidc-token and the provider's client ID must both be sts.aliyuncs.com"},
	{"AuthenticationFail.OIDCToken.IssuerNotMatch",
		"the token is issued by {issuer}, which is not the issuer of {provider}",
		"check that the operator's cluster ID is this cluster's, so that {provider} is this cluster's provider"},
	{"AuthenticationFail.OIDCToken*",
		"STS cannot verify the token of {subject} against the provider {provider}",
		"check that RRSA is enabled for this cluster, and that {provider} has the issuer {issuer} and its keys"},
	{"EntityNotExist.Role*",
		"the role {role} does not exist",
		"create it, or correct the annotation ack.alibabacloud.com/role-arn or pod-identity.alibabacloud.com/role-name of the ServiceAccount"},
	{"EntityNotExist*",
		"the role {role} or the OIDC provider {provider} does not exist",
		"check both names in RAM; the provider exists once RRSA is enabled for the cluster"},
	{"Throttling*",
		"STS is asked too often in this account",
		"nothing for a while: the agent tries again; if it persists, roll pods out more slowly"},
	{"InvalidParameter*",
		"STS does not accept a parameter; the role is {role}, the provider {provider}",
		"check both ARNs"},
}

// kmsAdvice is about GetSecretValue; the codes are from its API reference and the gateway's.
var kmsAdvice = []advice{
	{"Forbidden.ResourceNotFound",
		"{host} has no secret {secret}, or not in that version",
		"check the name (capitals count), the version or stage, and the region; or set optional: true if the pod can do without"},
	{"Forbidden.KeyNotFound",
		"the key that encrypts {secret} does not exist any more",
		"restore the key in KMS, or write the secret anew under another"},
	{"Forbidden*",
		"the role {role} may not read {secret}",
		"a policy of the role must allow kms:GetSecretValue and kms:Decrypt on {resource}; if it has a condition on kms:tag/…, the secret's tags must satisfy it"},
	{"Rejected.Disabled",
		"the key that encrypts {secret} is disabled, or the KMS instance is",
		"enable it in the KMS console"},
	{"InvalidSecurityToken*",
		"KMS does not accept the session that STS gave to {role}, twice",
		"check the node's clock, and that nobody has revoked the role's sessions"},
	{"InvalidTimeStamp*",
		"the clock of the node differs from that of KMS by more than 15 minutes",
		"set the node's clock"},
	{"Signature*",
		"KMS computes another signature for the request to {host}; something in between changes it",
		"check for a proxy that rewrites requests, and that the endpoint is the name that KMS answers to"},
	{"Throttling*", "KMS is asked too often in this account and region", "nothing for a while: the agent tries again"},
	{"Rejected.Throttling", "KMS is asked too often in this account and region", "nothing for a while: the agent tries again"},
}

// Explain says what failed, on what, why, and what to change, for all that is in err, a paragraph each. It holds no
// value of a secret, because no error of the agent does.
func (a *Agent) Explain(err error) string {
	var paragraphs []string
	for _, leaf := range leaves(err) {
		text := leaf.Error()
		if cause, cure := a.advise(leaf); cause != "" {
			text += "\n  why: " + cause + "\n  fix: " + cure
		}
		paragraphs = append(paragraphs, text)
	}
	return strings.Join(paragraphs, "\n")
}

func (a *Agent) advise(err error) (cause, cure string) {
	var sts *identity.Error
	var token *identity.TokenError
	var gateway *kms.Error
	switch {
	case errors.As(err, &sts):
		return find(stsAdvice, sts.Code, sts.Err, "STS", "sts.caBundle", strings.NewReplacer(
			"{role}", sts.RoleARN, "{provider}", sts.ProviderARN, "{host}", sts.Host, "{subject}", known(sts.Subject),
			"{issuer}", known(sts.Issuer), "{audience}", known(strings.Join(sts.Audience, ", ")), "{trust}", trustStatement(sts)))
	case errors.As(err, &token) && errors.Is(err, fs.ErrPermission):
		return "the agent's user may not read the token",
			"the pod's fsGroup or the agent's user must be able to read the volume rrsa-oidc-token"
	case errors.As(err, &token):
		return "the projected ServiceAccount token is not there",
			"the volume rrsa-oidc-token must be mounted in the agent's containers; the webhook does it, unless the pod brings its own"
	case errors.As(err, &gateway):
		return find(kmsAdvice, gateway.Code, gateway.Err, "KMS", "kms.caBundle", strings.NewReplacer(
			"{role}", a.role, "{secret}", gateway.Ref.String(), "{resource}", resource(gateway.Ref.Name), "{host}", a.doc.KMS.Host))
	}
	return "", ""
}

// find looks a code up; without one, the call failed on the way.
func find(catalogue []advice, code string, err error, service, bundle string, fill *strings.Replacer) (cause, cure string) {
	var certificate *tls.CertificateVerificationError
	switch {
	case errors.As(err, &certificate):
		return "the certificate of " + service + " is not signed by an authority that the agent trusts",
			"if " + service + " has a private CA, the operator adds it to the webhook's configuration (" + bundle + ")"
	case code == "" && err != nil:
		return service + " could not be reached, or something in between answered",
			fill.Replace("check that pods reach {host} on port 443: DNS, network policies, security groups, the VPC endpoint, a proxy")
	}
	for _, a := range catalogue {
		prefix, cut := strings.CutSuffix(a.code, "*")
		if code == a.code || cut && strings.HasPrefix(code, prefix) {
			return fill.Replace(a.cause), fill.Replace(a.cure)
		}
	}
	return "", ""
}

func known(claim string) string {
	if claim == "" {
		return "(the token does not say)"
	}
	return claim
}

// resource is a secret as a policy names it.
func resource(name string) string {
	if strings.HasPrefix(name, "acs:") {
		return name
	}
	return "acs:kms:*:*:secret/" + name
}

// trustStatement is the statement of a trust policy that lets this pod in.
func trustStatement(e *identity.Error) string {
	return fmt.Sprintf(`{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Federated":[%q]},"Condition":{"StringEquals":`+
		`{"oidc:aud":"sts.aliyuncs.com","oidc:iss":%q,"oidc:sub":%q}}}`, e.ProviderARN, e.Issuer, e.Subject)
}

// maxTermination is what the kubelet keeps of a termination message, in bytes.
const maxTermination = 4096

// TerminationMessage is text cut to what the kubelet keeps.
func TerminationMessage(text string) string {
	if len(text) <= maxTermination {
		return text
	}
	const more = "\n… (more in the container's log)"
	return strings.ToValidUTF8(text[:maxTermination-len(more)], "") + more
}
