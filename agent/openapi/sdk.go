package openapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	credential "github.com/aliyun/credentials-go/credentials"
)

// This file has what is defended against in darabonba-openapi v2.1.13, which builds and signs the requests:
//
//   - Its HTTP client is shared by all callers of a host with the same time limits, whatever CA they trust, and has no time limit by
//     default. Ours is given to it (sender).
//   - It loses the status of an answer that it does not understand. sender takes every answer away before it looks.
//   - Its error about an HTTPS_PROXY that is not a URL quotes it, password and all. Ours does not.
//   - It prints tokens if DEBUG says so when the process starts. Programs refuse to start then (RefuseLeaks).
//   - Its own kinds of credentials link all of credentials-go, with the chain of fall-backs. signer has the one method that it calls.

// RefuseLeaks returns an error if the SDKs would print tokens, or Go's HTTP/2 values: they read the environment when the process
// starts, so unsetting it is too late.
func RefuseLeaks(getenv func(string) string) error {
	for part := range strings.SplitSeq(getenv("DEBUG"), ",") {
		if slices.Contains([]string{"tea", "dara", "credential"}, part) {
			return fmt.Errorf("DEBUG=%s makes the Alibaba Cloud SDK print credentials; remove %q from DEBUG in the container's environment",
				getenv("DEBUG"), part)
		}
	}
	if setting := getenv("GODEBUG"); strings.Contains(setting, "http2debug") {
		return fmt.Errorf("GODEBUG=%s makes Go print credentials and secrets; remove http2debug from GODEBUG in the container's environment",
			setting)
	}
	return nil
}

// Credentials sign a call. SecurityToken is that of an STS session.
type Credentials struct {
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string
}

// An Action is one request of a service's API.
type Action struct {
	Host    string // part of what is signed; always over TLS
	Version string // of the API
	Name    string
	Query   map[string]string // without those that are empty
	Form    map[string]string // the body, likewise; nil: none
}

// Call makes one request, signed with creds; nil: not signed. Its error is ctx's or as that of Send.
func (c *Client) Call(ctx context.Context, creds *Credentials, a Action) (Answer, error) {
	sent := &sender{client: c}
	// A client of the SDK only holds settings. One for each call keeps the three parts of the credentials together.
	api := openapi.Client{
		Endpoint:        &a.Host,
		UserAgent:       dara.String("kms-agent-injector"),
		HttpClient:      sent,
		DisableSDKError: dara.Bool(true),
	}
	auth := "Anonymous"
	if creds != nil {
		auth, api.Credential = "AK", signer{creds: *creds}
	}
	request := &openapiutil.OpenApiRequest{Query: pointers(a.Query)}
	if a.Form != nil {
		request.Body = pointers(a.Form)
	}
	// This is the part of CallApiWithCtx for ACS3 signatures. It does not link the code for all others.
	_, err := api.DoRequestWithCtx(ctx, &openapiutil.Params{
		Action:      &a.Name,
		Version:     &a.Version,
		Protocol:    dara.String("HTTPS"),
		Method:      dara.String(http.MethodPost),
		Pathname:    dara.String("/"),
		Style:       dara.String("RPC"),
		AuthType:    &auth,
		ReqBodyType: dara.String("formData"),
		BodyType:    dara.String("none"),
	}, request, &dara.RuntimeOptions{})
	switch {
	case sent.done && sent.err == nil:
		return sent.answer, nil
	case ctx.Err() != nil:
		return Answer{}, ctx.Err()
	case sent.done:
		return Answer{}, sent.err
	case err == nil:
		err = errors.New("the SDK sent no request")
	default:
		if _, parsed := errors.AsType[*url.Error](err); parsed {
			err = errors.New("HTTPS_PROXY in the container's environment is not a URL; write special characters of a password as %XX")
		}
	}
	return Answer{}, err
}

func pointers(values map[string]string) map[string]*string {
	out := make(map[string]*string, len(values))
	for name, value := range values {
		if value != "" {
			out[name] = &value
		}
	}
	return out
}

// sender is a dara.HttpClient that keeps the answer to one request and shows the SDK an empty one.
type sender struct {
	client *Client
	done   bool
	answer Answer
	err    error
}

func (s *sender) Call(req *http.Request, _ *http.Transport) (*http.Response, error) {
	s.done = true
	if s.answer, s.err = s.client.Send(req); s.err != nil {
		return nil, s.err
	}
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// signer is the credentials as the SDK asks for them.
type signer struct {
	credential.Credential // methods that are never called
	creds                 Credentials
}

func (s signer) GetCredential() (*credential.CredentialModel, error) {
	provider := "static_sts" // as the SDK's own, in a header
	if s.creds.SecurityToken == "" {
		provider = "static_ak"
	}
	return &credential.CredentialModel{
		AccessKeyId: &s.creds.AccessKeyID, AccessKeySecret: &s.creds.AccessKeySecret, SecurityToken: &s.creds.SecurityToken,
		ProviderName: &provider,
	}, nil
}
