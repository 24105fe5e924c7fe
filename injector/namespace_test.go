package injector_test

import (
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

const scoped = `
accountID: "1234567890123456"
clusterID: c0ffee
region: cn-hangzhou
agent: {image: base}
namespaces:
- {names: [ops], agent: {image: ops}}
- {names: [team-*], selector: {matchLabels: {tier: gold}, matchExpressions: [{key: stage, operator: NotIn, values: [dev]}]},
   agent: {image: gold}}
- {selector: {matchExpressions: [{key: virtual, operator: Exists}]}, agent: {image: virtual}}
- {names: [team-*], agent: {image: team}}
- {selector: {matchExpressions: [{key: managed, operator: DoesNotExist}, {key: zone, operator: In, values: [a, b]}]}, agent: {image: zone}}
`

func TestIn(t *testing.T) {
	policy, err := clusterconfig.Read([]byte(scoped))
	if err != nil {
		t.Fatal(err)
	}
	in, err := injector.New(policy, "v1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		namespace string
		labels    map[string]string
		image     string
		byLabels  bool
	}{
		{"shop", nil, "base", true},
		{"ops", map[string]string{"virtual": ""}, "ops", false},
		{"team-a", map[string]string{"tier": "gold"}, "gold", true},
		{"team-a", map[string]string{"tier": "gold", "stage": "dev"}, "team", true},
		{"team-a", map[string]string{"tier": "gold", "stage": "dev", "virtual": "yes"}, "virtual", true},
		{"shop", map[string]string{"tier": "gold"}, "base", true},
		{"shop", map[string]string{"zone": "b"}, "zone", true},
		{"shop", map[string]string{"zone": "b", "managed": ""}, "base", true},
	} {
		image, byLabels := in.Of(c.namespace, c.labels)
		if image != c.image {
			t.Errorf("%s %v: %s, want %s", c.namespace, c.labels, image, c.image)
		}
		if byLabels != c.byLabels {
			t.Errorf("%s needs its labels: %v", c.namespace, byLabels)
		}
	}
}

// A document of which one entry would make no valid pod is refused as a whole, and says which.
func TestEntryThatCannotBeUsed(t *testing.T) {
	for name, c := range map[string]struct{ entry, want string }{
		"request above the limit": {"{names: [a], agent: {requests: {memory: 1Gi}}}",
			"namespaces[0].agent.requests.memory: 1Gi is more than agent.limits.memory, 64Mi"},
		"a label's key":   {"{selector: {matchLabels: {'a b': c}}}", "namespaces[0].selector"},
		"a label's value": {"{selector: {matchExpressions: [{key: a, operator: In, values: ['b c']}]}}", "namespaces[0].selector"},
	} {
		t.Run(name, func(t *testing.T) {
			policy, err := clusterconfig.Read([]byte("accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: base}\nnamespaces: [" +
				c.entry + "]\n"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := injector.New(policy, "v1"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestNativeSidecars: auto is what the cluster can, in each namespace.
func TestNativeSidecars(t *testing.T) {
	policy, err := clusterconfig.Read([]byte("{accountID: '1', clusterID: c, region: cn-hangzhou, agent: {image: base}, namespaces: [" +
		"{names: [a], agent: {nativeSidecar: never}}, {names: [b], agent: {nativeSidecar: always}}, {names: [c], agent: {nativeSidecar: " +
		"auto}}, {names: [d]}]}"))
	if err != nil {
		t.Fatal(err)
	}
	in, err := injector.New(policy, "v1")
	if err != nil {
		t.Fatal(err)
	}
	pod, err := injector.DecodePod([]byte(`{"metadata":{"annotations":{"kms.alibabacloud.com/inject":"true",` +
		`"kms.alibabacloud.com/secret.db":"app/db"}},"spec":{"containers":[{"name":"web","command":["/web"]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	for plain, want := range map[bool]map[string]bool{
		false: {"a": false, "b": true, "c": true, "d": true},
		true:  {"a": false, "b": true, "c": false, "d": false},
	} {
		for namespace, native := range want {
			d, err := in.Decide(t.Context(), injector.Request{Namespace: namespace, Pod: pod, PlainSidecars: plain}, oneRole{})
			if err != nil || d.Refused() != nil {
				t.Fatal(err, d.Refused())
			}
			if got := strings.Contains(string(d.Patch), `"restartPolicy":"Always"`); got != native {
				t.Errorf("plain sidecars %v, namespace %s: native %v", plain, namespace, got)
			}
		}
	}
}
