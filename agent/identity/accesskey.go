package identity

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aliyun/credentials-go/credentials/providers"
)

// The environment variables of an access key, as the SDKs name them; the webhook sets them from the keys id, secret,
// rolearn and rolesessionname of a Secret.
const (
	envAccessKeyID     = "ALIBABA_CLOUD_ACCESS_KEY_ID"
	envAccessKeySecret = "ALIBABA_CLOUD_ACCESS_KEY_SECRET"
	envSessionName     = "ALIBABA_CLOUD_ROLE_SESSION_NAME"
)

// AccessKey is that of a RAM user, and the role to assume with it. Without a role the key itself signs, for as long as
// nobody deletes it.
type AccessKey struct {
	ID      string
	Secret  string
	RoleARN string // optional
	STS            // unused without a role
}

// AccessKeyFromEnv reads the variables that the webhook sets in the agent's containers.
func AccessKeyFromEnv(getenv func(string) string) AccessKey {
	key := AccessKey{
		// What comes from a Secret often ends in the newline of an editor or of echo.
		ID:      strings.TrimSpace(getenv(envAccessKeyID)),
		Secret:  strings.TrimSpace(getenv(envAccessKeySecret)),
		RoleARN: strings.TrimSpace(getenv(envRoleARN)),
		STS:     STSFromEnv(getenv),
	}
	key.SessionName = strings.TrimSpace(getenv(envSessionName))
	return key
}

// String hides the secret part from every %v.
func (k AccessKey) String() string { return "access key " + mask(k.ID) }

// GoString hides the secret part from %#v.
func (k AccessKey) GoString() string { return k.String() }

// mask leaves of an access key's ID what its owner recognizes it by.
func mask(id string) string {
	if len(id) < 12 {
		return "…"
	}
	return id[:4] + "…" + id[len(id)-4:]
}

// NewAccessKey returns a Source for the key, or for the role that the key assumes. Like New, it sets what the SDK trusts.
func NewAccessKey(cfg AccessKey) (*Source, error) {
	var errs []error
	for _, need := range []struct{ value, env, key string }{
		{cfg.ID, envAccessKeyID, "id"}, {cfg.Secret, envAccessKeySecret, "secret"},
	} {
		if need.value == "" {
			errs = append(errs, fmt.Errorf("%s is empty: it is set from the key %s of the Secret that the annotation identity names", need.env, need.key))
		}
	}
	if err := errors.Join(append(errs, cfg.STS.check())...); err != nil {
		return nil, err
	}
	if err := trust(cfg.Roots); err != nil {
		return nil, err
	}
	key := Credentials{AccessKeyID: cfg.ID, AccessKeySecret: cfg.Secret}
	if cfg.RoleARN == "" {
		return &Source{assume: func() (Credentials, error) { return key, nil }, identity: fingerprint("access-key", cfg.ID)}, nil
	}
	return &Source{
		assume:   func() (Credentials, error) { return cfg.STS.assumeRole(key, cfg.String(), cfg.RoleARN) },
		identity: cfg.fingerprint("access-key", cfg.ID, cfg.RoleARN),
	}, nil
}

// assumeRole gets a session of a role with other credentials, whose owner is the caller.
func (s *STS) assumeRole(with Credentials, caller, role string) (Credentials, error) {
	about := Error{Action: AssumeRole, Host: s.host(), RoleARN: role, Caller: caller}
	secrets := []string{with.AccessKeySecret, with.SecurityToken}
	return s.exchange(about, secrets, func() (providers.CredentialsProvider, error) {
		return providers.NewRAMRoleARNCredentialsProviderBuilder().
			WithAccessKeyId(with.AccessKeyID).
			WithAccessKeySecret(with.AccessKeySecret).
			WithSecurityToken(with.SecurityToken).
			WithRoleArn(role).
			WithRoleSessionName(s.SessionName).
			WithDurationSeconds(int(s.Duration / time.Second)).
			WithPolicy(s.Policy).
			WithStsEndpoint(s.host()).
			WithHttpOptions(s.httpOptions()).
			Build()
	})
}
