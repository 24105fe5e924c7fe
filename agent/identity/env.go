package identity

import (
	"errors"
	"fmt"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Open returns the Provider of an identity, with what the webhook put into the environment of the agent's containers.
func Open(kind config.IdentityKind, getenv func(string) string, sts STS) (Provider, error) {
	// What comes from a Secret often ends in the newline of an editor or of echo.
	secret := func(name string) string { return strings.TrimSpace(getenv(name)) }
	switch kind {
	case config.RRSA:
		err := need(getenv, "%s is not set: the webhook sets it in the agent's containers%s", [][2]string{
			{config.RoleARNEnv}, {config.OIDCProviderARNEnv}, {config.OIDCTokenFileEnv},
		})
		provider, mistake := NewRRSA(RRSA{
			RoleARN: getenv(config.RoleARNEnv), ProviderARN: getenv(config.OIDCProviderARNEnv),
			Token: TokenFile(getenv(config.OIDCTokenFileEnv)), STS: sts,
		})
		return provider, errors.Join(err, mistake)
	case config.AccessKey:
		err := need(secret, "%s is empty: it is set from the key %s of the Secret that the annotation identity names", [][2]string{
			{config.AccessKeyIDEnv, config.AccessKeyID}, {config.AccessKeySecretEnv, config.AccessKeySecret},
		})
		if name := secret(config.AccessKeySessionNameEnv); name != "" {
			sts.SessionName = name
		}
		provider, mistake := NewAccessKey(AccessKey{
			ID: secret(config.AccessKeyIDEnv), Secret: secret(config.AccessKeySecretEnv), RoleARN: secret(config.AccessKeyRoleEnv),
			STS: sts,
		})
		return provider, errors.Join(err, mistake)
	case config.NodeRole:
		return NewNodeRole(NodeRole{Name: getenv(config.NodeRoleEnv)}), nil
	}
	return Provider{}, fmt.Errorf("identity %q: want rrsa, access-key or node-role", kind)
}

// need returns an error for each variable that is empty; the format takes its name and where it comes from.
func need(getenv func(string) string, format string, variables [][2]string) error {
	var errs []error
	for _, v := range variables {
		if getenv(v[0]) == "" {
			errs = append(errs, fmt.Errorf(format, v[0], v[1]))
		}
	}
	return errors.Join(errs...)
}
