package failure

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
)

// An Adviser explains errors. Its fields fill in the advice.
type Adviser struct {
	Role        string       // the identity in words, mostly a role's ARN
	Host        string       // of KMS
	Authorities *Authorities // nil if the webhook did not inject the agent
	Sync        bool         // the program is kms-sync, not an agent in a pod
}

// Authorities are the ConfigMaps with the certificate authorities of KMS and STS, as <name>/<key>; "": none.
type Authorities struct{ Namespace, KMS, STS string }

// Explain returns a paragraph for each error in err: what failed, on what, why, and what to change. It holds no value of a secret, because
// no error of the agent does.
func (r Adviser) Explain(err error) string {
	var paragraphs []string
	for _, p := range r.Problems(err) {
		paragraphs = append(paragraphs, p.String())
	}
	return strings.Join(paragraphs, "\n")
}

// Problems returns the errors in err, one by one.
func (r Adviser) Problems(err error) []status.Problem {
	var problems []status.Problem
	for _, e := range Each(err) {
		p := status.Problem{Link: status.Files, Says: e.Error()}
		p.Cause, p.Cure = r.Advise(e)
		_, token := errors.AsType[*identity.TokenError](e)
		switch gateway, sts := of(e); {
		case token:
			p.Link = status.Token
		case sts != nil:
			p.Link, p.Code = linkOf(sts), sts.Code
		case gateway != nil:
			p.Link, p.Secret, p.Code = status.KMS, gateway.Ref.Name, gateway.Code
		}
		problems = append(problems, p)
	}
	return problems
}

// linkOf returns the link that a refusal of STS is about.
func linkOf(e *identity.Error) status.Link {
	const token = "AuthenticationFail.OIDCToken."
	switch {
	case e.Action != identity.AssumeRoleWithOIDC:
		return status.STS
	case e.Code == token+"AudienceNotMatch", e.Code == token+"Expired":
		return status.Token
	case strings.HasPrefix(e.Code, token):
		return status.Provider
	case e.Code != "AuthenticationFail.NoPermission":
		return status.STS
	case strings.Contains(e.Message, "OIDC Provider"), strings.Contains(e.Message, "OIDCProviderArn"): // STS has no code for it
		return status.Provider
	}
	return status.STS
}

// Advise returns the cause and the cure of one error; both are empty if they are not known.
func (r Adviser) Advise(err error) (cause, cure string) {
	cause, cure = r.advise(err)
	return r.words().Replace(cause), r.words().Replace(cure)
}

func (r Adviser) advise(err error) (cause, cure string) {
	gateway, sts := of(err)
	_, token := errors.AsType[*identity.TokenError](err)
	_, key := errors.AsType[*kms.KeyError](err)
	made, unmade := errors.AsType[*RenderError](err)
	switch {
	case sts != nil && sts.Action == identity.GetNodeRole && sts.Err != nil:
		return "the metadata service could not be reached, or something else answered in its place",
			"only ECS instances have one; check that network policies let {places} reach " + sts.Host + " on port 80, or {rrsa}"
	case sts != nil && sts.Action == identity.GetNodeRole:
		return r.find(nodeAdvice, sts.Code, nil, "", strings.NewReplacer("{host}", sts.Host))
	case sts != nil && sts.Action == identity.AssumeRole:
		return r.find(chainAdvice, sts.Code, sts.Err, "STS", strings.NewReplacer(
			"{role}", sts.RoleARN, "{caller}", sts.Caller, "{host}", sts.Host))
	case sts != nil:
		return r.find(stsAdvice, sts.Code, sts.Err, "STS", strings.NewReplacer(
			"{role}", sts.RoleARN, "{provider}", sts.ProviderARN, "{host}", sts.Host, "{subject}", known(sts.Subject),
			"{issuer}", known(sts.Issuer), "{audience}", known(strings.Join(sts.Audience, ", ")), "{trust}", trustStatement(sts)))
	case token && errors.Is(err, fs.ErrPermission):
		return "{program}'s user may not read the token",
			"{unreadable}"
	case token:
		return "the projected ServiceAccount token is missing",
			"{unmounted}"
	case errors.Is(err, kms.ErrPassword):
		return "{passwordOf} belongs to another client key",
			"{clientKey} must belong to the same client key"
	case errors.Is(err, kms.ErrExpired):
		return "client keys are valid for a limited time, and KMS cannot renew them",
			"create another client key of the same application access point in the KMS console, and put it and its password into the Secret"
	case key:
		return "{clientKeyIn} does not hold a client key",
			"{clientKeyForm}"
	case unmade:
		return "the secret's value does not fit the annotation " + made.Annotation,
			"correct the keys, format or template in " + made.Annotation + ", or the secret's value in KMS"
	case errors.Is(err, syscall.ENOSPC):
		return "the volume is full; its earlier files stay as they are",
			"have the administrator raise agent.volumeSize, the size of the volumes in memory, or ask for fewer files; " +
				"the volume of the agent's program is on the node's disk"
	case gateway != nil:
		return r.find(kmsAdvice, gateway.Code, gateway.Err, "KMS", strings.NewReplacer(
			"{role}", cmp.Or(gateway.Ref.RoleARN, r.Role), "{secret}", gateway.Ref.String(),
			"{resource}", resource(gateway.Ref.Name), "{host}", r.Host))
	}
	return "", ""
}

// find looks up a code; a call without one failed on the way.
func (r Adviser) find(catalogue []advice, code string, err error, service string, fill *strings.Replacer) (cause, cure string) {
	_, distrusted := errors.AsType[*tls.CertificateVerificationError](err)
	switch {
	case distrusted:
		return r.distrust(service, err)
	case code == "" && TimedOut(err):
		return service + " did not answer in time",
			fill.Replace("if it does not pass by itself, check the status page of " + service + " and the network path from " +
				"{places} to {host}; {still}")
	case code == "" && err != nil:
		return service + " could not be reached, or something on the way answered in its place",
			fill.Replace("check that {places} reach {host} on port 443: DNS, network policies, security groups, the VPC endpoint, a proxy")
	}
	for _, a := range catalogue {
		for known := range strings.SplitSeq(a.codes, ", ") {
			if prefix, cut := strings.CutSuffix(known, "*"); code == known || cut && strings.HasPrefix(code, prefix) {
				return fill.Replace(a.cause), fill.Replace(a.cure)
			}
		}
	}
	return "", ""
}

// distrust is about a certificate of STS or KMS that is not trusted.
func (r Adviser) distrust(service string, err error) (cause, cure string) {
	cause = "the certificate of " + service + " is not signed by a certificate authority that {program} trusts"
	if r.Sync {
		return cause, "if " + service + " has a private authority, a KMS instance's for example, name it: ca of dedicatedKMSAuth, or have the " +
			"administrator configure kms.caFile or sts.caFile"
	}
	if r.Authorities == nil {
		return cause, "if " + service + " has a private authority, name its PEM file in the environment variable SSL_CERT_FILE"
	}
	setting, from := "kms", r.Authorities.KMS
	if service == "STS" {
		setting, from = "sts", r.Authorities.STS
	}
	if from == "" {
		return cause, "if " + service + " has a private authority, the administrator names it in the webhook's configuration: " + setting +
			".caConfigMap, or " + setting + ".caFile"
	}
	name, key, _ := strings.Cut(from, "/")
	of := fmt.Sprintf("the ConfigMap %s of the namespace %s", name, r.Authorities.Namespace)
	cure = fmt.Sprintf("put the authority of %s, in PEM, into %s, under %s; the agent follows it", service, of, key)
	if unusable := new(openapi.CAError); errors.As(err, &unusable) {
		cause += ": " + of + ", which " + setting + ".caConfigMap of the webhook's configuration names, "
		if errors.Is(unusable.CA, fs.ErrNotExist) {
			return cause + "does not exist, or has no key " + key, cure
		}
		return cause + "has no PEM certificate under " + key, cure
	}
	return cause + fmt.Sprintf(", nor by one in %s, under %s", of, key), cure
}

func known(claim string) string {
	if claim == "" {
		return "(the token does not say)"
	}
	return claim
}

// resource returns a secret as a policy names it.
func resource(name string) string {
	if strings.HasPrefix(name, "acs:") {
		return name
	}
	return "acs:kms:*:*:secret/" + name
}

// trustStatement returns the statement that a trust policy needs for this ServiceAccount.
func trustStatement(e *identity.Error) string {
	return fmt.Sprintf(`{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Federated":[%q]},"Condition":{"StringEquals":`+
		`{"oidc:aud":"sts.aliyuncs.com","oidc:iss":%q,"oidc:sub":%q}}}`, e.ProviderARN, e.Issuer, e.Subject)
}
