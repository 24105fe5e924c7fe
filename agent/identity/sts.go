package identity

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// sessionDuration is the lifetime asked of STS if nothing else is said: the longest that a role allows unless its owner raised the
// limit, and the longest of a session that was got with another one.
const sessionDuration = time.Hour

// longestSession is the longest that any role's owner can allow.
const longestSession = 12 * time.Hour

// STS says where to get sessions, and of which kind.
type STS struct {
	SessionName string // in ActionTrail, see SessionName; empty: kms-agent
	Policy      string // narrows the sessions to what the role and it both allow, see agentconfig.Config.SessionPolicies; empty: not narrowed

	Duration time.Duration // of the sessions; 0: an hour, which is also the most that a second role's have

	Endpoint string // host[:port], always over TLS; empty: by Region and VPC
	Region   string
	VPC      bool // ask STS inside the VPC; needs Region

	openapi.Settings // Timeout 0: 8s; CAFile may always come later
}

// STSFromEnv reads the variables that the webhook sets in the agent's containers.
func STSFromEnv(getenv func(string) string) STS {
	return STS{
		Endpoint: getenv(config.STSEndpointEnv),
		Region:   getenv(config.STSRegionEnv),
		VPC:      strings.EqualFold(getenv(config.VPCEndpointEnv), "true"),
	}
}

// host returns the STS host to call.
func (s STS) host() string {
	if s.Endpoint != "" {
		return s.Endpoint
	}
	region := s.Region
	if region == "cn-hangzhou-finance" { // has no STS of its own
		region = "cn-hangzhou"
	}
	switch {
	case region == "":
		return "sts.aliyuncs.com"
	case s.VPC:
		return "sts-vpc." + region + ".aliyuncs.com"
	default:
		return "sts." + region + ".aliyuncs.com"
	}
}

// fingerprint hashes all parameters on which a session depends.
func (s STS) fingerprint(parts ...string) string {
	return fingerprint(append(parts, s.host(), s.SessionName, s.Policy, s.Duration.String())...)
}

// client checks the settings, fills in what is missing, and returns an HTTP client of their own.
func (s *STS) client() (*openapi.Client, error) {
	if strings.ContainsAny(s.Endpoint, "/?#@ ") {
		return nil, fmt.Errorf("%s is %q: it must be a host name, with a port or without, and no scheme", config.STSEndpointEnv, s.Endpoint)
	}
	s.SessionName, s.Duration = cmp.Or(s.SessionName, SessionName()), cmp.Or(s.Duration, sessionDuration)
	s.CALate, s.Timeout = true, cmp.Or(s.Timeout, 8*time.Second)
	return openapi.New(s.Settings)
}

// assumeRole gets a session of a role with other credentials, whose owner is the caller.
func (s STS) assumeRole(ctx context.Context, client *openapi.Client, with Credentials, caller, role string) (Credentials, error) {
	about := Error{Action: AssumeRole, Host: s.host(), RoleARN: role, Caller: caller}
	return s.exchange(ctx, client, &with.Credentials, about, map[string]string{}, with.AccessKeySecret, with.SecurityToken)
}

// exchange asks STS once, for a session that expires by this machine's clock: STS's may differ. No secret of the request and
// nothing of an answer that is not one of STS gets into an error.
func (s STS) exchange(
	ctx context.Context, client *openapi.Client, creds *openapi.Credentials, about Error, form map[string]string, secrets ...string,
) (Credentials, error) {
	form["RoleArn"], form["RoleSessionName"], form["Policy"] = about.RoleARN, s.SessionName, s.Policy
	form["DurationSeconds"] = strconv.Itoa(int(s.Duration / time.Second))
	start := time.Now()
	defer client.CloseIdleConnections() // the next exchange is most of an hour away
	answer, err := client.Call(ctx, creds, openapi.Action{Host: s.host(), Version: "2015-04-01", Name: string(about.Action), Form: form})
	if _, cut := errors.AsType[*openapi.BodyError](err); cut {
		err = errNotSTS
	}
	switch {
	case err != nil:
		about.Err = err
		return Credentials{}, &about
	case answer.Status != http.StatusOK:
		return Credentials{}, about.refused(answer, answer.Refusal().Safe(secrets...))
	}
	var doc struct {
		Credentials struct {
			openapi.Credentials
			Expiration string
		}
	}
	given := &doc.Credentials
	if json.Unmarshal(answer.Body, &doc) != nil ||
		given.AccessKeyID == "" || given.AccessKeySecret == "" || given.SecurityToken == "" || given.Expiration == "" {
		about.Err = errNotSTS
		return Credentials{}, &about
	}
	return Credentials{given.Credentials, start.Add(s.Duration)}, nil
}

// RRSA is the identity of a ServiceAccount: which role to assume, and where.
type RRSA struct {
	RoleARN     string                                    // acs:ram::<uid>:role/<name>
	ProviderARN string                                    // acs:ram::<uid>:oidc-provider/ack-rrsa-<clusterID>
	Token       func(ctx context.Context) (string, error) // the ServiceAccount's token; called for every exchange
	STS
}

// TokenFile returns a Token of RRSA that reads a projected token, which the kubelet rotates. Its errors are a *TokenError.
func TokenFile(path string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) {
		raw, err := os.ReadFile(path)
		if err != nil {
			return "", &TokenError{Path: path, Err: err}
		}
		token := strings.TrimSpace(string(raw)) // a hand-made file may end in a newline
		if token == "" {
			return "", &TokenError{Path: path, Err: errors.New("the file is empty")}
		}
		return token, nil
	}
}

// NewRRSA returns the Provider for cfg.
func NewRRSA(cfg RRSA) (Provider, error) {
	client, err := cfg.client()
	if err != nil {
		return Provider{}, err
	}
	return Provider{
		ID: cfg.fingerprint("rrsa", cfg.RoleARN, cfg.ProviderARN),
		Get: func(ctx context.Context) (Credentials, error) {
			token, err := cfg.Token(ctx)
			if err != nil {
				return Credentials{}, err
			}
			claims := parseClaims(token)
			about := Error{
				Action: AssumeRoleWithOIDC, Host: cfg.host(), RoleARN: cfg.RoleARN, ProviderARN: cfg.ProviderARN,
				Issuer: claims.Issuer, Subject: claims.Subject, Audience: claims.Audience,
			}
			return cfg.exchange(ctx, client, nil, about, map[string]string{"OIDCProviderArn": cfg.ProviderARN, "OIDCToken": token}, token)
		},
	}, nil
}

// AccessKey is that of a RAM user, and the role to assume with it. Without a role the key itself signs, until it is
// deleted.
type AccessKey struct {
	ID      string
	Secret  string
	RoleARN string // optional
	STS            // unused without a role
}

// String hides the secret part from every %v.
func (k AccessKey) String() string { return "access key " + mask(k.ID) }

// GoString hides the secret part from %#v.
func (k AccessKey) GoString() string { return k.String() }

// mask keeps of an access key's ID what its owner recognizes it by.
func mask(id string) string {
	if len(id) < 12 {
		return "…"
	}
	return id[:4] + "…" + id[len(id)-4:]
}

// NewAccessKey returns the Provider for the key, or for the role that the key assumes.
func NewAccessKey(cfg AccessKey) (Provider, error) {
	client, err := cfg.client()
	if err != nil {
		return Provider{}, err
	}
	key := Credentials{Credentials: openapi.Credentials{AccessKeyID: cfg.ID, AccessKeySecret: cfg.Secret}}
	if cfg.RoleARN == "" {
		return Provider{ID: fingerprint("access-key", cfg.ID), Get: func(context.Context) (Credentials, error) { return key, nil }}, nil
	}
	return Provider{
		ID: cfg.fingerprint("access-key", cfg.ID, cfg.RoleARN),
		Get: func(ctx context.Context) (Credentials, error) {
			return cfg.assumeRole(ctx, client, key, cfg.String(), cfg.RoleARN)
		},
	}, nil
}

// maxSessionName is the longest RoleSessionName that STS takes; the shortest has two characters, and all are of
// [A-Za-z0-9.@_-].
const maxSessionName = 64

// SessionName makes a RoleSessionName of the names that lead to a pod, such as namespace, ServiceAccount and pod:
// that is how its calls are found in ActionTrail. A name that is too long is cut and ends in a hash of the whole.
func SessionName(names ...string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune(".@_-", r):
			return r
		}
		return '-'
	}, strings.Trim(strings.Join(names, "."), "."))
	switch {
	case len(name) < 2:
		return "kms-agent"
	case len(name) > maxSessionName:
		sum := sha256.Sum256([]byte(name))
		return name[:maxSessionName-9] + "-" + hex.EncodeToString(sum[:4])
	}
	return name
}

// claims are the claims of a ServiceAccount token. They are read without verification, to explain a
// refusal; STS verifies.
type claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
}

// audience is a string or a list of them.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// parseClaims returns what it can read; a token that is no JWT has no claims.
func parseClaims(token string) (c claims) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return claims{}
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(payload, &c) != nil {
		return claims{}
	}
	return c
}
