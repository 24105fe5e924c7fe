package doctor

import (
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// The policies to paste let in the one ServiceAccount, to the secrets of its pod, and no other.
func TestPolicies(t *testing.T) {
	const provider, issuer = "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee", "https://issuer.example/c0ffee"
	trust, err := policy.ParseTrust(trustPolicy(provider, issuer, "shop", "web"))
	if err != nil {
		t.Fatal(err)
	}
	for subject, want := range map[string]bool{"system:serviceaccount:shop:web": true, "system:serviceaccount:shop:default": false} {
		decision := policy.Decide([]policy.Document{trust},
			policy.Request{Action: "sts:AssumeRole", Federated: provider, Context: map[string][]string{
				"oidc:iss": {issuer}, "oidc:aud": {"sts.aliyuncs.com"}, "oidc:sub": {subject},
			}})
		if (decision == policy.Allow) != want {
			t.Errorf("%s: %v", subject, decision)
		}
	}
	permission, err := policy.ParsePermissions(permissionPolicy("cn-hangzhou", "1234567890123456",
		[]string{"shop/db", "acs:kms:cn-beijing:1:secret/other"}))
	if err != nil {
		t.Fatal(err)
	}
	for resource, want := range map[string]bool{
		"acs:kms:cn-hangzhou:1234567890123456:secret/shop/db": true, "acs:kms:cn-beijing:1:secret/other": true,
		"acs:kms:cn-hangzhou:1234567890123456:secret/shop/key": false,
	} {
		if decision := policy.Decide([]policy.Document{permission},
			policy.Request{Action: "kms:GetSecretValue", Resource: resource}); (decision == policy.Allow) != want {
			t.Errorf("%s: %v", resource, decision)
		}
	}
	if got := accountOf("acs:ram::1234567890123456:role/shop"); got != "1234567890123456" {
		t.Error(got)
	}
}
