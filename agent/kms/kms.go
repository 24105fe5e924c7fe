// Package kms reads secret values from Alibaba Cloud KMS: with RAM credentials through the OpenAPI, at the shared gateway
// or that of a KMS instance, or with a client key through an instance's own protocol.
//
// The SDKs build and sign the requests. Transport, time limits, the size of answers and errors are here: the SDKs' own
// HTTP client ignores a changed CA or client key, has no time limit, loses the status of answers that it does not
// understand, and prints tokens when DEBUG says so (which the agent's main refuses).
package kms

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	"github.com/alibabacloud-go/tea/dara"
	credential "github.com/aliyun/credentials-go/credentials"
)

// Config says which gateway to talk to.
type Config struct {
	// Endpoint is the host[:port] of the shared gateway, kms[-vpc].<region>.aliyuncs.com, or of a KMS instance,
	// <id>.cryptoservice.kms.aliyuncs.com. It is part of what is signed; always over TLS.
	Endpoint string
	// Roots are what the gateway may be certified by; nil: the system's. KMS instances have a private CA.
	Roots *x509.CertPool
	// CAFile is a PEM file with more of them, read again when it changes; optional.
	CAFile string

	ConnectTimeout time.Duration // 0: 3s
	Timeout        time.Duration // of a whole call; 0: 10s
}

// Credentials sign a call. SecurityToken is that of an STS session.
type Credentials struct {
	AccessKeyID     string
	AccessKeySecret string
	SecurityToken   string
}

// A Ref names a version of a secret.
type Ref struct {
	Name         string // or ARN, acs:kms:<region>:<uid>:secret/<name>, for another account's
	VersionID    string // empty: the version at VersionStage
	VersionStage string // empty: ACSCurrent
	// RoleARN is the second role that the caller reads it as; empty: as itself. No part of the request, but two roles may
	// see two secrets of one name.
	RoleARN string `json:",omitempty"`
}

func (r Ref) String() string {
	s := r.Name
	if r.VersionID != "" {
		s += " version " + r.VersionID
	}
	if r.VersionStage != "" {
		s += " stage " + r.VersionStage
	}
	return s
}

// A Secret is one version of a secret with its value.
type Secret struct {
	Name         string
	Type         string // Generic, Rds, RAMCredentials, ECS, …
	VersionID    string
	Stages       []string
	Data         []byte // the value; decoded, if it is binary
	Binary       bool
	NextRotation time.Time // when KMS will rotate it; zero if it will not
	Answer       Answer
}

// Answer is what else GetSecretValue said, as it was on the wire; empty what it did not say.
type Answer struct {
	RequestID         string `json:"RequestId"`
	CreateTime        string
	AutomaticRotation string
	RotationInterval  string
	LastRotationDate  string
	NextRotationDate  string
	ExtendedConfig    string
}

// String hides the value from every %v.
func (s Secret) String() string { return fmt.Sprintf("secret %s version %s", s.Name, s.VersionID) }

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the value from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Client calls one gateway. It is safe for concurrent use and keeps connections for the calls of one refresh.
type Client struct {
	endpoint string
	http     *caller
}

// New returns a Client for cfg. It does not connect yet.
func New(cfg Config) (*Client, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	http := &caller{cfg: cfg, http2: true, readError: readJSON}
	if err := http.start(); err != nil {
		return nil, err
	}
	return &Client{endpoint: cfg.Endpoint, http: http}, nil
}

// Rest closes the connections that no call uses.
func (c *Client) Rest() { c.http.rest() }

func (c *Config) check() error {
	if c.Endpoint == "" || strings.ContainsAny(c.Endpoint, "/?#@ ") {
		return fmt.Errorf("KMS endpoint %q: it must be a host name, with a port or without, and no scheme", c.Endpoint)
	}
	return nil
}

// GetSecretValue reads one secret: one request, no retry. What KMS or the network refuses is an *Error; the end of ctx
// is ctx's error.
func (c *Client) GetSecretValue(ctx context.Context, creds Credentials, ref Ref) (Secret, error) {
	query := map[string]*string{"SecretName": &ref.Name, "FetchExtendedConfig": dara.String("true")} // generic secrets have none
	if ref.VersionID != "" {
		query["VersionId"] = &ref.VersionID
	}
	if ref.VersionStage != "" {
		query["VersionStage"] = &ref.VersionStage
	}
	body, err := c.call(ctx, creds, "GetSecretValue", query, ref)
	if err != nil {
		return Secret{}, err
	}
	secret, err := decode(body)
	if err != nil {
		return Secret{}, &Error{Ref: ref, Status: http.StatusOK, Err: err}
	}
	return secret, nil
}

// call makes one request and returns the answer. Its errors name the secret of ref.
func (c *Client) call(ctx context.Context, creds Credentials, action string, query map[string]*string, ref Ref) (io.Reader, error) {
	// A client of the SDK is a bag of settings. One for each call pins the three parts of the credentials together.
	api := openapi.Client{
		Credential:      static{creds: creds},
		Endpoint:        &c.endpoint,
		UserAgent:       dara.String("kms-agent-injector"),
		HttpClient:      c.http,
		DisableSDKError: dara.Bool(true), // or the SDK makes errors of its own from ours
	}
	// What CallApiWithCtx does for ACS3 signatures, without linking what it does for all others.
	answer, err := api.DoRequestWithCtx(ctx, &openapiutil.Params{
		Action:      &action,
		Version:     dara.String("2016-01-20"),
		Protocol:    dara.String("HTTPS"),
		Method:      dara.String(http.MethodPost),
		Pathname:    dara.String("/"),
		Style:       dara.String("RPC"),
		AuthType:    dara.String("AK"),
		ReqBodyType: dara.String("formData"),
		BodyType:    dara.String("binary"), // the answer as it is, to be decoded once
	}, &openapiutil.OpenApiRequest{Query: query}, &dara.RuntimeOptions{})
	switch {
	case err != nil && ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, failure(ref, err)
	}
	body, ok := answer["body"].(io.Reader)
	if !ok {
		return nil, &Error{Ref: ref, Err: errors.New("the SDK returned no answer")}
	}
	return body, nil
}

// static are Credentials as the SDK asks for them. With its own kind of them it would link all its providers, and the chain
// of fall-backs among them.
type static struct {
	credential.Credential // what the SDK does not ask for
	creds                 Credentials
}

func (s static) GetCredential() (*credential.CredentialModel, error) {
	provider := "static_sts" // as its own says, in a header
	if s.creds.SecurityToken == "" {
		provider = "static_ak"
	}
	return &credential.CredentialModel{
		AccessKeyId: &s.creds.AccessKeyID, AccessKeySecret: &s.creds.AccessKeySecret, SecurityToken: &s.creds.SecurityToken,
		ProviderName: &provider,
	}, nil
}
