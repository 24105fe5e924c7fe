// Package kms reads secret values from Alibaba Cloud KMS: with RAM credentials through the OpenAPI, at the shared gateway
// or that of a KMS instance, or with a client key through an instance's own protocol.
package kms

import (
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
)

// Config says which gateway to talk to.
type Config struct {
	// Endpoint is the host[:port] of the shared gateway, kms[-vpc].<region>.aliyuncs.com, or of a KMS instance,
	// <id>.cryptoservice.kms.aliyuncs.com. It is part of what is signed; always over TLS.
	Endpoint         string
	openapi.Settings // KMS instances have a private CA
}

// Credentials sign a call.
type Credentials = openapi.Credentials

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

// Answer has the other fields of GetSecretValue's answer as they were on the wire; missing fields are empty.
type Answer struct {
	RequestID  string `json:"RequestId"`
	CreateTime string `json:",omitempty"`

	// Only managed secrets have these.
	AutomaticRotation string `json:",omitempty"`
	RotationInterval  string `json:",omitempty"`
	LastRotationDate  string `json:",omitempty"`
	NextRotationDate  string `json:",omitempty"`
	ExtendedConfig    string `json:",omitempty"`
}

// String hides the value from every %v.
func (s Secret) String() string { return fmt.Sprintf("secret %s version %s", s.Name, s.VersionID) }

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the value from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Client calls one gateway. It is safe for concurrent use and keeps connections for the calls of one refresh.
type Client struct {
	*openapi.Client
	endpoint string
}

// New returns a Client for cfg. It does not connect yet.
func New(cfg Config) (*Client, error) {
	http, err := cfg.client()
	if err != nil {
		return nil, err
	}
	return &Client{http, cfg.Endpoint}, nil
}

// client returns the HTTP client for cfg, once it is checked.
func (c *Config) client() (*openapi.Client, error) {
	if c.Endpoint == "" || strings.ContainsAny(c.Endpoint, "/?#@ ") {
		return nil, fmt.Errorf("KMS endpoint %q: it must be a host name, with a port or without, and no scheme", c.Endpoint)
	}
	client, err := openapi.New(c.Settings)
	if err != nil {
		return nil, fmt.Errorf("KMS: %w", err)
	}
	return client, nil
}

// Do calls one action of KMS: one request, no retry. Its errors are an *Error about the secret of ref, or ctx's.
func (c *Client) Do(ctx context.Context, creds Credentials, action string, query map[string]string, ref Ref) ([]byte, error) {
	answer, err := c.Call(ctx, &creds, openapi.Action{Host: c.endpoint, Version: "2016-01-20", Name: action, Query: query})
	if err != nil {
		return nil, failure(ctx, ref, err)
	}
	if answer.Status != http.StatusOK {
		return nil, refusal(ref, answer, answer.Refusal().Safe(creds.SecurityToken))
	}
	return answer.Body, nil
}

// GetSecretValue reads one secret. Its errors are those of Do.
func (c *Client) GetSecretValue(ctx context.Context, creds Credentials, ref Ref) (Secret, error) {
	body, err := c.Do(ctx, creds, "GetSecretValue", map[string]string{
		"SecretName": ref.Name, "VersionId": ref.VersionID, "VersionStage": ref.VersionStage,
		"FetchExtendedConfig": "true", // generic secrets have none
	}, ref)
	if err != nil {
		return Secret{}, err
	}
	var doc Document
	if json.Unmarshal(body, &doc) != nil { // the error would quote the answer
		return Secret{}, &Error{Ref: ref, Status: http.StatusOK, Err: errors.New("the answer is not the JSON of GetSecretValue")}
	}
	secret, err := doc.secret()
	if err != nil {
		return Secret{}, &Error{Ref: ref, Status: http.StatusOK, Err: err}
	}
	return secret, nil
}

// MaxBatch is the most secrets that BatchGetSecretValue takes, all different.
// https://www.alibabacloud.com/help/en/kms/key-management-service/developer-reference/api-kms-2016-01-20-batchgetsecretvalue
const MaxBatch = 20

// ShortName returns the name without what an ARN has before it. It is what the secrets of a batch are told apart by: which of
// the two the answer has, for a secret that is asked for by its ARN, the page does not say.
func (r Ref) ShortName() string { return shortName(r.Name) }

func shortName(name string) string {
	if _, short, isARN := strings.Cut(name, ":secret/"); isARN && strings.HasPrefix(name, "acs:kms:") {
		return short
	}
	return name
}

// batched is a Ref as BatchGetSecretValue takes it, in the parameter SecretsList. The generated SDKs have a text for
// FetchExtendedConfig there.
type batched struct {
	SecretName          string
	VersionID           string `json:"VersionId,omitempty"`
	VersionStage        string `json:",omitempty"`
	FetchExtendedConfig string
}

// BatchGetSecretValue reads up to MaxBatch secrets of different short names: one request, no retry. It returns a secret for each
// of refs, without a VersionID if KMS did not give it; why it did not, GetSecretValue tells. An error is about all of them, and as
// GetSecretValue's.
func (c *Client) BatchGetSecretValue(ctx context.Context, creds Credentials, refs []Ref) ([]Secret, error) {
	var list []batched
	for _, r := range refs {
		list = append(list, batched{r.Name, r.VersionID, r.VersionStage, "true"})
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	body, err := c.Do(ctx, creds, "BatchGetSecretValue", map[string]string{"SecretsList": string(text)}, refs[0])
	if err != nil {
		return nil, err
	}
	var doc struct {
		RequestID    string `json:"RequestId"`
		SecretValues []Document
	}
	if json.Unmarshal(body, &doc) != nil { // the error would quote the answer
		return nil, &Error{Ref: refs[0], Status: http.StatusOK, Err: errors.New("the answer is not the JSON of BatchGetSecretValue")}
	}
	given := make([]Secret, len(refs))
	for _, d := range doc.SecretValues {
		d.SecretName, d.RequestID = shortName(d.SecretName), cmp.Or(d.RequestID, doc.RequestID)
		secret, err := d.secret()
		for i, r := range refs {
			if err == nil && secret.answers(r) {
				given[i] = secret
			}
		}
	}
	return given, nil
}

// answers reports whether the secret is the one that r asks for, in that version: an answer of several does not say what was asked.
func (s Secret) answers(r Ref) bool {
	stage := r.VersionStage
	if r.VersionID == "" {
		stage = cmp.Or(stage, "ACSCurrent")
	}
	return s.Name == r.ShortName() && (stage == "" || slices.Contains(s.Stages, stage)) &&
		(r.VersionID == "" || r.VersionID == s.VersionID || s.Type != "Generic") // KMS ignores the identifier for managed secrets
}

// A Document is a secret as GetSecretValue answers, in either protocol and on the local API.
type Document struct {
	SecretName     string
	SecretType     string
	SecretData     *string // base64 if SecretDataType is binary
	SecretDataType string  // text or binary
	VersionID      string  `json:"VersionId"`
	VersionStages  struct{ VersionStage []string }
	Answer
}

// Document is the reverse of what reads an answer.
func (s Secret) Document() Document {
	data := string(s.Data)
	d := Document{
		SecretName: s.Name, SecretType: s.Type, SecretData: &data, SecretDataType: "text", VersionID: s.VersionID, Answer: s.Answer,
	}
	d.VersionStages.VersionStage = append([]string{}, s.Stages...) // never null in JSON
	if s.Binary {
		d.SecretDataType, data = "binary", base64.StdEncoding.EncodeToString(s.Data)
	}
	return d
}

// secret decodes the answer. Its errors hold nothing of it.
func (d *Document) secret() (Secret, error) {
	if d.SecretData == nil || d.VersionID == "" {
		return Secret{}, errors.New("the answer has no SecretData or no VersionId")
	}
	s := Secret{
		Name: d.SecretName, Type: d.SecretType, VersionID: d.VersionID,
		Stages: d.VersionStages.VersionStage, Data: []byte(*d.SecretData), Answer: d.Answer,
	}
	if d.SecretDataType == "binary" {
		data, err := base64.StdEncoding.DecodeString(*d.SecretData)
		if err != nil {
			return Secret{}, errors.New("the answer's SecretDataType is binary, but SecretData is not base64")
		}
		s.Data, s.Binary = data, true
	}
	// Absent for secrets that do not rotate. It only says when to look again, so a form not known is no error.
	s.NextRotation, _ = time.Parse(time.RFC3339, d.NextRotationDate)
	return s, nil
}
