package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/aliyun/credentials-go/credentials/providers"
)

// sdkFailure is how the SDK's error for an answer other than 200 begins; the answer's raw body follows.
const sdkFailure = "get session token failed: "

// assumeRole exchanges the pod's token for a session. Each exchange has a provider of its own, which makes the
// expiry ours to know: the SDK does not tell it.
func (c *Config) assumeRole() (creds Credentials, err error) {
	token, err := readToken(c.TokenFile)
	if err != nil {
		return Credentials{}, err
	}
	claims := parseClaims(token)
	fail := func(cause error) (Credentials, error) {
		return Credentials{}, c.failure(cause, token, claims)
	}
	defer func() {
		// The SDK dereferences a missing Expiration.
		if r := recover(); r != nil {
			creds, err = fail(errors.New("incomplete answer"))
		}
	}()

	provider, err := providers.NewOIDCCredentialsProviderBuilder().
		WithRoleArn(c.RoleARN).
		WithOIDCProviderARN(c.ProviderARN).
		WithOIDCToken(token). // given here, it wins over a token in the environment
		WithRoleSessionName(c.SessionName).
		WithDurationSeconds(int(sessionDuration / time.Second)).
		WithSTSEndpoint(c.host()).
		WithHttpOptions(&providers.HttpOptions{
			ConnectTimeout: int(c.ConnectTimeout / time.Millisecond),
			ReadTimeout:    int(c.Timeout / time.Millisecond),
		}).
		Build()
	if err != nil {
		return fail(err)
	}
	start := time.Now()
	got, err := provider.GetCredentials()
	if err != nil {
		return fail(err)
	}
	return Credentials{
		AccessKeyID:     got.AccessKeyId,
		AccessKeySecret: got.AccessKeySecret,
		SecurityToken:   got.SecurityToken,
		Expires:         start.Add(sessionDuration),
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

// failure makes a typed error of what the SDK returned. Nothing of an answer that is not an STS error document gets
// into it: a proxy's page or a half answer may hold anything.
func (c *Config) failure(cause error, token string, claims claims) *Error {
	e := &Error{
		Host: c.host(), RoleARN: c.RoleARN, ProviderARN: c.ProviderARN,
		Issuer: claims.Issuer, Subject: claims.Subject, Audience: claims.Audience,
	}
	var transport *url.Error
	if errors.As(cause, &transport) {
		e.Err = transport.Err
		return e
	}
	body, answered := strings.CutPrefix(cause.Error(), sdkFailure)
	if !answered {
		e.Err = errors.New("the answer was cut off or is not one of STS")
		return e
	}
	var doc struct{ Code, Message, RequestID string }
	if json.Unmarshal([]byte(body), &doc) != nil || doc.Code == "" {
		e.Err = errors.New("the answer is neither credentials nor an STS error")
		return e
	}
	e.Code, e.RequestID = doc.Code, doc.RequestID
	e.Message = shorten(strings.ReplaceAll(doc.Message, token, "[token]"))
	return e
}

// shorten bounds a remote message: it ends up in a termination message of limited size.
func shorten(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
}
