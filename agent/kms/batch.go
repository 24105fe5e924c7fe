package kms

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
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

// BatchGetSecretValue reads up to MaxBatch secrets of different short names: one request, no retry. It returns those that
// KMS gave; why it did not give another, GetSecretValue tells. An error is about all of them, and as GetSecretValue's.
func (c *Client) BatchGetSecretValue(ctx context.Context, creds Credentials, refs []Ref) (map[Ref]Secret, error) {
	var list []batched
	for _, r := range refs {
		list = append(list, batched{r.Name, r.VersionID, r.VersionStage, "true"})
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	query := map[string]*string{"SecretsList": dara.String(string(text))}
	given, err := call(ctx, c, creds, "BatchGetSecretValue", query, refs[0], decodeBatch)
	if err != nil {
		return nil, err
	}
	found := map[Ref]Secret{}
	for _, r := range refs {
		if secret, ok := given[r.ShortName()]; ok && secret.answers(r) {
			found[r] = secret
		}
	}
	return found, nil
}

// answers reports whether the secret is in the version that r asks for. An answer of several does not say what was asked.
func (s Secret) answers(r Ref) bool {
	stage := r.VersionStage
	if r.VersionID == "" {
		stage = cmp.Or(stage, "ACSCurrent")
	}
	// KMS ignores the identifier for managed secrets.
	return (r.VersionID == "" || r.VersionID == s.VersionID || s.Type != "Generic") && (stage == "" || slices.Contains(s.Stages, stage))
}

// decodeBatch reads the JSON of BatchGetSecretValue: the secrets by their short names. One that cannot be read is left out, as
// is what the answer has in Errors. Its errors hold nothing of the answer.
func decodeBatch(body io.Reader) (map[string]Secret, error) {
	var doc struct {
		RequestID    string `json:"RequestId"`
		SecretValues []document
	}
	if json.NewDecoder(body).Decode(&doc) != nil {
		return nil, errors.New("the answer is not the JSON of BatchGetSecretValue")
	}
	given := map[string]Secret{}
	for _, d := range doc.SecretValues {
		d.SecretName, d.RequestID = shortName(d.SecretName), cmp.Or(d.RequestID, doc.RequestID)
		if secret, err := d.secret(); err == nil {
			given[d.SecretName] = secret
		}
	}
	return given, nil
}
