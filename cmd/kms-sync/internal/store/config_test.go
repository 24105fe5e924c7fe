package store

import (
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
)

const account = `{accountID: "1234567890123456", clusterID: c0ffee, region: cn-hangzhou, `

func TestConfig(t *testing.T) {
	c, err := Read([]byte(account + `controllerNamespaces: [{names: [shop, team-*]}, {selector: {matchLabels: {sync: borrowed}}}],
		nodeRole: true, allow: {secrets: [app/*]}, namespaces: [{names: [prod], allow: {secrets: [prod/*], roles: ["acs:ram::999:role/*"]}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.OIDCProviderARN != "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee" || !c.NodeRole || c.CrossNamespaceStores ||
		c.KMS.Endpoint != "kms-vpc.cn-hangzhou.aliyuncs.com" || c.STS.Endpoint != "sts-vpc.cn-hangzhou.aliyuncs.com" {
		t.Errorf("%+v", c)
	}
	p, err := c.compile()
	if err != nil {
		t.Fatal(err)
	}
	for name, served := range map[string]bool{"shop": true, "team-a": true, "shops": false, "kube-system": false} {
		if p.serves(namespace{name: name}) != served {
			t.Errorf("namespace %s served: %t", name, !served)
		}
	}
	if !p.serves(namespace{"any", labels.Set{"sync": "borrowed"}}) {
		t.Error("the selector chooses nothing")
	}
	prod, other := p.allow(namespace{name: "prod"}), p.allow(namespace{name: "other"})
	if !prod.Secret("prod/db") || prod.Secret("app/db") || !prod.Role("acs:ram::999:role/x") || !other.Secret("app/db") ||
		other.Role("acs:ram::999:role/x") || !other.Role("acs:ram::1234567890123456:role/x") {
		t.Errorf("prod %+v, other %+v", prod, other)
	}
	for _, host := range []string{"kms.cn-beijing.aliyuncs.com", "kms-vpc.cn-beijing.aliyuncs.com", "kst-1.cryptoservice.kms.aliyuncs.com"} {
		if !prod.Endpoint(host) {
			t.Errorf("%s is not allowed", host)
		}
	}
	if prod.Endpoint("evil.example.com") {
		t.Error("any host is allowed")
	}
}

func TestConfigMistakes(t *testing.T) {
	for document, says := range map[string]string{
		`{`:                                "not YAML",
		account + `secrets: []}`:           "secrets",
		`{region: cn-hangzhou}`:            "accountID: is missing",
		account + `agent: {image: x}}`:     "agent: is about pods; remove it",
		account + `allow: {regions: [x]}}`: "allow.regions: is about pods",
		account + `namespaces: [{names: [a], allow: {identities: [node-role]}}]}`: "namespaces[0].allow.identities: is about pods",
		account + `kms: {caConfigMap: {name: ca}}}`:                               "kms.caConfigMap: is in the namespaces of pods",
		account + `controllerNamespaces: [{}]}`:                                   "controllerNamespaces[0] matches no namespace",
		account + `controllerNamespaces: [{selector: ` +
			`{matchExpressions: [{key: a, operator: Like}]}}]}`: "controllerNamespaces[0].selector",
	} {
		if _, err := Read([]byte(document)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want %s", document, err, says)
		}
	}
}

// TestWho: identities that differ in anything are not equal, and none says more of itself than names.
func TestWho(t *testing.T) {
	all := []Who{
		{Kind: ServiceAccount, Namespace: "shop", Name: "web", Role: "r"}, {Kind: ServiceAccount, Namespace: "other", Name: "web", Role: "r"},
		{Kind: ServiceAccount, Namespace: "shop", Name: "web", Role: "s"},
		{Kind: ServiceAccount, Namespace: "shop", Name: "web", Role: "r", Remote: "x"}, {Kind: Controller, Role: "r"}, {Kind: Environment},
		{Kind: NodeRole}, {Kind: AccessKey, Secrets: "Secret shop/key key id"},
	}
	words := map[string]bool{}
	for _, w := range all {
		words[w.String()] = true
	}
	if len(words) != len(all) || slices.Contains(all[1:], all[0]) {
		t.Errorf("%v", words)
	}
	if s := all[3].String(); s != "x (through r (ServiceAccount shop/web))" {
		t.Errorf("%s", s)
	}
}
