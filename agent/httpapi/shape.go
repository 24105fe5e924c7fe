package httpapi

import (
	"bytes"
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

type awsShape struct {
	ARN           string `json:",omitempty"`
	Name          string
	VersionID     string      `json:"VersionId"`
	SecretString  *string     `json:",omitempty"`
	SecretBinary  *string     `json:",omitempty"` // base64, as KMS has it too
	VersionStages []string    // by KMS's names: ACSCurrent, ACSPrevious
	CreatedDate   json.Number `json:",omitempty"` // seconds since 1970
}

// document returns the answer to a request.
func (s *Server) document(r Request, secret *kms.Secret) any {
	doc := secret.Document()
	stages := doc.VersionStages.VersionStage
	switch s.cfg.ResponseType {
	case ShapeAWS:
		out := &awsShape{
			ARN: s.arn(r, secret), Name: doc.SecretName, VersionID: doc.VersionID, VersionStages: stages, CreatedDate: epoch(doc.CreateTime),
		}
		if secret.Binary {
			out.SecretBinary = doc.SecretData
		} else {
			out.SecretString = doc.SecretData
		}
		return out
	case ShapeVault:
		number, _ := strconv.Atoi(strings.TrimPrefix(doc.VersionID, "v"))
		return map[string]any{
			"request_id": doc.RequestID, "lease_id": "", "renewable": false, "lease_duration": 0, "wrap_info": nil, "warnings": nil, "auth": nil,
			"data": map[string]any{
				"data": keyed(*doc.SecretData, secret.Binary), // the value if it is a JSON object, else {"value": …}
				"metadata": map[string]any{
					"created_time": doc.CreateTime, "deletion_time": "", "destroyed": false,
					"version": number, // 3 of v3; 0 if KMS's version is not a number
					"custom_metadata": map[string]string{ // what Vault has no field for
						"SecretType": doc.SecretType, "VersionId": doc.VersionID, "VersionStages": strings.Join(stages, ","),
					},
				},
			},
		}
	}
	return doc
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
