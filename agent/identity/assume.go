package identity

import (
	"errors"
	"os"
	"strings"
	"time"

	"github.com/aliyun/credentials-go/credentials/providers"
)

// assumeRole exchanges the pod's token for a session. Each exchange has a provider of its own, which makes the
// expiry ours to know: the SDK does not tell it.
func (c *Config) assumeRole() (creds Credentials, err error) {
	token, err := readToken(c.TokenFile)
	if err != nil {
		return Credentials{}, err
	}
	claims := parseClaims(token)
	about := Error{
		Action: AssumeRoleWithOIDC, Host: c.host(), RoleARN: c.RoleARN, ProviderARN: c.ProviderARN,
		Issuer: claims.Issuer, Subject: claims.Subject, Audience: claims.Audience,
	}
	return c.exchange(about, []string{token}, func() (providers.CredentialsProvider, error) {
		return providers.NewOIDCCredentialsProviderBuilder().
			WithRoleArn(c.RoleARN).
			WithOIDCProviderARN(c.ProviderARN).
			WithOIDCToken(token). // given here, it wins over a token in the environment
			WithRoleSessionName(c.SessionName).
			WithDurationSeconds(int(c.Duration / time.Second)).
			WithPolicy(c.Policy).
			WithSTSEndpoint(c.host()).
			WithHttpOptions(c.httpOptions()).
			Build()
	})
}

// exchange asks a provider of the SDK once. What fails is told of about; none of the secrets gets into it.
func (s *STS) exchange(about Error, secrets []string, build func() (providers.CredentialsProvider, error)) (creds Credentials, err error) {
	defer func() {
		// The SDK dereferences a missing Expiration.
		if r := recover(); r != nil {
			creds, err = Credentials{}, about.with(errors.New("incomplete answer"), secrets)
		}
	}()
	provider, err := build()
	if err != nil {
		return Credentials{}, about.with(err, secrets)
	}
	start := time.Now()
	got, err := provider.GetCredentials()
	if err != nil {
		return Credentials{}, about.with(err, secrets)
	}
	return Credentials{
		AccessKeyID:     got.AccessKeyId,
		AccessKeySecret: got.AccessKeySecret,
		SecurityToken:   got.SecurityToken,
		Expires:         start.Add(s.Duration),
	}, nil
}

// readToken reads the token without the newline that a hand-made file may end in.
func readToken(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", &TokenError{Path: path, Err: err}
	}
	token := strings.TrimSpace(string(raw))
	if token == "" {
		return "", &TokenError{Path: path, Err: errors.New("the file is empty")}
	}
	return token, nil
}
