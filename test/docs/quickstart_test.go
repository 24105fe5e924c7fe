package docs

import (
	"slices"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// TestQuickstartPolicies asks the emulator's evaluator whether the two policies of a quickstart allow one ServiceAccount the tagged
// secrets, and nothing else.
func TestQuickstartPolicies(t *testing.T) {
	for _, p := range pages(t) {
		if p.File == "README.md" || p.File == "docs/quickstart.md" {
			t.Run(p.File, func(t *testing.T) { testPolicies(t, p) })
		}
	}
}

func testPolicies(t *testing.T, quickstart Page) {
	fill := strings.NewReplacer("<account>", "1234567890123456", "<cluster id>", "c0ffee", "<issuer>", "https://issuer.example",
		"<namespace>", "shop", "<service account>", "web")
	named := func(note string, parse func(string) (policy.Document, error)) []policy.Document {
		t.Helper()
		i := slices.IndexFunc(quickstart.Blocks, func(b Block) bool { return b.Note == note })
		if i < 0 {
			t.Fatalf("%s has no block %q", quickstart.File, note)
		}
		document, err := parse(fill.Replace(quickstart.Blocks[i].Text))
		if err != nil {
			t.Fatal(err)
		}
		return []policy.Document{document}
	}
	trust, permission := named("trust", policy.ParseTrust), named("permission", policy.ParsePermissions)
	assume := func(subject string) policy.Decision {
		return policy.Decide(trust, policy.Request{
			Action: "sts:AssumeRole", Federated: "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee",
			Context: map[string][]string{"oidc:aud": {"sts.aliyuncs.com"}, "oidc:iss": {"https://issuer.example"}, "oidc:sub": {subject}},
		})
	}
	if assume("system:serviceaccount:shop:web") != policy.Allow || assume("system:serviceaccount:shop:default") == policy.Allow {
		t.Error("the trust policy does not let in the one ServiceAccount, or lets in another")
	}
	get := func(env string) policy.Decision {
		return policy.Decide(permission, policy.Request{
			Action: "kms:GetSecretValue", Resource: "acs:kms:cn-hangzhou:1234567890123456:secret/shop/prod/db",
			Context: map[string][]string{"kms:tag/env": {env}},
		})
	}
	if get("prod") != policy.Allow || get("dev") == policy.Allow {
		t.Error("the permission policy does not allow what is tagged so, or allows what is not")
	}
}
