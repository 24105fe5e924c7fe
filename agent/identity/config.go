package identity

import (
	"errors"
	"fmt"
)

// The environment variables of RRSA, as ack-pod-identity-webhook and the SDKs name them.
const (
	envRoleARN     = "ALIBABA_CLOUD_ROLE_ARN"
	envProviderARN = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN"
	envTokenFile   = "ALIBABA_CLOUD_OIDC_TOKEN_FILE"
)

// Config is RRSA's: which role to assume, as which ServiceAccount, and where.
type Config struct {
	RoleARN     string // acs:ram::<uid>:role/<name>
	ProviderARN string // acs:ram::<uid>:oidc-provider/ack-rrsa-<clusterID>
	TokenFile   string // projected ServiceAccount token; read again for every exchange, because the kubelet rotates it
	STS
}

// FromEnv reads the variables that the webhook sets in the agent's containers.
func FromEnv(getenv func(string) string) Config {
	return Config{
		RoleARN:     getenv(envRoleARN),
		ProviderARN: getenv(envProviderARN),
		TokenFile:   getenv(envTokenFile),
		STS:         STSFromEnv(getenv),
	}
}

func (c *Config) check() error {
	var errs []error
	for _, need := range []struct{ value, env string }{
		{c.RoleARN, envRoleARN}, {c.ProviderARN, envProviderARN}, {c.TokenFile, envTokenFile},
	} {
		if need.value == "" {
			errs = append(errs, fmt.Errorf("%s is not set: the webhook sets it in the agent's containers", need.env))
		}
	}
	return errors.Join(append(errs, c.STS.check())...)
}
