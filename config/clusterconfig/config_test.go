package clusterconfig

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const smallInjector = `
accountID: "1234567890123456"
clusterID: c0ffee
region: cn-hangzhou
agent: {image: kms-agent:v1}
`

func TestRead(t *testing.T) {
	in, err := Read([]byte(smallInjector))
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
	if allow := in.Allow; !allow.Role("acs:ram::1234567890123456:role/reader") || allow.Role("acs:ram::666:role/reader") ||
		!allow.Secret("app/prod/db") || allow.Region("cn-beijing") || allow.Endpoint("evil.example.com") || !*allow.PodRoles {
		t.Errorf("unexpected defaults: %+v", allow)
	}
}

// What an entry says counts, and what it leaves out stays.
func TestIn(t *testing.T) {
	in, err := Read([]byte(`
accountID: "1234567890123456"
clusterID: c0ffee
region: cn-hangzhou
network: public
agent: {image: "kms-agent:v1", limits: {memory: 64Mi, cpu: "1"}, metricsPort: 9464, narrowSessions: true, imageVolume: true,
  imagePullSecrets: [pull], earlierImages: ["kms-agent:v0.*"], lateContainers: true, minRefreshInterval: 1m, maxSecrets: 20}
allow: {secrets: ["shared/*"], identities: [node-role, "access-key:kms-*"]}
namespaces:
- names: [team-a-*]
  allow: {podRoles: false, secrets: [team-a/*, "acs:kms:*:secret/team-a/*"], identities: []}
  agent: {limits: {memory: 128Mi}, nativeSidecar: never, metricsPort: 0, narrowSessions: false, imageVolume: false, imagePullSecrets: [],
    earlierImages: [], lateContainers: false, minRefreshInterval: 20s, maxSecrets: 0, volumeSize: 1Mi}
- selector: {matchLabels: {team: b}}
  allow: {regions: [cn-beijing], identities: [client-key]}
  agent: {image: "kms-agent:v2", mode: single, imagePullPolicy: Always, requests: {cpu: 1m}, maxLimits: {memory: 1Gi}}
`))
	if err != nil {
		t.Fatal(err)
	}
	if in.KMS.Endpoint != "kms.cn-hangzhou.aliyuncs.com" {
		t.Errorf("public KMS host: %q", in.KMS.Endpoint)
	}
	a, b := in.In(in.Namespaces[0]), in.In(in.Namespaces[1])
	if diff := cmp.Diff(AgentDefaults{
		Image: "kms-agent:v1", Requests: map[string]string{"cpu": "10m", "memory": "24Mi"},
		Limits:     map[string]string{"cpu": "1", "memory": "128Mi"},
		VolumeSize: "1Mi", NativeSidecar: NativeNever, Mode: "sidecar", NarrowSessions: "false", ImageVolume: new(false), MetricsPort: new(0),
		MinRefreshInterval: new(config.Duration(20 * time.Second)), MaxSecrets: new(0),
		ImagePullSecrets: []string{}, EarlierImages: []string{}, LateContainers: new(false),
	}, a.Agent); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(AgentDefaults{
		Image: "kms-agent:v2", ImagePullPolicy: "Always", Requests: map[string]string{"cpu": "1m", "memory": "24Mi"},
		Limits:    map[string]string{"cpu": "1", "memory": "64Mi"},
		MaxLimits: map[string]string{"memory": "1Gi"}, VolumeSize: "16Mi", NativeSidecar: NativeAuto, Mode: "single",
		NarrowSessions: "true",
		ImageVolume:    new(true), MetricsPort: new(9464), MinRefreshInterval: new(config.Duration(time.Minute)), MaxSecrets: new(20),
		ImagePullSecrets: []string{"pull"}, EarlierImages: []string{"kms-agent:v0.*"}, LateContainers: new(true),
	}, b.Agent); diff != "" {
		t.Error(diff)
	}
	if allow := a.Allow; *allow.PodRoles || !allow.Secret("team-a/db") || !allow.Secret("acs:kms:cn-hangzhou:1:secret/team-a/db") ||
		allow.Secret("shared/db") || allow.Region("cn-beijing") {
		t.Errorf("team a: %+v", allow)
	}
	if allow := b.Allow; !*allow.PodRoles || allow.Secret("team-a/db") || !allow.Secret("shared/db") || !allow.Region("cn-beijing") {
		t.Errorf("team b: %+v", allow)
	}
	for _, c := range []struct {
		where    Config
		identity config.Identity
		want     bool
	}{
		{in, config.Identity{}, true},
		{in, config.Identity{Kind: config.NodeRole}, true},
		{in, config.Identity{Kind: config.AccessKey, Secret: "kms-a"}, true},
		{in, config.Identity{Kind: config.AccessKey, Secret: "other"}, false},
		{in, config.Identity{Kind: config.ClientKey, Secret: "kms-a"}, false},
		{a, config.Identity{}, true},
		{a, config.Identity{Kind: config.NodeRole}, false},
		{b, config.Identity{Kind: config.ClientKey, Secret: "any"}, true},
		{b, config.Identity{Kind: config.NodeRole}, false},
	} {
		if got := c.where.Allow.Identity(c.identity); got != c.want {
			t.Errorf("%s where %q are allowed: %v", c.identity, c.where.Allow.Identities, got)
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

func TestReadMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		document string
		want     []string
	}{
		"empty":    {"", []string{"accountID: is missing", "region: is missing", "agent.image: is missing"}},
		"not YAML": {"a: [", []string{"not YAML"}},
		"durations": {"sts: {sessionDuration: 1d}\nagent: {image: x, minRefreshInterval: 5}\n",
			[]string{`line 1: "1d" is not a duration; write for example`, `line 2: "5" is not a duration`}},
		"a typo":      {smallInjector + "acount: 1\n", []string{`there is no field "acount"`}},
		"no cluster":  {"accountID: '1'\nregion: cn-hangzhou\nagent: {image: x}\n", []string{"clusterID: is missing"}},
		"an endpoint": {smallInjector + "kms: {endpoint: 'https://kms'}\n", []string{"kms.endpoint"}},
		"network":     {smallInjector + "network: vpn\n", []string{`did you mean "vpc"?`}},
		"a quantity": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, limits: {memory: lots}, requests: {gpu: " +
			"'1'}}\n", []string{"agent.limits.memory", "agent.requests.gpu"}},
		"a pull secret": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, imagePullSecrets: [pull, shop/pull]}\n",
			[]string{"agent.imagePullSecrets[1]", "registry-credentials"}},
		"a pull policy": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, imagePullPolicy: Sometimes}\n",
			[]string{"agent.imagePullPolicy"}},
		"an identity": {smallInjector + "allow: {identities: [rrsa, node-rol, 'node-role:x', 'access-key:']}\n",
			[]string{"4 mistakes", "allow.identities[0]", `did you mean "node-role"?`}},
		"of a namespace": {smallInjector + "namespaces: [{names: [a], allow: {identities: [x]}}]\n",
			[]string{"namespaces[0].allow.identities[0]"}},
		"a mode": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, mode: singel}\n",
			[]string{"agent.mode", `did you mean "single"?`}},
		"two authorities": {smallInjector + "kms: {caFile: a, caConfigMap: {name: a}}\nsts: {caConfigMap: {key: x}}\n",
			[]string{"kms.caConfigMap: contradicts kms.caFile", "sts.caConfigMap.name"}},
		"no key": {smallInjector + "sts: {caConfigMap: {name: kms-ca, key: a/b}}\n", []string{"sts.caConfigMap.key", "write for example ca.crt"}},
		"metrics": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, metricsPort: 80}\n",
			[]string{"agent.metricsPort"}},
		"metrics, taken": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, metricsPort: 2025}\n",
			[]string{"is the port of the agents' API"}},
		"sessions": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, narrowSessions: prefered}\n",
			[]string{"agent.narrowSessions", `did you mean "preferred"?`}},
		"a floor": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, minRefreshInterval: 5s, maxSecrets: -1}\n",
			[]string{"agent.minRefreshInterval: 5s is shorter than 10s", "agent.maxSecrets"}},
		"a short session": {smallInjector + "sts: {sessionDuration: 10m}\n",
			[]string{"sts.sessionDuration: 10m0s is not from 15m to 12h", "MaxSessionDuration"}},
		"a long session":   {smallInjector + "sts: {sessionDuration: 13h}\n", []string{"sts.sessionDuration: 13h0m0s is not from 15m to 12h"}},
		"an odd session":   {smallInjector + "sts: {sessionDuration: 901.5s}\n", []string{"in whole seconds"}},
		"a session's typo": {smallInjector + "sts: {sesionDuration: 1h}\n", []string{`did you mean "sessionDuration"?`}},
		"nameless":         {smallInjector + "namespaces: [{allow: {secrets: ['*']}}]\n", []string{"namespaces[0]: matches no namespace"}},
		"of old": {"accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: x, nativeSidecar: true}\n",
			[]string{`agent.nativeSidecar: "true" is not one of auto, always, never`}},
		"an empty selector": {smallInjector + "namespaces: [{selector: {}}]\n",
			[]string{"namespaces[0].selector: is empty and would match every namespace"}},
		"an operator": {smallInjector + "namespaces: [{selector: {matchExpressions: [{key: a, operator: in, values: [b]}]}}]\n",
			[]string{`namespaces[0].selector.matchExpressions[0].operator`, `did you mean "In"?`}},
		"no values": {smallInjector + "namespaces: [{selector: {matchExpressions: [{key: a, operator: NotIn}, {operator: In}]}}]\n",
			[]string{"matchExpressions[0].values", "matchExpressions[1].key"}},
		"needless values": {smallInjector + "namespaces: [{selector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]\n",
			[]string{"matchExpressions[0].values", "operator: In"}},
		"a selector's typo": {smallInjector + "namespaces: [{selector: {matchLabel: {a: b}}}]\n", []string{`did you mean "matchLabels"?`}},
		"an agent": {smallInjector + "namespaces: [{names: [a], agent: {limits: {memory: lots}, nativeSidecar: no, metricsPort: 80}}]\n",
			[]string{"namespaces[0].agent.limits.memory", "namespaces[0].agent.nativeSidecar", "namespaces[0].agent.metricsPort"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Read([]byte(c.document))
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

func TestAllowsImage(t *testing.T) {
	for _, c := range []struct {
		image, other string
		earlier      []string
		want         bool
	}{
		{"reg:5000/a/kms-agent:v1", "reg:5000/a/kms-agent:v2@sha256:0", nil, true},
		{"reg:5000/a/kms-agent:v1", "reg:5000/a/kms-agent", nil, true},
		{"reg:5000/a/kms-agent:v1", "reg/a/kms-agent:v1", nil, false},
		{"reg:5000/a/kms-agent:v1", "reg:5000/a/kms-agent/x:v1", nil, false},
		{"kms-agent:v1", "kms-agent:v2", nil, true},
		{"kms-agent:v1", "kms-agent:5000/x", nil, false},
		{"kms-agent:v1", "kms-agent:v2", []string{}, false},
		{"kms-agent:v1", "kms-agent:v1", []string{}, true},
		{"kms-agent:v1", "mirror/kms-agent:v0", []string{"mirror/*"}, true},
	} {
		if got := (AgentDefaults{Image: c.image, EarlierImages: c.earlier}).AllowsImage(c.other); got != c.want {
			t.Errorf("%s allows %s with %q: %v", c.image, c.other, c.earlier, got)
		}
	}
}
