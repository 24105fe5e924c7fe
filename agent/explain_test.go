package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"unicode/utf8"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Every entry of the catalogue is reached by its code, and nothing is left to fill in.
func TestCatalogue(t *testing.T) {
	a := &Agent{role: "ROLE", doc: config.Agent{KMS: config.Endpoint{Host: "HOST"}}}
	for _, entry := range append(stsAdvice, kmsAdvice...) {
		code := strings.Replace(entry.code, "*", ".Suffix", 1)
		sts := a.Explain(&identity.Error{RoleARN: "ROLE", ProviderARN: "PROVIDER", Code: code})
		gateway := a.Explain(fmt.Errorf("file f: %w", &kms.Error{Ref: kms.Ref{Name: "SECRET"}, Code: code}))
		begin, _, _ := strings.Cut(entry.cure, "{")
		if !strings.Contains(sts+gateway, begin) {
			t.Errorf("%s: not advised:\n%s\n%s", entry.code, sts, gateway)
		}
		for _, text := range []string{sts, gateway} {
			if strings.ContainsAny(strings.ReplaceAll(text, `{"`, ""), "{") {
				t.Errorf("%s: something is not filled in:\n%s", entry.code, text)
			}
		}
	}
}

func TestCatalogueOfOtherIdentities(t *testing.T) {
	for action, catalogue := range map[identity.Action][]advice{identity.AssumeRole: chainAdvice, identity.GetNodeRole: nodeAdvice} {
		for _, entry := range catalogue {
			code := strings.Replace(entry.code, "*", ".Suffix", 1)
			text := (&Agent{}).Explain(&identity.Error{Action: action, Host: "HOST", RoleARN: "ROLE", Caller: "CALLER", Code: code})
			begin, _, _ := strings.Cut(entry.cure, "{")
			if !strings.Contains(text, begin) || strings.Contains(text, "{") {
				t.Errorf("%s %s: not advised, or not filled in:\n%s", action, entry.code, text)
			}
		}
	}
}

func TestErrorsWithoutACode(t *testing.T) {
	a := &Agent{doc: config.Agent{KMS: config.Endpoint{Host: "kms.example"}}}
	for _, test := range []struct {
		err  error
		want string
	}{
		{&identity.Error{Host: "sts.example", Err: errors.New("no such host")}, "check that pods reach sts.example on port 443"},
		{&kms.Error{Status: 502, Err: errors.New("not KMS")}, "check that pods reach kms.example on port 443"},
		{&identity.TokenError{Path: "/token", Err: fs.ErrPermission}, "fsGroup"},
		{&identity.Error{Action: identity.AssumeRole, Host: "sts.example", Err: errors.New("no such host")}, "check that pods reach sts.example on port 443"},
		{&identity.Error{Action: identity.GetNodeRole, Host: "metadata.example", Err: errors.New("no route")}, "reach metadata.example on port 80"},
		{&kms.KeyError{File: "/key", Err: kms.ErrPassword}, "must be of one client key"},
		{&kms.KeyError{File: "/key", Err: fmt.Errorf("%w on 2026-01-02", kms.ErrExpired)}, "create another client key"},
		{&kms.KeyError{File: "/key", Err: fs.ErrNotExist}, "it needs two keys: clientKey"},
		{&kms.Error{Code: "Never.Heard", Message: "of"}, "get secret : Never.Heard"},
		{fmt.Errorf("remember the secrets: %w", &fs.PathError{Op: "write", Path: "/state", Err: syscall.ENOSPC}), "agent.volumeSize"},
		{errors.New("anything else"), "anything else"},
	} {
		if text := a.Explain(test.err); !strings.Contains(text, test.want) {
			t.Errorf("%q is not in %q", test.want, text)
		}
	}
}

func TestSecretOfAnotherAccountIsNamedAsItIs(t *testing.T) {
	const arn = "acs:kms:cn-hangzhou:1:secret/app/db"
	text := (&Agent{}).Explain(&kms.Error{Ref: kms.Ref{Name: arn}, Code: "Forbidden.NoPermission"})
	if !strings.Contains(text, "on "+arn+";") {
		t.Error(text)
	}
}

func TestSecretOfASecondRoleIsThatRolesAffair(t *testing.T) {
	const second = "acs:ram::2:role/reader"
	text := (&Agent{role: "acs:ram::1:role/app"}).Explain(&kms.Error{Ref: kms.Ref{Name: "app/db", RoleARN: second}, Code: "Forbidden.NoPermission"})
	if !strings.Contains(text, second+" may not read") || strings.Contains(text, "role/app") {
		t.Error(text)
	}
}

func TestWhoMayNotReadIsNamedInEveryIdentitysWords(t *testing.T) {
	for _, role := range []string{"acs:ram::1:role/app", "the node's role", "the access key's RAM user", "the client key's application access point"} {
		text := (&Agent{role: role}).Explain(&kms.Error{Ref: kms.Ref{Name: "app/db"}, Code: "Forbidden.NoPermission"})
		if !strings.Contains(text, "why: "+role+" may not read app/db") || !strings.Contains(text, "a policy of "+role+" must allow") {
			t.Error(text)
		}
	}
}

func TestTerminationMessageFits(t *testing.T) {
	long := strings.Repeat("é", 4000)
	text := TerminationMessage(long)
	if len(text) > maxTermination || !utf8.ValidString(text) || !strings.HasSuffix(text, "log)") {
		t.Errorf("%d bytes, ends in %q", len(text), text[len(text)-20:])
	}
	if TerminationMessage("short") != "short" {
		t.Error("a short message was changed")
	}
}
