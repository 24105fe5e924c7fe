package failure

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
)

// Every entry of the catalogue is reached by its code, and nothing is left to fill in.
func TestCatalogue(t *testing.T) {
	a := Adviser{Role: "ROLE", Host: "HOST"}
	for _, entry := range each(append(stsAdvice, kmsAdvice...)) {
		code := strings.Replace(entry.codes, "*", ".Suffix", 1)
		sts := a.Explain(&identity.Error{RoleARN: "ROLE", ProviderARN: "PROVIDER", Code: code})
		gateway := a.Explain(fmt.Errorf("file f: %w", &kms.Error{Ref: kms.Ref{Name: "SECRET"}, Code: code}))
		begin, _, _ := strings.Cut(entry.cure, "{")
		if !strings.Contains(sts+gateway, begin) {
			t.Errorf("%s: not advised:\n%s\n%s", entry.codes, sts, gateway)
		}
		for _, text := range []string{sts, gateway} {
			if strings.ContainsAny(strings.ReplaceAll(text, `{"`, ""), "{") {
				t.Errorf("%s: something is not filled in:\n%s", entry.codes, text)
			}
		}
	}
}

func TestCatalogueOfOtherIdentities(t *testing.T) {
	for action, catalogue := range map[identity.Action][]advice{identity.AssumeRole: chainAdvice, identity.GetNodeRole: nodeAdvice} {
		for _, entry := range each(catalogue) {
			code := strings.Replace(entry.codes, "*", ".Suffix", 1)
			text := Adviser{}.Explain(&identity.Error{Action: action, Host: "HOST", RoleARN: "ROLE", Caller: "CALLER", Code: code})
			begin, _, _ := strings.Cut(entry.cure, "{")
			if !strings.Contains(text, begin) || strings.Contains(text, "{") {
				t.Errorf("%s %s: not advised, or not filled in:\n%s", action, entry.codes, text)
			}
		}
	}
}

// What kms-sync says is not about pods, agents and annotations.
func TestWordsOfSync(t *testing.T) {
	a := Adviser{Role: "ROLE", Host: "HOST", Sync: true}
	errs := []error{
		&identity.TokenError{Path: "PATH", Err: fs.ErrNotExist}, &identity.TokenError{Path: "PATH", Err: fs.ErrPermission},
		&kms.KeyError{File: "FILE", Err: kms.ErrPassword}, &kms.KeyError{File: "FILE", Err: errors.New("no JSON")},
		&kms.Error{Err: &tls.CertificateVerificationError{Err: errors.New("unknown authority")}}, &kms.Error{Err: errors.New("no such host")},
		&identity.Error{Action: identity.GetNodeRole, Err: errors.New("no connection")}, &kms.Error{Err: os.ErrDeadlineExceeded},
	}
	for action, catalogue := range map[identity.Action][]advice{
		identity.AssumeRoleWithOIDC: stsAdvice, identity.AssumeRole: chainAdvice, identity.GetNodeRole: nodeAdvice,
	} {
		for _, entry := range each(catalogue) {
			errs = append(errs, &identity.Error{Action: action, RoleARN: "ROLE", Code: strings.TrimSuffix(entry.codes, "*")})
		}
	}
	for _, entry := range each(kmsAdvice) {
		errs = append(errs, &kms.Error{Ref: kms.Ref{Name: "SECRET"}, Code: strings.TrimSuffix(entry.codes, "*")})
	}
	foreign := regexp.MustCompile(`\b(agent|files|annotation identity|rrsa|webhook|kubelet|optional)\b|(^|[^'][^s] )\bpods?( |$|[,.;])`)
	for _, err := range errs {
		cause, cure := a.Advise(err)
		text := strings.ReplaceAll(cause+"\n"+cure, `{"`, "")
		if cause == "" || cure == "" || strings.Contains(text, "{") || foreign.MatchString(text) {
			t.Errorf("%v:\n%s", err, text)
		}
	}
}

func TestErrorsWithoutACode(t *testing.T) {
	a := Adviser{Host: "kms.example"}
	for _, test := range []struct {
		err  error
		want string
	}{
		{&identity.Error{Host: "sts.example", Err: errors.New("no such host")}, "check that pods reach sts.example on port 443"},
		{&kms.Error{Status: 502, Err: errors.New("not KMS")}, "check that pods reach kms.example on port 443"},
		{&kms.Error{Err: &openapi.SilenceError{Host: "kms.example", Limit: 10 * time.Second}}, "restarting pods does not help"},
		{&identity.Error{Host: "sts.example", Err: &openapi.SilenceError{Host: "sts.example"}}, "the status page of STS"},
		{&RenderError{Annotation: "secret.pw", Err: errors.New("path is not in the secret")},
			"correct the keys, format or template in secret.pw"},
		{&identity.TokenError{Path: "/token", Err: fs.ErrPermission}, "fsGroup"},
		{&identity.Error{Action: identity.AssumeRole, Host: "sts.example", Err: errors.New("no such host")},
			"check that pods reach sts.example on port 443"},
		{&identity.Error{Action: identity.GetNodeRole, Host: "metadata.example", Err: errors.New("no route")},
			"reach metadata.example on port 80"},
		{&kms.KeyError{File: "/key", Err: kms.ErrPassword}, "must belong to the same client key"},
		{&kms.KeyError{File: "/key", Err: fmt.Errorf("%w on 2026-01-02", kms.ErrExpired)}, "create another client key"},
		{&kms.KeyError{File: "/key", Err: fs.ErrNotExist}, "it needs two keys: clientKey"},
		{&kms.Error{Code: "Never.Heard", Message: "of"}, "get secret : Never.Heard"},
		{fmt.Errorf("remember the secrets: %w", &fs.PathError{Op: "write", Path: "/state", Err: syscall.ENOSPC}), "agent.volumeSize"},
		{errors.New("anything else"), "anything else"},
	} {
		if text := a.Explain(test.err); !strings.Contains(text, test.want) {
			t.Errorf("%q is not in %q", test.want, text)
		}
	}
}

// The authority of a host is named where the reader of the message can change it.
func TestCertificateThatIsNotTrusted(t *testing.T) {
	untrusted := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	for _, c := range []struct {
		from *Authorities
		err  error
		want string
	}{
		{nil, untrusted, "SSL_CERT_FILE"},
		{&Authorities{Namespace: "shop"}, untrusted, "sts.caConfigMap, or sts.caFile"},
		{&Authorities{Namespace: "shop", KMS: "other/pem", STS: "bundle/ca.crt"}, untrusted,
			"nor by one in the ConfigMap bundle of the namespace shop, under ca.crt"},
		{&Authorities{Namespace: "shop", STS: "bundle/ca.crt"}, &openapi.CAError{CA: fs.ErrNotExist, Err: untrusted},
			"sts.caConfigMap of the webhook's configuration names, does not exist, or has no key ca.crt"},
		{&Authorities{Namespace: "shop", STS: "bundle/ca.crt"}, &openapi.CAError{CA: errors.New("no PEM"), Err: untrusted},
			"has no PEM certificate under ca.crt"},
	} {
		text := Adviser{Authorities: c.from}.Explain(&identity.Error{Action: identity.AssumeRoleWithOIDC, Host: "sts.example", Err: c.err})
		if !strings.Contains(text, c.want) {
			t.Errorf("%q is not in %q", c.want, text)
		}
	}
}

func TestSecretOfAnotherAccountIsNamedAsItIs(t *testing.T) {
	const arn = "acs:kms:cn-hangzhou:1:secret/app/db"
	text := Adviser{}.Explain(&kms.Error{Ref: kms.Ref{Name: arn}, Code: "Forbidden.NoPermission"})
	if !strings.Contains(text, "on "+arn+",") {
		t.Error(text)
	}
}

func TestSecretOfASecondRoleIsThatRolesAffair(t *testing.T) {
	const second = "acs:ram::2:role/reader"
	text := Adviser{Role: "acs:ram::1:role/app"}.Explain(&kms.Error{Ref: kms.Ref{Name: "app/db", RoleARN: second},
		Code: "Forbidden.NoPermission"})
	if !strings.Contains(text, second+" may not read") || strings.Contains(text, "role/app") {
		t.Error(text)
	}
}

func TestWhoMayNotReadIsNamedInEveryIdentitysWords(t *testing.T) {
	for _, role := range []string{"acs:ram::1:role/app", "the node's role", "the access key's RAM user",
		"the client key's application access point"} {
		text := Adviser{Role: role}.Explain(&kms.Error{Ref: kms.Ref{Name: "app/db"}, Code: "Forbidden.NoPermission"})
		if !strings.Contains(text, "why: "+role+" may not read app/db") || !strings.Contains(text, "a policy of "+role+" must allow") {
			t.Error(text)
		}
	}
}

// Each error is taken for the link of the chain that it is about, and stays that in a container's last words.
func TestProblems(t *testing.T) {
	const role = "acs:ram::1234567890123456:role/shop"
	sts := func(code, message string) error {
		return &identity.Error{Action: identity.AssumeRoleWithOIDC, RoleARN: role, Host: "sts-vpc.cn-hangzhou.aliyuncs.com", Code: code,
			Message: message, RequestID: "R"}
	}
	for name, c := range map[string]struct {
		err    error
		link   status.Link
		secret string
	}{
		"trust policy": {sts("AuthenticationFail.NoPermission", "There is no permission"), status.STS, ""},
		"no provider":  {sts("AuthenticationFail.NoPermission", "No such OIDC Provider registered."), status.Provider, ""},
		"no role":      {sts("EntityNotExist.Role", "The specified role does not exist."), status.STS, ""},
		"issuer": {sts("AuthenticationFail.OIDCToken.IssuerNotMatch",
			"The issuer in the OIDC Token doesn't match the OIDC Provider registered."), status.Provider, ""},
		"keys":     {sts("AuthenticationFail.OIDCToken.IssuerConfigurationBroken", "Get public keys failed."), status.Provider, ""},
		"audience": {sts("AuthenticationFail.OIDCToken.AudienceNotMatch", "Invalid audience."), status.Token, ""},
		"expired":  {sts("AuthenticationFail.OIDCToken.Expired", "This JsonWebToken is expired."), status.Token, ""},
		"STS unreachable": {&identity.Error{Action: identity.AssumeRoleWithOIDC, RoleARN: role, Host: "sts.example:443",
			Err: errors.New("dial tcp: connection refused")}, status.STS, ""},
		"second role": {&identity.Error{Action: identity.AssumeRole, RoleARN: role, Caller: "acs:ram::1:role/a", Host: "sts.example",
			Code: "NoPermission", Message: "no"}, status.STS, ""},
		"token missing": {&identity.TokenError{Path: "/var/run/token", Err: fs.ErrNotExist}, status.Token, ""},
		"secret absent": {fmt.Errorf("file db: %w",
			&kms.Error{Ref: kms.Ref{Name: "shop/prod/db"}, Code: "Forbidden.ResourceNotFound", Status: 404, RequestID: "R"}), status.KMS,
			"shop/prod/db"},
		"another account's": {&kms.Error{Ref: kms.Ref{Name: "acs:kms:cn-hangzhou:1:secret/a/b"}, Code: "Forbidden.NoPermission", Status: 403},
			status.KMS, "acs:kms:cn-hangzhou:1:secret/a/b"},
		"KMS unreachable": {&kms.Error{Ref: kms.Ref{Name: "app/key"}, Err: errors.New("dial tcp 10.0.0.1:443: i/o timeout")}, status.KMS,
			"app/key"},
		"the volume": {errors.New("write db: no space left on device"), status.Files, ""},
	} {
		all := Adviser{}.Problems(errors.Join(errors.New("no secrets within 1m0s"), c.err))
		if len(all) != 2 || all[1].Link != c.link || all[1].Secret != c.secret || all[1].Says != c.err.Error() {
			t.Errorf("%s: %+v, want %s %s", name, all, c.link, c.secret)
		}
		said := status.ReadText(status.Text(all))
		for i := range all {
			all[i].Code = "" // the text has it in Says
		}
		if !slices.Equal(said, all) {
			t.Errorf("%s: %+v was read as %+v", name, all, said)
		}
	}
}
