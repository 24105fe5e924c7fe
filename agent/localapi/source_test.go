package localapi

import (
	"errors"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

var _ httpapi.Source = (*Source)(nil)

// wantStatus reads a secret: status 200 is a value, any other an error.
func wantStatus(t *testing.T, s *Source, id string, status int, code string) {
	t.Helper()
	secret, err := s.Get(t.Context(), httpapi.Request{Ref: kms.Ref{Name: id}})
	var refusal *httpapi.Error
	switch {
	case status == 200:
		if err != nil || len(secret.Data) == 0 {
			t.Errorf("%s: %v, %v", id, secret, err)
		}
	case !errors.As(err, &refusal) || refusal.Status != status || refusal.Code != code || refusal.Message == "":
		t.Errorf("%s: %v; want %d %s", id, err, status, code)
	}
}

// What the local API says while STS or KMS is ill: of a value that it had and that has expired, and of one that it never had.
func TestSecretsInAnOutage(t *testing.T) {
	for name, c := range map[string]struct {
		fault      emulator.Fault
		had, never int
		code       string
	}{
		"KMS is ill": {emulator.Fault{Action: "*GetSecretValue", Status: 503, Code: "ServiceUnavailableTemporary"}, 200, 503,
			"ServiceUnavailableTemporary"},
		"throttled":           {emulator.Fault{Action: "*GetSecretValue", Status: 429, Code: "Throttling.User"}, 200, 429, "Throttling.User"},
		"connections are cut": {emulator.Fault{Action: "*GetSecretValue", Cut: emulator.AtHeaders}, 200, 502, httpapi.CodeConnection},
		"a proxy answers": {emulator.Fault{Action: "*GetSecretValue", Status: 502, Body: "<html>sentinel"}, 200, 502,
			httpapi.CodeConnection},
		"permission withdrawn": {emulator.Fault{Action: "*GetSecretValue", Status: 403, Code: "Forbidden.NoPermission"}, 403, 403,
			"Forbidden.NoPermission"},
		"secret deleted": {emulator.Fault{Action: "*GetSecretValue", Status: 404, Code: "Forbidden.ResourceNotFound"}, 404, 404,
			"Forbidden.ResourceNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPod(t)
			kept := p.source(Config{TTL: time.Nanosecond, Size: 10, Stale: true})
			strict := p.source(Config{TTL: time.Nanosecond, Size: 10})
			wantStatus(t, kept, "app/db", 200, "")
			wantStatus(t, strict, "app/db", 200, "")
			p.Fault(t, c.fault)
			wantStatus(t, kept, "app/db", c.had, c.code)
			wantStatus(t, kept, "app/key", c.never, c.code)
			wantStatus(t, strict, "app/db", c.never, c.code)
			if _, err := kept.Get(t.Context(), httpapi.Request{Ref: kms.Ref{Name: "app/db"}, RefreshNow: true}); err == nil {
				t.Error("refreshNow hides the failure")
			}
		})
	}
}

func TestSecretsWithoutAnIdentity(t *testing.T) {
	for name, c := range map[string]struct {
		subject string
		fault   *emulator.Fault
		status  int
		code    string
	}{
		"not trusted": {subject: "system:serviceaccount:other:sa", status: 403, code: "AuthenticationFail.NoPermission"},
		"STS throttles": {emulatortest.Subject, &emulator.Fault{Action: "AssumeRoleWithOIDC", Status: 429, Code: "Throttling.User"}, 502,
			"Throttling.User"},
		"STS is down": {emulatortest.Subject, &emulator.Fault{Action: "AssumeRoleWithOIDC", Cut: emulator.AtHeaders}, 502,
			httpapi.CodeConnection},
		"no token": {status: 500, code: httpapi.CodeInternal},
	} {
		t.Run(name, func(t *testing.T) {
			p := startPod(t)
			p.env[config.OIDCTokenFileEnv] = "/nonexistent/token"
			if c.subject != "" {
				p.env[config.OIDCTokenFileEnv] = p.Issuer.TokenFile(t, c.subject)
			}
			if c.fault != nil {
				p.Fault(t, *c.fault)
			}
			wantStatus(t, p.source(Config{TTL: time.Hour, Size: 10, Stale: true}), "app/db", c.status, c.code)
		})
	}
}

// What the files' refresh fetched is not fetched again, by whatever name the same version goes.
func TestSecretsTakeOverWhatIsFetched(t *testing.T) {
	p := startPod(t)
	s := p.source(Config{TTL: time.Hour, Size: 10, Stale: true})
	s.Put(kms.Ref{Name: "app/key", VersionStage: "ACSCurrent"},
		kms.Secret{Name: "app/key", VersionID: "v1", Data: []byte("\x00\xff"), Binary: true}, time.Now())
	for _, stage := range []string{"", "ACSCurrent"} {
		secret, err := s.Get(t.Context(), httpapi.Request{Ref: kms.Ref{Name: "app/key", VersionStage: stage}})
		if err != nil || string(secret.Data) != "\x00\xff" || !secret.Binary {
			t.Errorf("%v, %v", secret, err)
		}
	}
	if hits, misses := s.Counts(); hits != 2 || misses != 0 {
		t.Errorf("%d hits, %d misses", hits, misses)
	}
	if calls := p.Calls(); len(calls) != 0 {
		t.Errorf("calls: %v", calls)
	}
	changes := s.Watch(t.Context(), httpapi.Request{Ref: kms.Ref{Name: "app/key"}})
	if first := <-changes; first.VersionID != "v1" {
		t.Error(first)
	}
	s.Put(kms.Ref{Name: "app/key"}, kms.Secret{Name: "app/key", VersionID: "v2", Data: []byte("x")}, time.Now())
	if next := <-changes; next.VersionID != "v2" {
		t.Error(next)
	}
}
