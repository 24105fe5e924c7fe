package emulator

import (
	"context"
	"errors"
	"net/http"
	"regexp"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/oidc"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// Bounds of a token's length, from the API's documentation.
const (
	minTokenLength = 4
	maxTokenLength = 20000
)

var anyProviderARN = regexp.MustCompile(`^acs:ram::[0-9]+:oidc-provider/[A-Za-z0-9._-]+$`)

type assumeRoleWithOIDCAnswer struct {
	RequestID       string `json:"RequestId"`
	OIDCTokenInfo   oidcTokenInfo
	AssumedRoleUser assumedRoleUser
	Credentials     credentials
}

type oidcTokenInfo struct {
	Subject          string
	Issuer           string
	ClientIDs        string `json:"ClientIds"`
	IssuanceTime     string
	ExpirationTime   string
	VerificationInfo string
}

// assumeRoleWithOIDC gives a session of a role to the bearer of a token that the role trusts.
// Facts: API reference STS 2015-04-01 AssumeRoleWithOIDC; messages: ACK's page on RRSA.
func (e *Emulator) assumeRoleWithOIDC(ctx context.Context, c *call) (any, *problem) {
	if stamp := c.params.Get("Timestamp"); stamp != "" {
		if p := checkDate(stamp, c.now); p != nil {
			return nil, p
		}
	}
	narrowed, p := checkAssumeParameters(c)
	if p != nil {
		return nil, p
	}
	r, claims, p := e.trusting(ctx, c)
	if p != nil {
		return nil, p
	}
	s, p := e.giveSession(c, r, narrowed)
	if p != nil {
		return nil, p
	}
	return assumeRoleWithOIDCAnswer{
		RequestID: c.id,
		OIDCTokenInfo: oidcTokenInfo{
			Subject: claims.Subject, Issuer: claims.Issuer, ClientIDs: strings.Join(claims.Audience, ","),
			IssuanceTime: stamp(claims.IssuedAt), ExpirationTime: stamp(claims.Expiry), VerificationInfo: "Success",
		},
		AssumedRoleUser: r.as(s), Credentials: s.credentials(),
	}, nil
}

// trusting finds the role that the call asks for, if it trusts the call's token.
func (e *Emulator) trusting(ctx context.Context, c *call) (role, oidc.Claims, *problem) {
	providerARN := c.params.Get("OIDCProviderArn")
	provider, ok := e.ram.provider(providerARN)
	if !ok {
		return role{}, oidc.Claims{}, noOIDCProvider
	}
	claims, err := provider.Verify(ctx, c.params.Get("OIDCToken"), c.now)
	if err != nil {
		return role{}, oidc.Claims{}, refusedToken(err, provider)
	}
	r, ok := e.ram.role(c.params.Get("RoleArn"))
	if !ok {
		return role{}, oidc.Claims{}, noRole(c.params.Get("RoleArn"))
	}
	decision := policy.Decide([]policy.Document{r.trust}, policy.Request{
		Action:    "sts:AssumeRole",
		Federated: providerARN,
		Context: map[string][]string{
			"oidc:iss": {claims.Issuer}, "oidc:aud": claims.Audience, "oidc:sub": {claims.Subject},
		},
	})
	if decision != policy.Allow {
		return role{}, oidc.Claims{}, notTrusted(r, claims.Subject, decision)
	}
	return r, claims, nil
}

// checkAssumeParameters looks at the parameters alone, before anything is looked up.
func checkAssumeParameters(c *call) (narrowed *policy.Document, p *problem) {
	for _, name := range []string{"OIDCProviderArn", "RoleArn", "OIDCToken"} {
		if c.params.Get(name) == "" {
			return nil, missingSTSParameter(name)
		}
	}
	if narrowed, p = checkSessionParameters(c); p != nil {
		return nil, p
	}
	token := len(c.params.Get("OIDCToken"))
	switch {
	case !anyProviderARN.MatchString(c.params.Get("OIDCProviderArn")):
		return nil, badProviderARN
	case token < minTokenLength || token > maxTokenLength:
		return nil, invalidToken
	}
	return narrowed, nil
}

// refusedToken gives each way of refusing a token its code. The codes and messages are ACK's; the status of all is
// UNVERIFIED and taken from the sister operation AssumeRoleWithSAML, which documents 401.
func refusedToken(err error, provider oidc.Provider) *problem {
	const prefix = "AuthenticationFail.OIDCToken."
	switch {
	case errors.Is(err, oidc.ErrExpired):
		return problemf(http.StatusUnauthorized, prefix+"Expired", "This JsonWebToken is expired.")
	case errors.Is(err, oidc.ErrAudience):
		return problemf(http.StatusUnauthorized, prefix+"AudienceNotMatch", "Invalid audience.")
	case errors.Is(err, oidc.ErrIssuer):
		return problemf(http.StatusUnauthorized, prefix+"IssuerNotMatch",
			"The issuer in the OIDC Token doesn't match the OIDC Provider registered.")
	case errors.Is(err, oidc.ErrKeys):
		return problemf(http.StatusUnauthorized, prefix+"IssuerConfigurationBroken",
			"Get public keys from OIDC Provider failed, the issuer is %s.", provider.Issuer)
	default:
		return invalidToken
	}
}

var (
	// The code is known from the SDKs' tests, message and status are UNVERIFIED.
	invalidToken = problemf(http.StatusUnauthorized, "AuthenticationFail.OIDCToken.Invalid", "The OIDC Token is invalid.")
	// The status of the next two, and of notTrusted, is UNVERIFIED.
	noOIDCProvider = problemf(http.StatusForbidden, "AuthenticationFail.NoPermission", "No such OIDC Provider registered.")
	badProviderARN = problemf(http.StatusForbidden, "AuthenticationFail.NoPermission", "Parameter OIDCProviderArn is not valid")
)

func notTrusted(r role, subject string, decision policy.Decision) *problem {
	p := problemf(http.StatusForbidden, "AuthenticationFail.NoPermission", "There is no permission")
	p.denied = &accessDenied{
		AuthAction: "sts:AssumeRole", AuthPrincipalDisplayName: subject, AuthPrincipalOwnerID: r.Account,
		AuthPrincipalType: "OIDCUser", NoPermissionType: decision.String(), PolicyType: "AssumeRolePolicy",
	}
	return p
}

func noRole(arn string) *problem {
	return problemf(http.StatusNotFound, "EntityNotExist.Role", "The role not exists: %s. ", arn)
}

func missingSTSParameter(name string) *problem {
	return problemf(http.StatusBadRequest, "MissingParameter."+name, "Parameter %s is required.", name)
}

func badSTSParameter(name, message string) *problem {
	return problemf(http.StatusBadRequest, "InvalidParameter."+name, "%s", message)
}

type assumeRoleAnswer struct {
	RequestID       string `json:"RequestId"`
	AssumedRoleUser assumedRoleUser
	Credentials     credentials
}

// assumeRole gives a session of a role, of any account, to a RAM user or another role's session. Both sides must want it:
// the role's trust policy names the caller, and the caller's own policies allow sts:AssumeRole on the role.
// Facts: API reference STS 2015-04-01 AssumeRole.
func (e *Emulator) assumeRole(_ context.Context, c *call) (any, *problem) {
	if c.params.Get("RoleArn") == "" {
		return nil, missingSTSParameter("RoleArn")
	}
	narrowed, p := checkSessionParameters(c)
	if p != nil {
		return nil, p
	}
	r, ok := e.ram.role(c.params.Get("RoleArn"))
	if !ok {
		return nil, noRole(c.params.Get("RoleArn"))
	}
	const action = "sts:AssumeRole"
	if decision, kind := e.decide(c.caller, policy.Request{Action: action, Resource: r.arn}); decision != policy.Allow {
		return nil, notAuthorized(c.caller, action, decision, kind)
	}
	trusted := policy.Decide([]policy.Document{r.trust}, policy.Request{Action: action, RAM: c.caller.arns()})
	if trusted != policy.Allow {
		return nil, notAuthorized(c.caller, action, trusted, "AssumeRolePolicy")
	}
	s, p := e.giveSession(c, r, narrowed)
	if p != nil {
		return nil, p
	}
	return assumeRoleAnswer{RequestID: c.id, AssumedRoleUser: r.as(s), Credentials: s.credentials()}, nil
}

// notAuthorized is STS's refusal of what the caller may not do.
func notAuthorized(caller session, action string, decision policy.Decision, kind string) *problem {
	p := problemf(http.StatusForbidden, "NoPermission", "You are not authorized to do this action. You should be authorized by RAM.")
	p.denied = denial(caller, action, decision, kind)
	return p
}
