package webhook_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// TestAccountsInMotion: what was done a moment ago counts, what the cache knows is not asked again, and an API server that is
// away is no reason to blame the pod's author.
func TestAccountsInMotion(t *testing.T) {
	f := start(t).ready(t)
	const web = "/api/v1/namespaces/shop/serviceaccounts/web"
	annotated := pod("web", map[string]any{"secret.db": "app/db"})
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})
	if r := f.review(t, webhook.MutatePath, "CREATE", annotated, nil); !r.Allowed {
		t.Fatalf("a new ServiceAccount does not count: %s", r.Result.Message)
	}
	eventually(t, "in the cache", func() error {
		before := f.kube.Requests("GET " + web)
		f.review(t, webhook.MutatePath, "CREATE", annotated, nil)
		if after := f.kube.Requests("GET " + web); after != before {
			return fmt.Errorf("it was read again")
		}
		return nil
	})
	f.kube.Break(func(method, path string) int {
		if path == "/api/v1/namespaces/shop/serviceaccounts/other" {
			return http.StatusServiceUnavailable
		}
		return 0
	})
	r := f.review(t, webhook.MutatePath, "CREATE", pod("other", map[string]any{"secret.db": "app/db"}), nil)
	if r.Allowed || r.Result.Code != http.StatusInternalServerError || !strings.Contains(r.Result.Message, "shop/other") {
		t.Errorf("an outage: %+v", r.Result)
	}
	if err := hasSample(f, "kms_webhook_admissions_total", `result="error",reason="kubernetes"`); err != nil {
		t.Error(err)
	}
}

// own gives an object annotations itself.
func own(object map[string]any, keys ...string) map[string]any {
	annotations := map[string]any{}
	for _, key := range keys {
		annotations["kms.alibabacloud.com/"+key] = "x"
	}
	object["metadata"] = map[string]any{"annotations": annotations}
	return object
}

// TestManyWithoutRole: pods that wait for a live read of their ServiceAccount do not wait for one another, though client-go by itself
// lets five a second through.
func TestManyWithoutRole(t *testing.T) {
	f := start(t, func(_ *fixture, o *webhook.Options) { o.REST.QPS = 0 }).ready(t)
	var group sync.WaitGroup
	for i := range 60 {
		group.Go(func() {
			r := f.review(t, webhook.MutatePath, "CREATE", pod(fmt.Sprintf("missing-%d", i), map[string]any{"secret.db": "app/db"}), nil)
			if r.Allowed || r.Result.Code != http.StatusForbidden {
				t.Errorf("%+v", r.Result)
			}
		})
	}
	group.Wait()
}
