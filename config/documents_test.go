package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestAgentRoundTrip(t *testing.T) {
	want := Agent{
		Namespace: "prod", ServiceAccount: "web", KMS: Endpoint{Host: "kms-vpc.cn-hangzhou.aliyuncs.com", CABundle: "PEM"},
		SecretsDir: "/var/run/kms/secrets", StateDir: "/var/run/kms/agent", ViewDirs: []string{"/v/1"}, RefreshInterval: Duration(5 * time.Minute), LogLevel: "info", LogFormat: "json",
		Identity: Identity{Kind: NodeRole}, SessionPolicy: true, OnChange: "signal:HUP:web", MetricsPort: 9464,
		API: &LocalAPI{Port: 2025, Allow: []string{"app/*"}, TokenFile: "/var/run/kmstoken/token"},
		Files: []File{
			{Path: "conf/db.env", Mode: 0o440, Secret: "app/db", Format: Env, Keys: []Key{{"A", "b"}}, Optional: true, Dirs: []string{"/v/1"}},
			{Path: "t", Mode: 0o440, Format: Template, Template: "x", From: []Source{{"db", "app/db"}}, RoleARN: "acs:ram::1:role/x", OnChange: "http://127.0.0.1:1/"},
		},
		Env: []Variable{{"KEY", "app/key", ""}, {"DB", "app/db", "a.b"}}, EnvMode: 0o400, Program: Program,
	}
	text, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	for _, readable := range []string{`"5m0s"`, `"0440"`} {
		if !strings.Contains(string(text), readable) {
			t.Errorf("%s is not in %s", readable, text)
		}
	}
	got, err := ReadAgent(text)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadAgentMistakes(t *testing.T) {
	for name, c := range map[string]struct{ document, want string }{
		"empty":           {"", "KMS_AGENT_CONFIG is empty"},
		"a newer field":   {`{"newer": 1}`, "newer"},
		"two documents":   {`{"kms":{}} {}`, "something follows"},
		"nothing to do":   {`{"kms":{"host":"h"},"secretsDir":"/a","stateDir":"/b"}`, "files: is empty"},
		"a path leaves":   {`{"kms":{"host":"h"},"secretsDir":"/a","stateDir":"/b","files":[{"path":"../x","mode":"0400","secret":"s","format":"raw"}]}`, "files[0].path"},
		"only an API":     {`{"kms":{"host":"h"},"secretsDir":"/a","stateDir":"/b","api":{"port":1,"socket":"s"}}`, "api: must have a port or a socket, and not both"},
		"an identity":     {`{"identity":{"kind":"root"}}`, "identity.kind"},
		"two sources":     {`{"files":[{"path":"x","mode":"0400","secret":"s","from":[{"name":"a","secret":"b"}],"format":"template","template":"x"}]}`, "files[0].from"},
		"no template":     {`{"files":[{"path":"x","mode":"0400","secret":"s","format":"template"}]}`, "files[0].template"},
		"notification":    {`{"onChange":"http://example.com/"}`, "onChange"},
		"unknown format":  {`{"kms":{"host":"h"},"secretsDir":"/a","stateDir":"/b","files":[{"path":"x","mode":"0400","secret":"s","format":"ini"}]}`, "files[0].format"},
		"an unknown view": {`{"viewDirs":["/a"],"files":[{"path":"x","mode":"0400","secret":"s","format":"raw","dirs":["/b"]}]}`, "files[0].dirs"},
		"a variable":      {`{"env":[{"name":"1","secret":"s"}]}`, "env[0]"},
		"a bad mode":      {`{"files":[{"mode":"9"}]}`, "in octal"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadAgent([]byte(c.document))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want something with %q", err, c.want)
			}
		})
	}
}

const smallInjector = `
accountID: "1234567890123456"
clusterID: c0ffee
region: cn-hangzhou
agent: {image: kms-agent:v1}
`

func TestReadInjector(t *testing.T) {
	in, err := ReadInjector([]byte(smallInjector))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ what, got, want string }{
		{"OIDC provider", in.OIDCProviderARN, "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee"},
		{"KMS", in.KMS.Endpoint, "kms-vpc.cn-hangzhou.aliyuncs.com"},
		{"STS", in.STS.Endpoint, "sts-vpc.cn-hangzhou.aliyuncs.com"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	if allow := in.AllowIn("any"); !allow.Role("acs:ram::1234567890123456:role/reader") || allow.Role("acs:ram::666:role/reader") ||
		!allow.Secret("app/prod/db") || allow.Region("cn-beijing") || allow.Endpoint("evil.example.com") || !*allow.PodRoles {
		t.Errorf("unexpected defaults: %+v", allow)
	}
}

func TestAllowIn(t *testing.T) {
	in, err := ReadInjector([]byte(smallInjector + `
network: public
allow: {secrets: ["shared/*"]}
namespaces:
- names: ["team-a-*"]
  allow: {podRoles: false, secrets: ["team-a/*", "*:secret/team-a/*"]}
- names: ["*"]
  allow: {regions: [cn-beijing]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if in.KMS.Endpoint != "kms.cn-hangzhou.aliyuncs.com" {
		t.Errorf("public KMS host: %q", in.KMS.Endpoint)
	}
	a, b := in.AllowIn("team-a-dev"), in.AllowIn("team-b")
	if *a.PodRoles || !a.Secret("team-a/db") || !a.Secret("acs:kms:cn-hangzhou:1:secret/team-a/db") || a.Secret("shared/db") || a.Region("cn-beijing") {
		t.Errorf("team-a: %+v", a)
	}
	if !*b.PodRoles || b.Secret("team-a/db") || !b.Secret("shared/db") || !b.Region("cn-beijing") {
		t.Errorf("team-b: %+v", b)
	}
}

func TestAllowedIdentities(t *testing.T) {
	in, err := ReadInjector([]byte(smallInjector + `
allow: {identities: [node-role, "access-key:kms-*"]}
namespaces:
- names: [strict]
  allow: {identities: []}
- names: [legacy]
  allow: {identities: [client-key]}
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		namespace string
		identity  Identity
		want      bool
	}{
		{"shop", Identity{}, true},
		{"shop", Identity{Kind: NodeRole}, true},
		{"shop", Identity{AccessKey, "kms-a"}, true},
		{"shop", Identity{AccessKey, "other"}, false},
		{"shop", Identity{ClientKey, "kms-a"}, false},
		{"strict", Identity{}, true},
		{"strict", Identity{Kind: NodeRole}, false},
		{"legacy", Identity{ClientKey, "any"}, true},
		{"legacy", Identity{Kind: NodeRole}, false},
	} {
		if got := in.AllowIn(c.namespace).Identity(c.identity); got != c.want {
			t.Errorf("%s in %s: %v", c.identity, c.namespace, got)
		}
	}
}

// What SecretsOf lets pass can never be a way around Secret.
func TestAllowedPatterns(t *testing.T) {
	for _, c := range []struct {
		allowed, pattern string
		want             bool
	}{
		{"*", "*", true}, {"*", "app/*", true}, {"app/*", "app/*", true}, {"app/*", "app/prod/*", true}, {"app/*", "app/db", true},
		{"app/*", "*", false}, {"app/*", "app*", false}, {"app/*", "*/db", false}, {"app/db", "app/*", false}, {"app/*/db", "app/*", false},
		{"app/*/db", "app/x*/db", true}, {"*/db", "*db", false}, {"?", "*", false},
	} {
		if got := (Allow{Secrets: []string{c.allowed}}).SecretsOf(c.pattern); got != c.want {
			t.Errorf("%q where %q is allowed: %v", c.pattern, c.allowed, got)
		}
	}
	words := rapid.StringOfN(rapid.SampledFrom([]rune("ab*")), 0, 6, -1)
	rapid.Check(t, func(t *rapid.T) {
		allow := Allow{Secrets: rapid.SliceOfN(words, 1, 3).Draw(t, "allowed")}
		pattern := words.Draw(t, "pattern")
		name := pattern
		for strings.Contains(name, "*") {
			name = strings.Replace(name, "*", rapid.StringOfN(rapid.SampledFrom([]rune("ab")), 0, 3, -1).Draw(t, "part"), 1)
		}
		if allow.SecretsOf(pattern) && !allow.Secret(name) {
			t.Fatalf("%q covers %q, which is not allowed by %q", pattern, name, allow.Secrets)
		}
	})
}

func TestReadInjectorMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		document string
		want     []string
	}{
		"empty":          {"", []string{"accountID: is missing", "region: is missing", "agent.image: is missing"}},
		"not YAML":       {"a: [", []string{"not YAML"}},
		"a typo":         {smallInjector + "acount: 1\n", []string{`there is no field "acount"`}},
		"no cluster":     {"accountID: '1'\nregion: cn-hangzhou\nagent: {image: x}\n", []string{"clusterID: is missing"}},
		"an endpoint":    {smallInjector + "kms: {endpoint: 'https://kms'}\n", []string{"kms.endpoint"}},
		"network":        {smallInjector + "network: vpn\n", []string{`did you mean "vpc"?`}},
		"a quantity":     {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, limits: {memory: lots}, requests: {gpu: '1'}}\n", []string{"agent.limits.memory", "agent.requests.gpu"}},
		"a pull policy":  {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, imagePullPolicy: Sometimes}\n", []string{"agent.imagePullPolicy"}},
		"an identity":    {smallInjector + "allow: {identities: [rrsa, node-rol, 'node-role:x', 'access-key:']}\n", []string{"4 mistakes", "allow.identities[0]", `did you mean "node-role"?`}},
		"of a namespace": {smallInjector + "namespaces: [{names: [a], allow: {identities: [x]}}]\n", []string{"namespaces[0].allow.identities[0]"}},
		"metrics":        {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, metricsPort: 80}\n", []string{"agent.metricsPort"}},
		"metrics, taken": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, metricsPort: 2025}\n", []string{"is the port of the agents' API"}},
		"nameless":       {smallInjector + "namespaces: [{allow: {secrets: ['*']}}]\n", []string{"namespaces[0].names"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ReadInjector([]byte(c.document))
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in:\n%s", want, err)
				}
			}
		})
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"*", "a/b:c", true}, {"a*", "ab", true}, {"a*", "ba", false}, {"*a", "ba", true},
		{"a*b", "ab", true}, {"a*b", "a/x/b", true}, {"a*b", "ax", false}, {"a*b*c", "a1b2c", true}, {"a*b*c", "acb", false}, {"a*a", "a", false}, {"**", "x", true},
	} {
		if got := matches(c.pattern, c.s); got != c.want {
			t.Errorf("matches(%q, %q) = %v", c.pattern, c.s, got)
		}
	}
}
