package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// What the agent says of its errors is taken for the link that they are about: the errors are the agent's own.
func TestProblems(t *testing.T) {
	const role = "acs:ram::1234567890123456:role/shop"
	sts := func(code, message string) error {
		return &identity.Error{Action: identity.AssumeRoleWithOIDC, RoleARN: role, Host: "sts-vpc.cn-hangzhou.aliyuncs.com", Code: code, Message: message, RequestID: "R"}
	}
	for name, c := range map[string]struct {
		err          error
		link, secret string
	}{
		"trust policy":      {sts("AuthenticationFail.NoPermission", "There is no permission"), STS, ""},
		"no provider":       {sts("AuthenticationFail.NoPermission", "No such OIDC Provider registered."), Provider, ""},
		"no role":           {sts("EntityNotExist.Role", "The specified role does not exist."), STS, ""},
		"issuer":            {sts("AuthenticationFail.OIDCToken.IssuerNotMatch", "The issuer in the OIDC Token doesn't match the OIDC Provider registered."), Provider, ""},
		"keys":              {sts("AuthenticationFail.OIDCToken.IssuerConfigurationBroken", "Get public keys failed."), Provider, ""},
		"audience":          {sts("AuthenticationFail.OIDCToken.AudienceNotMatch", "Invalid audience."), Token, ""},
		"expired":           {sts("AuthenticationFail.OIDCToken.Expired", "This JsonWebToken is expired."), Token, ""},
		"STS unreachable":   {&identity.Error{Action: identity.AssumeRoleWithOIDC, RoleARN: role, Host: "sts.example:443", Err: errors.New("dial tcp: connection refused")}, STS, ""},
		"second role":       {&identity.Error{Action: identity.AssumeRole, RoleARN: role, Caller: "acs:ram::1:role/a", Host: "sts.example", Code: "NoPermission", Message: "no"}, STS, ""},
		"token missing":     {&identity.TokenError{Path: "/var/run/token", Err: fs.ErrNotExist}, Token, ""},
		"secret absent":     {fmt.Errorf("file db: %w", &kms.Error{Ref: kms.Ref{Name: "shop/prod/db"}, Code: "Forbidden.ResourceNotFound", Status: 404, RequestID: "R"}), KMS, "shop/prod/db"},
		"another account's": {&kms.Error{Ref: kms.Ref{Name: "acs:kms:cn-hangzhou:1:secret/a/b"}, Code: "Forbidden.NoPermission", Status: 403}, KMS, "acs:kms:cn-hangzhou:1:secret/a/b"},
		"KMS unreachable":   {&kms.Error{Ref: kms.Ref{Name: "app/key"}, Err: errors.New("dial tcp 10.0.0.1:443: i/o timeout")}, KMS, "app/key"},
		"the volume":        {errors.New("write db: no space left on device"), Files, ""},
	} {
		text := c.err.Error() + "\n  why: a reason: of some kind\n  fix: a cure"
		got := problems("no secrets within 1m0s\n" + text)
		if len(got) != 2 {
			t.Errorf("%s: %+v", name, got)
			continue
		}
		if p := got[1]; p.link != c.link || p.secret != c.secret || p.cure != "a cure" || !strings.HasPrefix(p.says, c.err.Error()) || !strings.HasSuffix(p.says, "\nwhy: a reason: of some kind") {
			t.Errorf("%s: %+v, want %s %s", name, p, c.link, c.secret)
		}
	}
}
