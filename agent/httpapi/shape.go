package httpapi

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// ResponseType is the shape of an answer, numbered as in the KMS Agent's config.toml.
type ResponseType int

// The shapes, each with the fields and the nesting of the service that it is named after.
const (
	ShapeKMS   ResponseType = 0 // KMS GetSecretValue
	ShapeAWS   ResponseType = 1 // AWS Secrets Manager GetSecretValue
	ShapeVault ResponseType = 2 // HashiCorp Vault, KV version 2
)

type kmsShape struct {
	RequestID      string `json:"RequestId"`
	SecretName     string
	SecretType     string
	SecretData     string // base64 if SecretDataType is binary
	SecretDataType string // text or binary
	VersionID      string `json:"VersionId"`
	VersionStages  struct{ VersionStage []string }
	CreateTime     string `json:",omitempty"`

	// Only managed secrets have these.
	AutomaticRotation string `json:",omitempty"`
	RotationInterval  string `json:",omitempty"`
	LastRotationDate  string `json:",omitempty"`
	NextRotationDate  string `json:",omitempty"`
	ExtendedConfig    string `json:",omitempty"`
}

type awsShape struct {
	ARN           string `json:",omitempty"`
	Name          string
	VersionID     string      `json:"VersionId"`
	SecretString  *string     `json:",omitempty"`
	SecretBinary  *string     `json:",omitempty"` // base64, as KMS has it too
	VersionStages []string    // by KMS's names: ACSCurrent, ACSPrevious
	CreatedDate   json.Number `json:",omitempty"` // seconds since 1970
}

type vaultShape struct {
	RequestID     string    `json:"request_id"`
	LeaseID       string    `json:"lease_id"`
	Renewable     bool      `json:"renewable"`
	LeaseDuration int       `json:"lease_duration"`
	Data          vaultData `json:"data"`
	WrapInfo      any       `json:"wrap_info"`
	Warnings      any       `json:"warnings"`
	Auth          any       `json:"auth"`
}

type vaultData struct {
	Data     json.RawMessage `json:"data"` // the value if it is a JSON object, else {"value": …}
	Metadata vaultMetadata   `json:"metadata"`
}

type vaultMetadata struct {
	CreatedTime    string            `json:"created_time"`
	CustomMetadata map[string]string `json:"custom_metadata"` // what Vault has no field for
	DeletionTime   string            `json:"deletion_time"`
	Destroyed      bool              `json:"destroyed"`
	Version        int               `json:"version"` // 3 of v3; 0 if KMS's version is not a number
}

// document returns the answer to a request.
func (s *Server) document(r Request, secret *kms.Secret) any {
	data, stages, more := string(secret.Data), append([]string{}, secret.Stages...), secret.Answer // never null in JSON
	if secret.Binary {
		data = base64.StdEncoding.EncodeToString(secret.Data)
	}
	switch s.cfg.ResponseType {
	case ShapeAWS:
		out := &awsShape{
			ARN: s.arn(r, secret), Name: secret.Name, VersionID: secret.VersionID, VersionStages: stages, CreatedDate: epoch(more.CreateTime),
		}
		if secret.Binary {
			out.SecretBinary = &data
		} else {
			out.SecretString = &data
		}
		return out
	case ShapeVault:
		number, _ := strconv.Atoi(strings.TrimPrefix(secret.VersionID, "v"))
		return &vaultShape{RequestID: more.RequestID, Data: vaultData{Data: keyed(data, secret.Binary), Metadata: vaultMetadata{
			CreatedTime: more.CreateTime, Version: number, CustomMetadata: map[string]string{
				"SecretType": secret.Type, "VersionId": secret.VersionID, "VersionStages": strings.Join(stages, ","),
			},
		}}}
	}
	out := &kmsShape{
		RequestID: more.RequestID, SecretName: secret.Name, SecretType: secret.Type, SecretData: data, SecretDataType: "text",
		VersionID: secret.VersionID, CreateTime: more.CreateTime, AutomaticRotation: more.AutomaticRotation,
		RotationInterval: more.RotationInterval, LastRotationDate: more.LastRotationDate, NextRotationDate: more.NextRotationDate,
		ExtendedConfig: more.ExtendedConfig,
	}
	if out.VersionStages.VersionStage = stages; secret.Binary {
		out.SecretDataType = "binary"
	}
	return out
}

// arn returns a secret's ARN, which KMS does not tell; "" if it is not known.
func (s *Server) arn(r Request, secret *kms.Secret) string {
	switch {
	case strings.HasPrefix(r.Name, "acs:"):
		return r.Name
	case s.cfg.ARNPrefix != "":
		return s.cfg.ARNPrefix + secret.Name
	}
	return ""
}

// epoch is empty for a time that is not there.
func epoch(created string) json.Number {
	at, err := time.Parse(time.RFC3339, created)
	if err != nil {
		return ""
	}
	return json.Number(strconv.FormatInt(at.Unix(), 10))
}

// keyed returns the value as keys and values, the only form that KV has.
func keyed(data string, binary bool) json.RawMessage {
	if text := strings.TrimSpace(data); !binary && strings.HasPrefix(text, "{") && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	value, err := json.Marshal(map[string]string{"value": data})
	if err != nil {
		return json.RawMessage("{}") // a string always encodes
	}
	return value
}

// encode writes JSON without the line break at the end and without the escapes for HTML, as the services do.
func encode(document any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(document)
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), err
}
