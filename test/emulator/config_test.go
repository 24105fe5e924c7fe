package emulator

import (
	"os"
	"slices"
	"strings"
	"testing"
)

func TestExample(t *testing.T) {
	text, err := os.ReadFile("example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	// The example's files are those of a pod.
	ca := t.TempDir() + "/ca.crt"
	config, err := ParseConfig([]byte(strings.ReplaceAll(string(text), "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt", ca)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(config); err == nil || !strings.Contains(err.Error(), ca) {
		t.Errorf("got %v, want an error about %s", err, ca)
	}
	config.OIDCProviders[0].JWKS.CAFile = ""
	e, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range e.Secrets() {
		names = append(names, s.Name)
	}
	if want := []string{"app/dev/api-key", "app/dev/certificate", "app/dev/db", "app/dev/rds", "app/prod/db"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if _, ok := e.ram.provider("acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee"); !ok {
		t.Error("no OIDC provider")
	}
	if r, ok := e.ram.role("acs:ram::1234567890123456:role/dev-role-for-rrsa"); !ok || len(r.permissions) != 1 {
		t.Error("no role with its policy")
	}
}

func TestRefusedConfigs(t *testing.T) {
	const account = "account: \"1\"\n"
	for want, text := range map[string]string{
		"want the digits":          "account: \"\"",
		"field roels not found":    account + "roels: []",
		"one YAML document":        account + "---\naccount: \"2\"",
		"access key needs id":      account + "users: [{name: a, accessKeys: [{id: x}]}]",
		"key x is listed twice":    account + "users: [{name: a, accessKeys: [{id: x, secret: y}, {id: x, secret: z}]}]",
		"user acs:ram::1:user/a":   account + "users: [{name: a}, {name: a}]",
		"there is no role":         account + "node: {role: a}",
		"want an id of lower-case": account + "instances: [{id: A.b}]",
		"want id and certificate":  account + "instances: [{id: a, accessPoints: [{clientKeys: [{id: k}]}]}]",
		"is listed twice":          account + "secrets: [{name: a, text: x}, {name: a, text: y}]",
		"want text or binary":      account + "secrets: [{name: a}]",
		"on two versions": account + "secrets: [{name: a, versions: [{text: x, stages: [ACSCurrent]}, {text: y, stages: " +
			"[ACSCurrent]}]}]",
		"no version has the stage": account + "secrets: [{name: a, versions: [{text: x, stages: []}]}]",
		"version v1 is listed":     account + "secrets: [{name: a, versions: [{id: v1, text: x}, {id: v1, text: y}]}]",
		"either a value or versio": account + "secrets: [{name: a, text: x, versions: [{text: y}]}]",
		"only managed secrets":     account + "secrets: [{name: a, text: x, rotationInterval: 1s}]",
		"want seconds":             account + "secrets: [{name: a, text: x, type: Rds, automaticRotation: Enabled}]",
		"Enabled, Disabled or":     account + "secrets: [{name: a, text: x, type: Rds, automaticRotation: true}]",
		"at most 20":               account + "secrets: [{name: a, text: x, tags: {" + tags(21) + "}}]",
		"at most 128":              account + "secrets: [{name: a, text: x, tags: {" + strings.Repeat("k", 129) + ": x}}]",
		"the cloud's own":          account + "secrets: [{name: a, text: x, tags: {\"acs:a\": x}}]",
		"trust policy":             account + "roles: [{name: a}]",
		"want 3600 to 43200":       account + "roles: [{name: a, maxSessionDuration: 900}]",
		"want an https address":    account + "oidcProviders: [{name: a, issuer: x}]",
		"holds no key":             account + "oidcProviders: [{name: a, issuer: 'https://x', jwks: {document: '{}'}}]",
		"one of document, file":    account + "oidcProviders: [{name: a, issuer: 'https://x', jwks: {document: x, url: y}}]",
	} {
		config, err := ParseConfig([]byte(text))
		if err == nil {
			_, err = New(config)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestAllMistakesAreReported(t *testing.T) {
	config, err := ParseConfig([]byte(`{account: "1", roles: [{name: "a b"}], secrets: [{name: "c d", type: x}]}`))
	if err != nil {
		t.Fatal(err)
	}
	_, err = New(config)
	for _, want := range []string{`name "a b"`, "trust policy", `name "c d"`, `type "x"`, "value is missing"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s in it", err, want)
		}
	}
}

func tags(n int) string {
	var list []string
	for i := range n {
		list = append(list, strings.Repeat("k", i+1)+": v")
	}
	return strings.Join(list, ", ")
}
