package kms

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	dkmsutil "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/openapi-util"
)

// ClientKeyConfig says which KMS instance to talk to, and with which client key.
type ClientKeyConfig struct {
	// Config is as for the OpenAPI; its Endpoint is <id>.cryptoservice.kms.aliyuncs.com.
	Config
	// KeyFile is the client key as the KMS console gives it out, JSON; PasswordFile what it is encrypted with, which may
	// end in a newline. Both are read again when they change.
	KeyFile, PasswordFile string
}

// ClientKeyClient calls the gateway of one KMS instance, signed by the client key of an application access point. It is
// safe for concurrent use.
type ClientKeyClient struct {
	endpoint string
	http     *caller
	key      clientKeyFile
}

// NewClientKey returns a client for cfg, once the client key has been read. It does not connect yet.
func NewClientKey(cfg ClientKeyConfig) (*ClientKeyClient, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c := &ClientKeyClient{
		endpoint: cfg.Endpoint,
		// Not over HTTP/2: the SDK itself never asks an instance for it.
		http: &caller{cfg: cfg.Config, readError: readProtobuf},
		key:  clientKeyFile{path: cfg.KeyFile, passwordPath: cfg.PasswordFile},
	}
	if err := c.http.start(); err != nil {
		return nil, err
	}
	if _, err := c.currentKey(); err != nil {
		return nil, err
	}
	return c, nil
}

// GetSecretValue reads one secret: one request, no retry. What KMS or the network refuses is an *Error, what is wrong with
// the client key a *KeyError; the end of ctx is ctx's error.
func (c *ClientKeyClient) GetSecretValue(ctx context.Context, ref Ref) (Secret, error) {
	key, err := c.currentKey()
	if err != nil {
		return Secret{}, err
	}
	req, err := c.request(ctx, key, ref)
	if err != nil {
		return Secret{}, &Error{Ref: ref, Err: err}
	}
	res, err := c.http.Call(req, nil)
	switch {
	case err != nil && ctx.Err() != nil:
		return Secret{}, ctx.Err()
	case err != nil:
		return Secret{}, failure(ref, err)
	}
	defer res.Body.Close()
	secret, err := decodeProtobuf(res.Body)
	if err != nil {
		return Secret{}, &Error{Ref: ref, Status: http.StatusOK, Err: err}
	}
	return secret, nil
}

// Rest closes the connections that no call uses.
func (c *ClientKeyClient) Rest() { c.http.rest() }

func (c *ClientKeyClient) currentKey() (*clientKey, error) {
	key, changed, err := c.key.read(time.Now())
	if err != nil {
		return nil, err
	}
	if changed {
		c.http.present(&key.certificate)
	}
	return key, nil
}

// request is one that the SDK has serialized and signed.
func (c *ClientKeyClient) request(ctx context.Context, key *clientKey, ref Ref) (*http.Request, error) {
	body, err := dkmsutil.GetSerializedGetSecretValueRequest(map[string]any{
		"SecretName": &ref.Name, "VersionId": &ref.VersionID, "VersionStage": &ref.VersionStage, "FetchExtendedConfig": new(true),
	})
	if err != nil {
		return nil, errors.New("the SDK cannot serialize the request")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.endpoint+"/", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	headers := map[string]*string{}
	for name, value := range map[string]string{
		"accept":                "application/x-protobuf",
		"content-type":          "application/x-protobuf",
		"content-sha256":        strings.ToUpper(hex.EncodeToString(sum[:])),
		"date":                  time.Now().UTC().Format(http.TimeFormat),
		"user-agent":            "kms-agent-injector",
		"x-kms-apiversion":      "dkms-gcs-0.2",
		"x-kms-apiname":         "GetSecretValue",
		"x-kms-signaturemethod": "RSA_PKCS1_SHA_256",
		"x-kms-acccesskeyid":    key.id, // the protocol spells it so
	} {
		headers[name] = &value
		req.Header.Set(name, value)
	}
	signature, err := key.sign(req.Method, headers)
	if err != nil {
		return nil, err
	}
	req.Header.Set("authorization", signature)
	return req, nil
}

// readProtobuf reads an instance's error document.
func readProtobuf(body []byte) errorDocument {
	doc, err := dkmsutil.GetErrMessage(body)
	if err != nil {
		return errorDocument{} // the SDK's error quotes the body
	}
	text := func(name string) string {
		s, _ := doc[name].(string)
		return s
	}
	return errorDocument{Code: text("Code"), Message: text("Message"), RequestID: text("RequestId")}
}

// decodeProtobuf reads an instance's answer. Its errors hold nothing of the answer.
func decodeProtobuf(body io.Reader) (Secret, error) {
	raw, err := io.ReadAll(body)
	if err != nil {
		return Secret{}, err
	}
	fields, err := dkmsutil.ParseGetSecretValueResponse(raw)
	if err != nil {
		return Secret{}, errors.New("the answer is not that of GetSecretValue")
	}
	text := func(name string) string {
		if s, ok := fields[name].(*string); ok && s != nil {
			return *s
		}
		return ""
	}
	value := text("SecretData")
	doc := document{
		SecretName: text("SecretName"), SecretType: text("SecretType"), VersionID: text("VersionId"),
		SecretData: &value, SecretDataType: text("SecretDataType"),
		Answer: Answer{
			RequestID: text("RequestId"), CreateTime: text("CreateTime"), ExtendedConfig: text("ExtendedConfig"),
			AutomaticRotation: text("AutomaticRotation"), RotationInterval: text("RotationInterval"),
			LastRotationDate: text("LastRotationDate"), NextRotationDate: text("NextRotationDate"),
		},
	}
	stages, _ := fields["VersionStages"].([]*string)
	for _, stage := range stages {
		doc.VersionStages.VersionStage = append(doc.VersionStages.VersionStage, *stage)
	}
	return doc.secret()
}
