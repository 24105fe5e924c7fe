package emulator

import (
	"context"
	"encoding/json"
)

const (
	batchAction = "BatchGetSecretValue"
	maxBatch    = 20
)

type batchAnswer struct {
	RequestID    string `json:"RequestId"`
	SecretValues []any
	Errors       []batchError
}

// batchError says of a secret by its name alone why it is not among the values.
type batchError struct {
	SecretName string
	Code       string
	HTTPStatus int `json:"HttpStatus"`
	Message    string
}

// batchGetSecretValue answers with the secrets that the caller's role may read, and with an error for each other. The caller needs
// no permission but kms:GetSecretValue on each secret.
// Facts: API reference KMS 2016-01-20 BatchGetSecretValue; the fields of the answer from the generated SDKs of that API. How KMS
// refuses a list that is none, or one that has a secret twice, is UNVERIFIED, and so is whether it gives the name or the ARN back.
func (e *Emulator) batchGetSecretValue(_ context.Context, c *call) (any, *problem) {
	if c.params.Get("SecretsList") == "" {
		return nil, missingKMSParameter("SecretsList")
	}
	list := c.batch()
	if len(list) == 0 || len(list) > maxBatch {
		return nil, badKMSParameter()
	}
	a := batchAnswer{RequestID: c.id, SecretValues: []any{}, Errors: []batchError{}}
	seen := map[string]bool{}
	for _, r := range list {
		if r.SecretName == "" || seen[r.arn(c)] {
			return nil, badKMSParameter()
		}
		seen[r.arn(c)] = true
		value, p := e.secretValue(c, r)
		if p != nil {
			a.Errors = append(a.Errors, batchError{SecretName: r.SecretName, Code: p.code, HTTPStatus: p.status, Message: p.message})
			continue
		}
		a.SecretValues = append(a.SecretValues, value)
	}
	return a, nil
}

// batch is what the call asks for; nothing if its list is not what the SDKs send, JSON with texts alone.
func (c *call) batch() (list []secretRequest) {
	if json.Unmarshal([]byte(c.params.Get("SecretsList")), &list) != nil {
		return nil
	}
	return list
}
