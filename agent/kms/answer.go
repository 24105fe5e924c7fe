package kms

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"time"
)

// document is what GetSecretValue answers, in either protocol.
type document struct {
	SecretName, SecretType, VersionID string
	SecretData                        *string
	SecretDataType                    string
	VersionStages                     struct{ VersionStage []string }
	Answer
}

// decode reads the JSON of GetSecretValue. Its errors hold nothing of the answer.
func decode(body io.Reader) (Secret, error) {
	var doc document
	if err := json.NewDecoder(body).Decode(&doc); err != nil {
		return Secret{}, errors.New("the answer is not the JSON of GetSecretValue")
	}
	return doc.secret()
}

func (d *document) secret() (Secret, error) {
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
