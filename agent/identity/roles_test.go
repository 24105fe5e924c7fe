package identity

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const (
	keyID     = "LTAI5sentinelKey"
	keySecret = "sentinel-secret"
	readerARN = "acs:ram::1234567890123456:role/reader"
	remoteARN = "acs:ram::999:role/remote"
)

// cloud has a user whose key may assume the role reader, which may assume the role remote in another account; and a node.
func cloud(t *testing.T) *emulatortest.Server {
	t.Helper()
	issuer := emulatortest.NewIssuer(t, emulatortest.IssuerURL)
	c := emulatortest.Config(issuer)
	trust := func(principal string) string {
		return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":` + principal + `}]}`
	}
	const everything = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	c.Users = []emulator.User{{Name: "u", AccessKeys: []emulator.AccessKey{{ID: keyID, Secret: keySecret}}, Policies: []string{everything}}}
	c.Roles = append(c.Roles,
		emulator.Role{Name: "reader", TrustPolicy: trust(`{"RAM":"acs:ram::1234567890123456:root"}`), Policies: []string{everything}},
		emulator.Role{Name: "remote", Account: "999", TrustPolicy: trust(`{"RAM":"` + readerARN + `"}`)},
		emulator.Role{Name: "closed", Account: "999", TrustPolicy: trust(`{"RAM":"acs:ram::7:root"}`)},
		emulator.Role{Name: "node", TrustPolicy: trust(`{"Service":"ecs.aliyuncs.com"}`)},
	)
	c.Node.Role = "node"
	return emulatortest.StartConfig(t, issuer, c)
}

func where(s *emulatortest.Server) STS {
	return STS{Endpoint: s.Addr, Settings: openapi.Settings{Roots: emulatortest.Roots()}, SessionName: "shop.web.pod"}
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestSecondRole(t *testing.T) {
	s := cloud(t)
	first, err := accessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: where(s)})
	if err != nil {
		t.Fatal(err)
	}
	roles, err := NewRoles(first, readerARN, where(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	second := roles.Source(remoteARN)
	if again := roles.Source(remoteARN); again != second {
		t.Error("one role, two sources")
	}
	get(t, second)
	get(t, second)
	for _, role := range []string{readerARN, remoteARN} {
		if n := s.Calls().Sum(emulator.Call{Action: "AssumeRole", Role: role}); n != 1 {
			t.Errorf("%s was assumed %d times, want once", role, n)
		}
	}

	// Both sessions have been ended: the chain is renewed, once.
	s.ExpireSessions()
	s.ResetCalls()
	second.Invalidate(get(t, second))
	get(t, second)
	if n := s.Calls().Sum(emulator.Call{Code: "InvalidSecurityToken.Expired"}); n != 1 {
		t.Errorf("calls: %v", s.Calls())
	}

	closed := roles.Source("acs:ram::999:role/closed")
	_, err = closed.Credentials(t.Context())
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != "NoPermission" || refusal.Caller != readerARN ||
		refusal.RoleARN != "acs:ram::999:role/closed" {
		t.Errorf("got %v", err)
	}
}

func TestIdentitiesThatMissSomething(t *testing.T) {
	for _, x := range []struct {
		kind config.IdentityKind
		want []string
	}{
		{"", []string{config.RoleARNEnv, config.OIDCProviderARNEnv, config.OIDCTokenFileEnv}},
		{"access-key", []string{config.AccessKeyIDEnv, config.AccessKeySecretEnv}},
		{"client-key", []string{`identity "client-key"`}},
	} {
		_, err := open(x.kind, env(), STS{})
		for _, want := range x.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %s is not in: %v", x.kind, want, err)
			}
		}
	}
}

// An agent never falls back to another identity, although the environment has all that the others need.
func TestNoIdentityTakesTheOthersPlace(t *testing.T) {
	s := cloud(t)
	for name, value := range map[string]string{ // where the SDK's own chain of identities would look
		config.AccessKeyIDEnv: keyID, config.AccessKeySecretEnv: keySecret, config.NodeRoleEnv: "node",
		config.RoleARNEnv:         "acs:ram::999:role/closed",
		config.OIDCProviderARNEnv: emulatortest.ProviderARN, config.OIDCTokenFileEnv: s.Issuer.TokenFile(t, emulatortest.Subject),
	} {
		t.Setenv(name, value)
	}
	for kind, action := range map[config.IdentityKind]Action{config.RRSA: AssumeRoleWithOIDC, "access-key": AssumeRole} {
		s.ResetCalls()
		source, err := open(kind, os.Getenv, where(s))
		if err != nil {
			t.Fatal(err)
		}
		var refusal *Error
		if _, err = source.Credentials(t.Context()); !errors.As(err, &refusal) || refusal.Action != action || refusal.Code == "" {
			t.Errorf("%s: got %v", kind, err)
		}
		if calls := s.Calls(); calls.Sum(emulator.Call{}) != 1 || calls.Sum(emulator.Call{Action: string(action)}) != 1 {
			t.Errorf("%s: asked %v, want %s alone", kind, calls, action)
		}
	}
	s.ResetCalls()
	source, err := nodeRole(NodeRole{Name: "other", Proxy: s.StartMetadata(t)})
	if err != nil {
		t.Fatal(err)
	}
	var refusal *Error
	if _, err := source.Credentials(t.Context()); !errors.As(err, &refusal) || refusal.Action != GetNodeRole {
		t.Errorf("node-role: got %v", err)
	}
	if calls := s.Calls(); calls.Sum(emulator.Call{Action: string(AssumeRoleWithOIDC)})+
		calls.Sum(emulator.Call{Action: string(AssumeRole)}) != 0 {
		t.Errorf("node-role: asked %v", calls)
	}
}
