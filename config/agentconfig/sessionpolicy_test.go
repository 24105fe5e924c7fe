package agentconfig

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

func TestSessionPolicies(t *testing.T) {
	const reader = "acs:ram::999:role/reader"
	remote := File{From: []config.Source{{Secret: "acs:kms:cn-hangzhou:999:secret/c"}}, RoleARN: reader}
	for name, c := range map[string]struct {
		agent Config
		want  map[string]string
	}{
		"both roles": {Config{
			Files: []File{{Secret: "b"}, {Secret: "a"}, {Secret: "b", VersionStage: "ACSPrevious"}, remote},
			Env:   []config.Variable{{Secret: "d"}}, API: &config.LocalAPI{Allow: []string{"shared/*"}},
		}, map[string]string{
			"": `{"Version":"1","Statement":[` +
				`{"Effect":"Allow","Action":"kms:GetSecretValue","Resource":["acs:kms:*:*:secret/a","acs:kms:*:*:secret/b",` +
				`"acs:kms:*:*:secret/d","acs:kms:*:*:secret/shared/*"]},` +
				`{"Effect":"Allow","Action":"kms:Decrypt","Resource":["*"]},` +
				`{"Effect":"Allow","Action":"sts:AssumeRole","Resource":["acs:ram::999:role/reader"]}]}`,
			reader: `{"Version":"1","Statement":[` +
				`{"Effect":"Allow","Action":"kms:GetSecretValue","Resource":["acs:kms:cn-hangzhou:999:secret/c"]},` +
				`{"Effect":"Allow","Action":"kms:Decrypt","Resource":["*"]}]}`,
		}},
		"a session that reads nothing": {Config{API: &config.LocalAPI{}}, map[string]string{
			"": `{"Version":"1","Statement":[{"Effect":"Deny","Action":"*","Resource":["*"]}]}`,
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := c.agent.SessionPolicies()
			if err != nil || len(got) != len(c.want) {
				t.Errorf("%v, %v", got, err)
			}
			for role, want := range c.want {
				if got[role] != want {
					t.Errorf("%q: got %s\nwant %s", role, got[role], want)
				}
			}
		})
	}
}

// STS refuses a policy of 2,049 characters. No session is wider instead.
func TestSessionPoliciesHaveALength(t *testing.T) {
	for _, role := range []string{"", "acs:ram::999:role/reader"} {
		var a Config
		fits := 0
		for len(a.Files) < 100 {
			a.Files = append(a.Files, File{Secret: fmt.Sprintf("app/prod/secret-%04d", len(a.Files)), RoleARN: role})
			policies, err := a.SessionPolicies()
			if err != nil {
				if !strings.Contains(err.Error(), "STS takes 2048") || role != "" && !strings.Contains(err.Error(), role) || policies != nil {
					t.Errorf("%v, %v", err, policies)
				}
				break
			}
			fits = len(policies[role])
		}
		if fits < 2000 || fits > 2048 {
			t.Errorf("%s: the longest has %d characters, of %d secrets", role, fits, len(a.Files))
		}
	}
}
