package webhook_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// owned is a pod of the controller with a uid.
func owned(p map[string]any, uid string) map[string]any {
	p["metadata"].(map[string]any)["ownerReferences"] = []any{
		map[string]any{"apiVersion": "example.com/v1", "kind": "Group", "name": "group", "uid": "not-a-controller"},
		map[string]any{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c", "uid": uid, "controller": true},
	}
	return p
}

func (f *fixture) create(t *testing.T, p map[string]any, dryRun bool) *admissionv1.AdmissionResponse {
	t.Helper()
	r, err := f.post(webhook.MutatePath, marshal(t, map[string]any{"request": map[string]any{
		"uid": "11111111-2222-3333-4444-555555555555", "operation": "CREATE", "namespace": "shop", "object": p, "dryRun": dryRun,
	}}))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestEvents: kubectl describe of a pod's controller shows the decision on the pod.
func TestEvents(t *testing.T) {
	f := start(t).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": shopRole})
	good := func() map[string]any { return pod("web", map[string]any{"secret.db": "app/db", "env.KEY": "app/key"}) }
	bad := func() map[string]any {
		return pod("web", map[string]any{"secret.db": "finance/db", "secret.b": "finance/b"})
	}

	// These must cause no events. They come before the others, so that a wrong event would be seen.
	f.create(t, owned(good(), "dry"), true)
	f.create(t, owned(bad(), "dry"), true)
	f.create(t, good(), false)
	f.create(t, bad(), false)
	f.create(t, owned(pod("web", map[string]any{"inject": "false"}), "said-no"), false)

	for range 3 {
		f.create(t, owned(good(), "good"), false)
	}
	if r := f.create(t, owned(bad(), "bad"), false); strings.Contains(r.Result.Message, "\n") {
		t.Errorf("kubectl get events would show a part of:\n%s", r.Result.Message)
	}
	eventually(t, "injected", func() error {
		return f.event("shop", "Injected", "good", "identity rrsa as "+shopRole+", for app/db, app/key")
	})
	eventually(t, "denied", func() error {
		return f.event("shop", "InjectionDenied", "bad",
			"look at kms.alibabacloud.com/secret.b, kms.alibabacloud.com/secret.db. The whole reason is in the FailedCreate event")
	})
	eventually(t, "counted", func() error {
		for _, e := range f.kube.Find("/api/v1/namespaces/shop/events/") {
			if e["reason"] == "Injected" && e["count"] == 3.0 && e["type"] == "Normal" {
				return nil
			}
		}
		return errors.New("no event with the count 3")
	})
	for _, e := range f.kube.Find("/api/v1/namespaces/shop/events/") {
		about := e["involvedObject"].(fakekube.Object)
		if about["kind"] != "ReplicaSet" || about["name"] != "web-5d9c" || about["apiVersion"] != "apps/v1" || about["uid"] != "good" &&
			about["uid"] != "bad" {
			t.Errorf("an event about %v: %v", about, e["message"])
		}
	}
}

// Events that cannot be sent hold up and fail nothing.
func TestEventsThatCannotBeSent(t *testing.T) {
	f := start(t).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": shopRole})
	f.kube.Break(func(method, path string) int {
		if method == http.MethodPost && strings.HasSuffix(path, "/events") {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	for i := range 1500 { // more than the queue holds
		if r := f.create(t, owned(pod("web", map[string]any{"secret.db": "app/db"}), fmt.Sprintf("set-%d", i)), false); !r.Allowed {
			t.Fatalf("pod %d: %s", i, r.Result.Message)
		}
	}
	eventually(t, "an attempt", func() error {
		if f.kube.Requests("POST /api/v1/namespaces/shop/events") == 0 {
			return errors.New("none yet")
		}
		return nil
	})
}
