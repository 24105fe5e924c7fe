package emulator

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

type getSecretValueAnswer struct {
	RequestID         string `json:"RequestId"`
	SecretName        string
	SecretType        string
	SecretData        string
	SecretDataType    string
	VersionID         string `json:"VersionId"`
	VersionStages     versionStages
	CreateTime        string
	AutomaticRotation string `json:",omitempty"`
	RotationInterval  string `json:",omitempty"`
	LastRotationDate  string `json:",omitempty"`
	NextRotationDate  string `json:",omitempty"`
	ExtendedConfig    string `json:",omitempty"`
}

// versionStages is nested like this on the shared gateway.
type versionStages struct {
	VersionStage []string
}

// getSecretValue answers with a version of a secret that the caller's role may read.
// Facts: API reference KMS 2016-01-20 GetSecretValue.
func (e *Emulator) getSecretValue(_ context.Context, c *call) (any, *problem) {
	return e.secretValue(c, secretRequest{
		SecretName: c.params.Get("SecretName"), VersionID: c.params.Get("VersionId"), VersionStage: c.params.Get("VersionStage"),
		FetchExtendedConfig: c.params.Get("FetchExtendedConfig"),
	})
}

// secretRequest asks for a version of a secret.
type secretRequest struct {
	SecretName          string
	VersionID           string `json:"VersionId"`
	VersionStage        string
	FetchExtendedConfig string
}

func (r secretRequest) arn(c *call) string {
	return secretARN(r.SecretName, defaults{account: c.caller.account, region: c.region})
}

func (e *Emulator) secretValue(c *call, r secretRequest) (any, *problem) {
	if r.SecretName == "" {
		return nil, missingKMSParameter("SecretName")
	}
	fetchExtended, p := boolean(r.FetchExtendedConfig)
	if p != nil {
		return nil, p
	}
	s, ok := e.vault.get(r.arn(c))
	// A region's endpoint knows that region's secrets only. Whether RAM or KMS is asked first about a secret that
	// does not exist is UNVERIFIED.
	if !ok || s.Region != c.region {
		return nil, noResource
	}
	for _, action := range c.actions() {
		if p := e.authorize(c.caller, action, &s); p != nil {
			return nil, p
		}
	}
	v, p := s.version(r.VersionID, r.VersionStage)
	if p != nil {
		return nil, p
	}
	a := getSecretValueAnswer{
		RequestID: c.id, SecretName: s.Name, SecretType: s.Type, SecretData: v.Text, SecretDataType: "text",
		VersionID: v.ID, VersionStages: versionStages{append([]string{}, v.Stages...)}, CreateTime: stamp(s.created),
	}
	if v.Binary != "" {
		a.SecretData, a.SecretDataType = v.Binary, "binary"
	}
	if s.managed() {
		a.AutomaticRotation = s.AutomaticRotation
		a.LastRotationDate = date(s.lastRotation)
		if s.AutomaticRotation == "Enabled" {
			a.RotationInterval, a.NextRotationDate = s.RotationInterval, date(s.NextRotation)
		}
		if fetchExtended {
			a.ExtendedConfig = s.ExtendedConfig
		}
	}
	return a, nil
}

// version finds the version that the parameters name.
func (s *Secret) version(id, stage string) (Version, *problem) {
	if s.managed() {
		id = "" // documented: ignored
		if stage != "" && stage != stageCurrent && stage != stagePrevious {
			return Version{}, badKMSParameter
		}
	}
	if id == "" && stage == "" {
		stage = stageCurrent
	}
	i := slices.IndexFunc(s.Versions, func(v Version) bool {
		return (id == "" || v.ID == id) && (stage == "" || slices.Contains(v.Stages, stage))
	})
	if i < 0 {
		return Version{}, noResource
	}
	return s.Versions[i], nil
}

const actionDecrypt = "kms:Decrypt"

// actions are what the caller must be allowed: the shared gateway asks for kms:GetSecretValue alone, that of an instance
// for both.
func (c *call) actions() []string {
	if c.instance != "" {
		return []string{"kms:GetSecretValue", actionDecrypt}
	}
	return []string{"kms:GetSecretValue"}
}

// authorize asks the policies of the caller, and the policy that narrows the session.
func (e *Emulator) authorize(caller session, action string, s *Secret) *problem {
	if caller.point != nil {
		if caller.point.reads(s.Name) {
			return nil
		}
		return noPermission(caller, action, policy.ImplicitDeny, "AccessPointPolicy")
	}
	request := policy.Request{Action: action, Resource: s.resource(action), Context: map[string][]string{}}
	for key, value := range s.Tags {
		request.Context["kms:tag/"+key] = []string{value}
	}
	decision, kind := e.decide(caller, request)
	// Another account's secret also needs that secret's own policy, which the emulator does not have.
	if decision == policy.Allow && s.Account != caller.account {
		decision, kind = policy.ImplicitDeny, "ResourceBasedPolicy"
	}
	if decision == policy.Allow {
		return nil
	}
	return noPermission(caller, action, decision, kind)
}

// decide asks what is attached to the caller's role or user, and what narrows its session.
func (e *Emulator) decide(caller session, request policy.Request) (decision policy.Decision, kind string) {
	decision = policy.Decide(e.ram.permissions(caller), request)
	if decision == policy.Allow && caller.narrowed != nil {
		return policy.Decide([]policy.Document{*caller.narrowed}, request), "SessionPolicy"
	}
	return decision, "AccountLevelIdentityBasedPolicy"
}

func boolean(text string) (bool, *problem) {
	switch strings.ToLower(text) {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	}
	return false, badKMSParameter
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stamp(t)
}

var (
	noResource      = problemf(http.StatusNotFound, "Forbidden.ResourceNotFound", "Resource not found.")
	badKMSParameter = problemf(http.StatusBadRequest, "InvalidParameter", "The specified parameter is not valid.")
)

func noPermission(caller session, action string, decision policy.Decision, policyType string) *problem {
	p := problemf(http.StatusForbidden, "Forbidden.NoPermission", "This operation is forbidden by permission system.")
	p.denied = denial(caller, action, decision, policyType)
	return p
}

func missingKMSParameter(name string) *problem {
	return problemf(http.StatusBadRequest, "MissingParameter", "The parameter  %s  needed but no provided.", name)
}

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
		return nil, badKMSParameter
	}
	a := batchAnswer{RequestID: c.id, SecretValues: []any{}, Errors: []batchError{}}
	seen := map[string]bool{}
	for _, r := range list {
		if r.SecretName == "" || seen[r.arn(c)] {
			return nil, badKMSParameter
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
