package webhook_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// TestNotOptedIn: in a namespace that has not opted in, no pod is refused, and a warning says that a pod will get no secrets.
func TestNotOptedIn(t *testing.T) {
	f := start(t).ready(t)
	good, bad := pod("missing", map[string]any{"secret.db": "app/db"}), pod("missing", map[string]any{"secrt.db": "app/db"})
	deployment := func(p map[string]any) map[string]any {
		return map[string]any{"spec": map[string]any{"template": p}}
	}
	const cure = "nothing will be injected: namespace shop has not opted in; run kubectl label namespace shop " +
		"kms.alibabacloud.com/injection=enabled"
	for _, c := range []struct {
		name   string
		labels map[string]any
		path   string
		object map[string]any
		want   []string // of the warnings
	}{
		{"a Deployment", nil, webhook.ValidatePath, deployment(good), []string{cure}},
		{"a pod", nil, webhook.BarePodsPath, good, []string{cure}},
		{"another value", map[string]any{"kms.alibabacloud.com/injection": "true"}, webhook.BarePodsPath, good, []string{
			"namespace shop has the label kms.alibabacloud.com/injection=true, which must be enabled"}},
		{"a mistake, too", nil, webhook.ValidatePath, deployment(bad),
			[]string{cure, "it would be refused otherwise: ", "did you mean kms.alibabacloud.com/secret.db?"}},
		{"a pod's mistake, too", nil, webhook.BarePodsPath, bad, []string{cure, "did you mean kms.alibabacloud.com/secret.db?"}},
		{"said no", nil, webhook.ValidatePath, deployment(pod("missing", map[string]any{"inject": "false", "secrt.db": "x"})), nil},
		{"a pod that said no", nil, webhook.BarePodsPath, pod("missing", map[string]any{"inject": "false"}), nil},
		{"a pod that is marked only", nil, webhook.BarePodsPath, pod("missing", map[string]any{"inject": nil, "injected": "v1"}), nil},
		{"opted in", map[string]any{"kms.alibabacloud.com/injection": "enabled"}, webhook.BarePodsPath, good, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			f.namespace("shop", c.labels)
			eventually(t, "the label", func() error { // the cache follows
				r := f.review(t, c.path, "CREATE", c.object, nil)
				said := strings.Join(r.Warnings, "; ")
				switch {
				case !r.Allowed:
					t.Fatalf("refused: %+v", r.Result)
				case c.want == nil && said != "":
					return fmt.Errorf("said %q", said)
				}
				for _, want := range c.want {
					if !strings.Contains(said, want) {
						return fmt.Errorf("said %q, want %q", said, want)
					}
				}
				return nil
			})
		})
	}
}
