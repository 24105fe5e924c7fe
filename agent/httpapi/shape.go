package httpapi

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"
)

// ResponseType is the shape of an answer, numbered as in the KMS Agent's config.toml.
type ResponseType int

// The shapes, each with the fields and the nesting of the service that it is named after.
const (
	ShapeKMS   ResponseType = 0 // KMS GetSecretValue
	ShapeAWS   ResponseType = 1 // AWS Secrets Manager GetSecretValue
	ShapeVault ResponseType = 2 // HashiCorp Vault, KV version 2
)

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

func (t ResponseType) document(s *Secret) any {
	switch t {
	case ShapeAWS:
		out := &awsShape{ARN: s.ARN, Name: s.Name, VersionID: s.VersionID, VersionStages: s.Stages.list(), CreatedDate: epoch(s.CreateTime)}
		if s.DataType == "binary" {
			out.SecretBinary = &s.Data
		} else {
			out.SecretString = &s.Data
		}
		return out
	case ShapeVault:
		number, _ := strconv.Atoi(strings.TrimPrefix(s.VersionID, "v"))
		return &vaultShape{RequestID: s.RequestID, Data: vaultData{Data: keyed(s), Metadata: vaultMetadata{
			CreatedTime: s.CreateTime, Version: number,
			CustomMetadata: map[string]string{"SecretType": s.Type, "VersionId": s.VersionID, "VersionStages": strings.Join(s.Stages, ",")},
		}}}
	default:
		return s
	}
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
func keyed(s *Secret) json.RawMessage {
	if text := strings.TrimSpace(s.Data); s.DataType != "binary" && strings.HasPrefix(text, "{") && json.Valid([]byte(text)) {
		return json.RawMessage(text)
	}
	value, err := json.Marshal(map[string]string{"value": s.Data})
	if err != nil {
		return json.RawMessage("{}") // a string always encodes
	}
	return value
}

// body encodes s as an answer. It does so for each request, since answers beside the values would double the size of a cache.
func (t ResponseType) body(s *Secret) ([]byte, error) { return encode(t.document(s)) }

// encode writes JSON without the line break at the end and without the escapes for HTML, as the services do.
func encode(document any) ([]byte, error) {
	var buffer bytes.Buffer
	encoder := json.NewEncoder(&buffer)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(document)
	return bytes.TrimSuffix(buffer.Bytes(), []byte("\n")), err
}
