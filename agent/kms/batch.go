package kms

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/alibabacloud-go/tea/dara"
)

// MaxBatch is how many secrets BatchGetSecretValue takes, all different.
// https://www.alibabacloud.com/help/en/kms/key-management-service/developer-reference/api-kms-2016-01-20-batchgetsecretvalue
const MaxBatch = 20

// ShortName is the name without what an ARN has before it. It is what the secrets of a batch are told apart by: which of
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
	body, err := c.call(ctx, creds, "BatchGetSecretValue", map[string]*string{"SecretsList": dara.String(string(text))}, refs[0])
	if err != nil {
		return nil, err
	}
	var doc struct {
		RequestID    string `json:"RequestId"`
		SecretValues []document
	}
	if json.NewDecoder(body).Decode(&doc) != nil { // the error would quote the answer
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
