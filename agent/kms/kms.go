// Package kms reads secret values from Alibaba Cloud KMS through its OpenAPI gateway.
//
// The SDK builds and signs the request. Transport, time limits, the size of answers and errors are here: the SDK's own
// HTTP client ignores a changed CA, has no time limit, loses the status of answers that are not JSON, and prints
// tokens when DEBUG says so (which the agent's main refuses).
package kms

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
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
)

// Config says which gateway to talk to.
type Config struct {
	// Endpoint is the host[:port] of the shared gateway, kms[-vpc].<region>.aliyuncs.com, or of a KMS instance,
	// <id>.cryptoservice.kms.aliyuncs.com. It is part of what is signed; always over TLS.
	Endpoint string
	// Roots are what the gateway may be certified by; nil: the system's. KMS instances have a private CA.
	Roots *x509.CertPool

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
	if cfg.Endpoint == "" || strings.ContainsAny(cfg.Endpoint, "/?#@ ") {
		return nil, fmt.Errorf("KMS endpoint %q: it must be a host name, with a port or without, and no scheme", cfg.Endpoint)
	}
	return &Client{endpoint: cfg.Endpoint, http: newCaller(cfg)}, nil
}

// GetSecretValue reads one secret: one request, no retry. What KMS or the network refuses is an *Error; the end of ctx
// is ctx's error.
func (c *Client) GetSecretValue(ctx context.Context, creds Credentials, ref Ref) (Secret, error) {
	// A client of the SDK is a bag of settings. One for each call pins the three parts of the credentials together.
	api, err := openapi.NewClient(&openapiutil.Config{
		AccessKeyId:     &creds.AccessKeyID,
		AccessKeySecret: &creds.AccessKeySecret,
		SecurityToken:   &creds.SecurityToken,
		Endpoint:        &c.endpoint,
		UserAgent:       dara.String("kms-agent-injector"),
		HttpClient:      c.http,
	})
	if err != nil {
		return Secret{}, &Error{Ref: ref, Err: err}
	}
	api.DisableSDKError = dara.Bool(true) // or the SDK makes errors of its own from ours

	answer, err := api.CallApiWithCtx(ctx, &openapiutil.Params{
		Action:      dara.String("GetSecretValue"),
		Version:     dara.String("2016-01-20"),
		Protocol:    dara.String("HTTPS"),
		Method:      dara.String(http.MethodPost),
		Pathname:    dara.String("/"),
		Style:       dara.String("RPC"),
		AuthType:    dara.String("AK"),
		ReqBodyType: dara.String("formData"),
		BodyType:    dara.String("binary"), // the answer as it is, to be decoded once
	}, &openapiutil.OpenApiRequest{Query: ref.query()}, &dara.RuntimeOptions{})
	switch {
	case err != nil && ctx.Err() != nil:
		return Secret{}, ctx.Err()
	case err != nil:
		return Secret{}, failure(ref, err)
	}
	body, ok := answer["body"].(io.Reader)
	if !ok {
		return Secret{}, &Error{Ref: ref, Err: errors.New("the SDK returned no answer")}
	}
	secret, err := decode(body)
	if err != nil {
		return Secret{}, &Error{Ref: ref, Status: http.StatusOK, Err: err}
	}
	return secret, nil
}

func (r Ref) query() map[string]*string {
	q := map[string]*string{"SecretName": &r.Name}
	if r.VersionID != "" {
		q["VersionId"] = &r.VersionID
	}
	if r.VersionStage != "" {
		q["VersionStage"] = &r.VersionStage
	}
	return q
}

// decode reads the answer of GetSecretValue. Its errors hold nothing of the answer.
func decode(body io.Reader) (Secret, error) {
	var doc struct {
		SecretName, SecretType, VersionID string
		SecretData                        *string
		SecretDataType                    string
		VersionStages                     struct{ VersionStage []string }
		Answer
	}
	if err := json.NewDecoder(body).Decode(&doc); err != nil {
		return Secret{}, errors.New("the answer is not the JSON of GetSecretValue")
	}
	if doc.SecretData == nil || doc.VersionID == "" {
		return Secret{}, errors.New("the answer has no SecretData or no VersionId")
	}
	s := Secret{
		Name: doc.SecretName, Type: doc.SecretType, VersionID: doc.VersionID,
		Stages: doc.VersionStages.VersionStage, Data: []byte(*doc.SecretData), Answer: doc.Answer,
	}
	if doc.SecretDataType == "binary" {
		data, err := base64.StdEncoding.DecodeString(*doc.SecretData)
		if err != nil {
			return Secret{}, errors.New("the answer's SecretDataType is binary, but SecretData is not base64")
		}
		s.Data, s.Binary = data, true
	}
	// Absent for secrets that do not rotate. It only says when to look again, so a form not known is no error.
	s.NextRotation, _ = time.Parse(time.RFC3339, doc.NextRotationDate)
	return s, nil
}
