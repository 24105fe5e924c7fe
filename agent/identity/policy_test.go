package identity

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

func TestSessionPolicyReachesSTS(t *testing.T) {
	s := cloud(t)
	policies, err := agentconfig.Config{Files: []agentconfig.File{{Secret: "a"}}}.SessionPolicies() // not remoteARN
	if err != nil {
		t.Fatal(err)
	}
	narrow := where(s)
	narrow.Policy = policies[""]
	first, err := accessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: narrow})
	if err != nil {
		t.Fatal(err)
	}
	roles, err := NewRoles(first, readerARN, where(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	second := roles.Source(remoteARN)
	if _, err := second.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), "NoPermission") {
		t.Errorf("a narrowed session assumed a role: %v", err)
	}
	narrow.Policy = "{}"
	bad, err := accessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: narrow})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), "PolicyGrammar") {
		t.Errorf("got %v", err)
	}
}

// As RAM reads it, the policy allows what was declared and nothing else.
func TestSessionPolicyAllowsExactlyWhatIsDeclared(t *testing.T) {
	name := rapid.StringMatching(`[a-c/_+=.@-]{1,3}`)
	rapid.Check(t, func(t *rapid.T) {
		declared := rapid.SliceOfN(name, 1, 5).Draw(t, "declared")
		agent := agentconfig.Config{Files: []agentconfig.File{{Secret: "of-the-second", RoleARN: remoteARN}}}
		for _, secret := range declared {
			agent.Env = append(agent.Env, config.Variable{Secret: secret})
		}
		policies, err := agent.SessionPolicies()
		if err != nil {
			t.Fatal(err)
		}
		doc, err := policy.ParsePermissions(policies[""])
		if err != nil {
			t.Fatal(err)
		}
		second, err := policy.ParsePermissions(policies[remoteARN])
		if err != nil {
			t.Fatal(err)
		}
		asked := name.Draw(t, "asked")
		for request, want := range map[[2]string]bool{
			{"kms:GetSecretValue", "acs:kms:cn-hangzhou:1:secret/" + asked}: slices.Contains(declared, asked),
			{"kms:PutSecretValue", "acs:kms:cn-hangzhou:1:secret/" + asked}: false,
			{"kms:Decrypt", "acs:kms:cn-hangzhou:1:key/any"}:                true,
			{"sts:AssumeRole", remoteARN}:                                   true,
			{"sts:AssumeRole", readerARN}:                                   false,
		} {
			got := policy.Decide([]policy.Document{doc}, policy.Request{Action: request[0], Resource: request[1]})
			if (got == policy.Allow) != want {
				t.Fatalf("%v: %s, declared %q", request, got, declared)
			}
		}
		for secret, want := range map[string]bool{"of-the-second": true, asked: false} {
			got := policy.Decide([]policy.Document{second},
				policy.Request{Action: "kms:GetSecretValue", Resource: "acs:kms:cn-hangzhou:1:secret/" + secret})
			if (got == policy.Allow) != want {
				t.Fatalf("%s: %s by the second role", secret, got)
			}
		}
	})
}
