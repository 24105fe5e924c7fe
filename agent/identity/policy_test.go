package identity

import (
	"fmt"
	"strings"
	"testing"
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
