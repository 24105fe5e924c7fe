package kms

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	credential "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/openapi-credential"
	dkmsutil "github.com/aliyun/alibabacloud-dkms-gcs-go-sdk/openapi-util"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
)

// This file has what is defended against in alibabacloud-dkms-gcs-go-sdk v0.5.1, which opens client keys, signs, and encodes
// the protocol of KMS instances. Its own HTTP client is not used: it has no time limit and no context, asks four times, and keeps
// the first client key and the first CA for the life of the process.
//
//   - It panics on a PKCS#12 store without a second item, and on some keys that it cannot sign with.
//   - It says by text only that a password is wrong: the error's value is of a module that it hides.
//   - Its errors about answers quote them.

// signer is the SDK's client of an opened key.
type signer = *credential.Client

// openKey checks what the SDK takes for granted, and has the SDK open the key.
func openKey(text []byte, password string) (key *openedKey, err error) {
	var doc struct {
		KeyID          string `json:"KeyId"`
		PrivateKeyData string
	}
	if json.Unmarshal(text, &doc) != nil || doc.KeyID == "" || doc.PrivateKeyData == "" {
		return nil, errors.New("want JSON with KeyId and PrivateKeyData, as the KMS console gives it out")
	}
	if _, err := base64.StdEncoding.DecodeString(doc.PrivateKeyData); err != nil {
		return nil, errors.New("PrivateKeyData is not base64")
	}
	defer func() {
		if r := recover(); r != nil {
			key, err = nil, errors.New("PrivateKeyData is not a PKCS#12 store with one certificate and one key")
		}
	}()
	kind, content := "rsa_key_pair", string(text)
	opened, err := credential.NewClient(&credential.Config{Type: &kind, ClientKeyContent: &content, Password: &password})
	switch {
	case err != nil && strings.Contains(err.Error(), "password incorrect"):
		return nil, ErrPassword
	case err != nil:
		return nil, fmt.Errorf("PrivateKeyData cannot be read: %w", err)
	}
	pair, err := tls.X509KeyPair([]byte(*opened.GetPrivateKeyCert()), []byte(*opened.GetAccessKeySecret()))
	if err != nil {
		return nil, errors.New("PrivateKeyData is not a PKCS#12 store with a private key and its certificate")
	}
	return &openedKey{doc.KeyID, pair, opened}, nil
}

// sign returns the header authorization of a request with these headers.
func (k *openedKey) sign(method string, headers map[string]*string) (authorization string, err error) {
	failed := errors.New("the SDK cannot sign with the client key")
	defer func() {
		if r := recover(); r != nil {
			err = failed
		}
	}()
	path := "/"
	text, err := dkmsutil.GetStringToSign(&method, &path, headers, nil)
	if err != nil {
		return "", failed
	}
	signature, err := k.signer.GetSignature(text)
	if err != nil {
		return "", failed
	}
	return *signature, nil
}

// serialize returns the body of GetSecretValue.
func serialize(ref Ref) ([]byte, error) {
	body, err := dkmsutil.GetSerializedGetSecretValueRequest(map[string]any{
		"SecretName": &ref.Name, "VersionId": &ref.VersionID, "VersionStage": &ref.VersionStage, "FetchExtendedConfig": new(true),
	})
	if err != nil {
		return nil, errors.New("the SDK cannot serialize the request")
	}
	return body, nil
}

// readProtobuf reads an instance's error document.
func readProtobuf(body []byte) openapi.Refusal {
	doc, err := dkmsutil.GetErrMessage(body)
	if err != nil {
		return openapi.Refusal{}
	}
	text := func(name string) string {
		s, _ := doc[name].(string)
		return s
	}
	return openapi.Refusal{Code: text("Code"), Message: text("Message"), RequestID: text("RequestId")}
}

// decodeProtobuf reads an instance's answer, whose fields have the names of the OpenAPI's.
func decodeProtobuf(body []byte) (Secret, error) {
	fields, err := dkmsutil.ParseGetSecretValueResponse(body)
	if err != nil {
		return Secret{}, errors.New("the answer is not that of GetSecretValue")
	}
	fields["VersionStages"] = map[string]any{"VersionStage": fields["VersionStages"]}
	text, err := json.Marshal(fields)
	var doc Document
	if err != nil || json.Unmarshal(text, &doc) != nil {
		return Secret{}, errors.New("the answer has fields of other types than GetSecretValue's")
	}
	return doc.secret()
}
