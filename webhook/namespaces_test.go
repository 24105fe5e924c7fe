package webhook_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

const (
	shopRole = "acs:ram::1234567890123456:role/shop"
	byLabels = configuration + `
namespaces:
- {names: [other]}
- {selector: {matchLabels: {tier: gold}}, allow: {secrets: ["gold/*"]}, agent: {image: "registry.example/gold:v1", nativeSidecar: never}}
`
)

func (f *fixture) namespace(name string, labels map[string]any) {
	f.kube.Put("/api/v1/namespaces/"+name, fakekube.Object{"apiVersion": "v1", "kind": "Namespace",
		"metadata": fakekube.Object{"labels": labels}})
}

// TestPolicyByLabels: a namespace's labels choose its part of the document, as they are now, without a call in the common case.
func TestPolicyByLabels(t *testing.T) {
	f := start(t, func(f *fixture, _ *webhook.Options) {
		write(t, f.config, byLabels)
		f.namespace("shop", map[string]any{"tier": "gold", "kms.alibabacloud.com/injection": "enabled"})
		f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": shopRole})
	}).ready(t)

	gold := f.inject(t, pod("web", map[string]any{"secret.db": "gold/db"}))
	if c := gold.Spec.Containers[1]; c.Name != "kms-agent" || c.Image != "registry.example/gold:v1" {
		t.Errorf("the second container is %s of %s, want a plain sidecar of the namespace's image", c.Name, c.Image)
	}
	if r := f.review(t, webhook.MutatePath, "CREATE", pod("web", map[string]any{"secret.db": "app/db"}), nil); r.Allowed ||
		!strings.Contains(r.Result.Message, "gold/*") {
		t.Errorf("a secret of other namespaces: %+v", r.Result)
	}
	if n := f.kube.Requests("GET /api/v1/namespaces/shop") - f.kube.Requests("GET /api/v1/namespaces/shop/"); n != 0 {
		t.Errorf("the namespace was read %d times, although it is in the cache", n)
	}

	f.namespace("shop", map[string]any{"tier": "silver", "kms.alibabacloud.com/injection": "enabled"})
	eventually(t, "the label's change", func() error {
		if r := f.review(t, webhook.MutatePath, "CREATE", pod("web", map[string]any{"secret.db": "app/db"}), nil); !r.Allowed {
			return errors.New(r.Result.Message)
		}
		return nil
	})
	if native := f.inject(t, pod("web", map[string]any{"secret.db": "app/db"})); len(native.Spec.InitContainers) != 2 {
		t.Errorf("init containers %v", namesOf(native.Spec.InitContainers))
	}
}

// A namespace that is not in the cache is read; if that fails, the answer is an error 500, not a refusal.
func TestUnknownNamespace(t *testing.T) {
	f := start(t, func(f *fixture, _ *webhook.Options) {
		write(t, f.config, byLabels)
		f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": shopRole})
		f.kube.Delete("/api/v1/namespaces/shop")
		f.kube.Break(func(method, path string) int {
			if path == "/api/v1/namespaces/shop" {
				return http.StatusServiceUnavailable
			}
			return 0
		})
	}).ready(t)
	r := f.review(t, webhook.MutatePath, "CREATE", pod("web", map[string]any{"secret.db": "gold/db"}), nil)
	if r.Allowed || r.Result.Code != http.StatusInternalServerError || !strings.Contains(r.Result.Message, "Namespace shop") {
		t.Errorf("got %+v", r.Result)
	}
	if err := hasSample(f, "kms_webhook_admissions_total", `result="error",reason="kubernetes"`); err != nil {
		t.Error(err)
	}
}

// What nativeSidecar auto means follows from the API server's version, which must be known before the webhook is ready.
func TestNativeSidecarByVersion(t *testing.T) {
	for release, native := range map[string]bool{"v1.31.9": false, "v1.32.0-aliyun.1": true, "v1.36.2+k3s1": true} {
		t.Run(release, func(t *testing.T) {
			f := start(t, func(f *fixture, _ *webhook.Options) {
				f.kube.Release(release)
				f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": shopRole})
			}).ready(t)
			got := f.inject(t, pod("web", map[string]any{"secret.db": "app/db"}))
			if (len(got.Spec.InitContainers) == 2) != native || (len(got.Spec.Containers) == 1) != native {
				t.Errorf("init containers %v, containers %v", namesOf(got.Spec.InitContainers), namesOf(got.Spec.Containers))
			}
		})
	}
}

func TestNotReadyWithoutVersion(t *testing.T) {
	f := start(t, func(f *fixture, _ *webhook.Options) {
		f.kube.Break(func(_, path string) int {
			if path == "/version" {
				return http.StatusServiceUnavailable
			}
			return 0
		})
	})
	eventually(t, "everything else", func() error { return getOK(f.health + "/readyz?exclude=version&exclude=certificate") })
	if getOK(f.health+"/readyz") == nil {
		t.Error("ready without knowing the API server's version")
	}
	f.kube.Break(nil)
	f.ready(t)
}

// inject is a pod as it is after the webhook.
func (f *fixture) inject(t *testing.T, p map[string]any) corev1.Pod {
	t.Helper()
	var injected corev1.Pod
	if err := json.Unmarshal(f.mutate(t, marshal(t, p)), &injected); err != nil {
		t.Fatal(fmt.Errorf("decode the pod: %w", err))
	}
	return injected
}
