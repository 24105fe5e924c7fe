package emulator

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

const maxVersionID = 64

type createSecretAnswer struct {
	RequestID  string `json:"RequestId"`
	Arn        string
	SecretName string
	SecretType string
	VersionID  string `json:"VersionId"`
}

// createSecret makes a secret with its first version. Which refusal comes first is UNVERIFIED.
// Facts: API reference KMS 2016-01-20 CreateSecret; rights: "Use RAM to control access to KMS resources".
func (e *Emulator) createSecret(_ context.Context, c *call) (any, *problem) {
	s, p := newSecret(c)
	if p != nil {
		return nil, p
	}
	container := "acs:kms:" + c.region + ":" + c.caller.account + ":secret"
	if p := e.authorizeKMS(c.caller, "kms:CreateSecret", container); p != nil {
		return nil, p
	}
	if p := e.checkEncryption(c); p != nil {
		return nil, p
	}
	if s.complete(e.defaults, c.now) != nil {
		return nil, badKMSParameter()
	}
	if !e.vault.add(s) {
		return nil, problemf(http.StatusConflict, "Rejected.ResourceExist", "The resource already exists.")
	}
	return createSecretAnswer{RequestID: c.id, Arn: s.arn(), SecretName: s.Name, SecretType: s.Type, VersionID: s.Versions[0].ID}, nil
}

// newSecret reads the call's parameters.
func newSecret(c *call) (Secret, *problem) {
	for _, name := range []string{"SecretName", "VersionId", "SecretData"} {
		if c.params.Get(name) == "" {
			return Secret{}, missingKMSParameter(name)
		}
	}
	var value Value
	switch data := c.params.Get("SecretData"); c.params.Get("SecretDataType") {
	case "", "text":
		value.Text = data
	case "binary":
		value.Binary = data
	default:
		return Secret{}, badKMSParameter()
	}
	tags, ok := readTags(c.params.Get("Tags"))
	name, version := c.params.Get("SecretName"), c.params.Get("VersionId")
	if !ok || strings.HasPrefix(name, "acs/") || utf8.RuneCountInString(version) > maxVersionID {
		return Secret{}, badKMSParameter()
	}
	if kind := c.params.Get("SecretType"); kind != "" && kind != typeGeneric {
		// Not the cloud's answer: it would want the account that such a secret is about, and there is none here.
		return Secret{}, problemf(http.StatusBadRequest, "UnsupportedOperation", "This emulator creates secrets of the type Generic only.")
	}
	return Secret{Account: c.caller.account, Region: c.region, Name: name, Tags: tags, Versions: []Version{{ID: version, Value: value}}}, nil
}

// readTags reads a list like [{"TagKey":"env","TagValue":"prod"}].
func readTags(text string) (tags map[string]string, ok bool) {
	if text == "" {
		return nil, true
	}
	var list []struct{ TagKey, TagValue string }
	if json.Unmarshal([]byte(text), &list) != nil {
		return nil, false
	}
	tags = map[string]string{}
	for _, tag := range list {
		if _, again := tags[tag.TagKey]; again {
			return nil, false
		}
		tags[tag.TagKey] = tag.TagValue
	}
	return tags, true
}

// checkEncryption looks at the KMS instance that is to hold the secret and at the key that encrypts it: one of that instance, for
// which the caller has kms:GenerateDataKey. The codes of what does not exist are UNVERIFIED, and keys without an instance do not
// exist here.
func (e *Emulator) checkEncryption(c *call) *problem {
	id, key := c.params.Get("DKMSInstanceId"), c.params.Get("EncryptionKeyId")
	if id == "" && key == "" {
		return nil
	}
	in, ok := e.instances[id]
	switch {
	case id != "" && (!ok || in.Account != c.caller.account || in.Region != c.region):
		return noInstance(id)
	case key == "":
		return missingKMSParameter("EncryptionKeyId")
	case !slices.Contains(in.Keys, key):
		return problemf(http.StatusNotFound, "Forbidden.KeyNotFound", "The specified Key is not found.")
	}
	return e.authorizeKMS(c.caller, "kms:GenerateDataKey", "acs:kms:"+c.region+":"+c.caller.account+":key/"+key)
}

// authorizeKMS asks the policies of the caller about what is not a secret.
func (e *Emulator) authorizeKMS(caller session, action, resource string) *problem {
	if decision, kind := e.decide(caller, policy.Request{Action: action, Resource: resource}); decision != policy.Allow {
		return noPermission(caller, action, decision, kind)
	}
	return nil
}
