package identity

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

func TestSessionPolicy(t *testing.T) {
	got, ok := SessionPolicy([]string{"b", "a", "acs:kms:cn-hangzhou:999:secret/c", "b"}, []string{remoteARN})
	const want = `{"Version":"1","Statement":[` +
		`{"Effect":"Allow","Action":"kms:GetSecretValue","Resource":["acs:kms:*:*:secret/a","acs:kms:*:*:secret/b","acs:kms:cn-hangzhou:999:secret/c"]},` +
		`{"Effect":"Allow","Action":"kms:Decrypt","Resource":["*"]},` +
		`{"Effect":"Allow","Action":"sts:AssumeRole","Resource":["acs:ram::999:role/remote"]}]}`
	if !ok || got != want {
		t.Errorf("got %v %s", ok, got)
	}
	if got, ok := SessionPolicy(nil, nil); ok || got != "" {
		t.Errorf("nothing declared: %q", got)
	}
	longest := ""
	for n := 1; ; n++ {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("app/prod/secret-%04d", i)
		}
		policy, ok := SessionPolicy(names, nil)
		if !ok {
			t.Logf("%d secrets of %d characters fit", n-1, len(names[0]))
			break
		}
		longest = policy
	}
	if len(longest) > 2048 || len(longest) < 1900 {
		t.Errorf("the longest has %d characters", len(longest))
	}
}

func TestSessionPolicyReachesSTS(t *testing.T) {
	s := cloud(t)
	policy, _ := SessionPolicy([]string{"a"}, nil) // not remoteARN
	narrow := where(s)
	narrow.Policy = policy
	first, err := NewAccessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: narrow})
	if err != nil {
		t.Fatal(err)
	}
	roles, err := NewRoles(first, readerARN, where(s))
	if err != nil {
		t.Fatal(err)
	}
	second, err := roles.Source(remoteARN)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), "NoPermission") {
		t.Errorf("a narrowed session assumed a role: %v", err)
	}
	narrow.Policy = "{}"
	bad, err := NewAccessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: narrow})
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
		text, ok := SessionPolicy(declared, []string{remoteARN})
		if !ok {
			t.Fatal("five short names do not fit")
		}
		doc, err := policy.ParsePermissions(text)
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
	})
}
