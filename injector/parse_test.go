package injector_test

import (
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// TestParse: what the agent could not parse is a mistake of its annotation, beside all others.
func TestParse(t *testing.T) {
	for name, c := range map[string]struct {
		key, value string
		want       []string
	}{
		"key": {"secret.db", "{name: a, format: env, keys: {A: '[[x'}}",
			[]string{"secret.db: keys: A: ", "is not a JMESPath expression"}},
		"variable":  {"env.DB", "a#[[x", []string{"env.DB: ", "is not a JMESPath expression"}},
		"variables": {"env", "{DB: 'a#[[x'}", []string{"/env: DB: ", "is not a JMESPath expression"}},
		"template":  {"secret.db", "{name: a, format: template, template: '{{'}", []string{"secret.db: template line 1"}},
		"besides the field": {"secret.db", "{name: a, format: template, template: '{{', mode: x}",
			[]string{"2 mistakes", "mode: ", "template line 1"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, mistakes := injector.Parse(map[string]string{podconfig.Prefix + "inject": "true", podconfig.Prefix + c.key: c.value})
			for _, part := range c.want {
				if len(mistakes) == 0 || !strings.Contains(mistakes.Error(), part) {
					t.Errorf("%q is not in %v", part, mistakes)
				}
			}
		})
	}
}
