package injector_test

import (
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

const scoped = `
accountID: "1234567890123456"
clusterID: c0ffee
region: cn-hangzhou
agent: {image: base}
namespaces:
- {names: [ops], agent: {image: ops}}
- {names: [team-*], selector: {matchLabels: {tier: gold}, matchExpressions: [{key: stage, operator: NotIn, values: [dev]}]}, agent: {image: gold}}
- {selector: {matchExpressions: [{key: virtual, operator: Exists}]}, agent: {image: virtual}}
- {names: [team-*], agent: {image: team}}
- {selector: {matchExpressions: [{key: managed, operator: DoesNotExist}, {key: zone, operator: In, values: [a, b]}]}, agent: {image: zone}}
`

func TestIn(t *testing.T) {
	policy, err := config.ReadInjector([]byte(scoped))
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
		if got := in.In(c.namespace, c.labels).Policy().Agent.Image; got != c.image {
			t.Errorf("%s %v: %s, want %s", c.namespace, c.labels, got, c.image)
		}
		if got := in.ByLabels(c.namespace); got != c.byLabels {
			t.Errorf("%s needs its labels: %v", c.namespace, got)
		}
	}
}

// A document of which one entry would make no valid pod is refused as a whole, and says which.
func TestEntryThatCannotBeUsed(t *testing.T) {
	for name, c := range map[string]struct{ entry, want string }{
		"request above the limit": {"{names: [a], agent: {requests: {memory: 1Gi}}}", "namespaces[0].agent.requests.memory: 1Gi is more than agent.limits.memory, 64Mi"},
		"a label's key":           {"{selector: {matchLabels: {'a b': c}}}", "namespaces[0].selector"},
		"a label's value":         {"{selector: {matchExpressions: [{key: a, operator: In, values: ['b c']}]}}", "namespaces[0].selector"},
	} {
		t.Run(name, func(t *testing.T) {
			policy, err := config.ReadInjector([]byte("accountID: '1'\nclusterID: c\nregion: cn-hangzhou\nagent: {image: base}\nnamespaces: [" + c.entry + "]\n"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := injector.New(policy, "v1"); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
