// Package policy evaluates Alibaba Cloud RAM policies: which principals may assume a role, and what the role may do.
package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Decision is the outcome of an evaluation. A request that no statement mentions is denied.
type Decision int

const (
	// ImplicitDeny: no statement allows the request, none denies it.
	ImplicitDeny Decision = iota
	// Allow: a statement allows the request, none denies it.
	Allow
	// ExplicitDeny: a statement denies the request, whatever the others allow.
	ExplicitDeny
)

// String returns the word that AccessDeniedDetail.NoPermissionType uses.
func (d Decision) String() string {
	switch d {
	case Allow:
		return "Allow"
	case ExplicitDeny:
		return "ExplicitDeny"
	default:
		return "ImplicitDeny"
	}
}

// Request is what a policy is asked about.
type Request struct {
	Action    string              // service:name, as in kms:GetSecretValue
	Resource  string              // the ARN acted upon. Trust policies have none.
	Federated string              // the ARN of the OIDC provider that vouches for the caller. Permission policies have none.
	RAM       []string            // the ARNs by which a trust policy may name the caller: its user or role, and its account's root
	Service   string              // the cloud service that asks for itself, as in ecs.aliyuncs.com
	Context   map[string][]string // holds the values of condition keys, as in kms:tag/env or oidc:sub
}

// Document is a parsed policy.
type Document struct {
	statements []statement
}

type statement struct {
	Effect      string                      `json:"Effect"`
	Action      texts                       `json:"Action"`
	NotAction   texts                       `json:"NotAction"`
	Resource    texts                       `json:"Resource"`
	NotResource texts                       `json:"NotResource"`
	Principal   *principal                  `json:"Principal"`
	Condition   map[string]map[string]texts `json:"Condition"`
	conditions  []condition
}

type principal struct {
	Federated texts `json:"Federated"`
	RAM       texts `json:"RAM"`
	Service   texts `json:"Service"`
}

// ParsePermissions reads a permission policy, as attached to a role.
func ParsePermissions(text string) (Document, error) {
	doc, err := parse(text)
	if err != nil {
		return Document{}, err
	}
	for i, s := range doc.statements {
		if s.Principal != nil {
			return Document{}, fmt.Errorf("statement %d: a permission policy has no Principal", i+1)
		}
		if (s.Resource == nil) == (s.NotResource == nil) {
			return Document{}, fmt.Errorf("statement %d: want either Resource or NotResource", i+1)
		}
	}
	return doc, nil
}

// ParseTrust reads a trust policy, which says which principals may assume a role.
func ParseTrust(text string) (Document, error) {
	doc, err := parse(text)
	if err != nil {
		return Document{}, err
	}
	for i, s := range doc.statements {
		if s.Principal == nil {
			return Document{}, fmt.Errorf("statement %d: a trust policy needs a Principal", i+1)
		}
		if s.Resource != nil || s.NotResource != nil {
			return Document{}, fmt.Errorf("statement %d: a trust policy has no Resource", i+1)
		}
	}
	return doc, nil
}

func parse(text string) (Document, error) {
	var doc struct {
		Version   string      `json:"Version"`
		Statement []statement `json:"Statement"`
	}
	dec := json.NewDecoder(strings.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return Document{}, fmt.Errorf("read policy: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Document{}, errors.New("read policy: text after the closing brace")
	}
	if doc.Version != "1" {
		return Document{}, fmt.Errorf(`policy version %q: RAM knows only "1"`, doc.Version)
	}
	if len(doc.Statement) == 0 {
		return Document{}, errors.New("policy has no Statement")
	}
	for i := range doc.Statement {
		if err := doc.Statement[i].check(); err != nil {
			return Document{}, fmt.Errorf("statement %d: %w", i+1, err)
		}
	}
	return Document{statements: doc.Statement}, nil
}

func (s *statement) check() error {
	if s.Effect != "Allow" && s.Effect != "Deny" {
		return fmt.Errorf("effect %q: want Allow or Deny", s.Effect)
	}
	if (s.Action == nil) == (s.NotAction == nil) {
		return errors.New("want either Action or NotAction")
	}
	var err error
	s.conditions, err = parseConditions(s.Condition)
	return err
}

// Decide evaluates the documents together, as RAM does with all policies attached to one role.
func Decide(docs []Document, r Request) Decision {
	decision := ImplicitDeny
	for _, doc := range docs {
		for _, s := range doc.statements {
			if !s.matches(r) {
				continue
			}
			if s.Effect == "Deny" {
				return ExplicitDeny
			}
			decision = Allow
		}
	}
	return decision
}

func (s statement) matches(r Request) bool {
	if s.Principal != nil && !s.Principal.includes(r) {
		return false
	}
	// Whether RAM minds the case of action names is UNVERIFIED; consoles write them in either.
	if s.Action != nil && !s.Action.matchFold(r.Action) || s.NotAction != nil && s.NotAction.matchFold(r.Action) {
		return false
	}
	if s.Resource != nil && !s.Resource.match(r.Resource) || s.NotResource != nil && s.NotResource.match(r.Resource) {
		return false
	}
	for _, c := range s.conditions {
		if !c.holds(r.Context) {
			return false
		}
	}
	return true
}

func (p principal) includes(r Request) bool {
	return slices.Contains(p.Federated, r.Federated) || slices.Contains(p.Service, r.Service) ||
		slices.ContainsFunc(r.RAM, func(arn string) bool { return slices.Contains(p.RAM, arn) })
}

// texts is a JSON string or a list of them.
type texts []string

func (t *texts) UnmarshalJSON(data []byte) error {
	if bytes.HasPrefix(data, []byte(`"`)) {
		var one string
		if err := json.Unmarshal(data, &one); err != nil {
			return err
		}
		*t = texts{one}
		return nil
	}
	var many []string
	if err := json.Unmarshal(data, &many); err != nil {
		return errors.New("want a string or a list of strings")
	}
	*t = append(texts{}, many...)
	return nil
}

func (t texts) match(value string) bool {
	return slices.ContainsFunc(t, func(pattern string) bool { return Match(pattern, value) })
}

func (t texts) matchFold(value string) bool {
	value = strings.ToLower(value)
	return slices.ContainsFunc(t, func(pattern string) bool { return Match(strings.ToLower(pattern), value) })
}
