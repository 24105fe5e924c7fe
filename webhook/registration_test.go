package webhook_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// What the API server calls the webhook by is deleted or weakened: a metric says it of each object, and again when it is back.
func TestRegistered(t *testing.T) {
	const group = "/apis/admissionregistration.k8s.io/v1/"
	object := func(kind string, of fakekube.Object) fakekube.Object {
		of["apiVersion"], of["kind"] = "admissionregistration.k8s.io/v1", kind
		return of
	}
	webhooks := func(policy string) fakekube.Object {
		return fakekube.Object{"webhooks": []any{fakekube.Object{"name": "pods.kms.alibabacloud.com", "failurePolicy": policy}}}
	}
	objects := map[string]fakekube.Object{
		"mutatingwebhookconfigurations":   object("MutatingWebhookConfiguration", webhooks("Fail")),
		"validatingwebhookconfigurations": object("ValidatingWebhookConfiguration", webhooks("Ignore")),
		"validatingadmissionpolicies": object("ValidatingAdmissionPolicy",
			fakekube.Object{"spec": fakekube.Object{"validations": []any{fakekube.Object{"expression": "true"}}}}),
		"validatingadmissionpolicybindings": object("ValidatingAdmissionPolicyBinding",
			fakekube.Object{"spec": fakekube.Object{"validationActions": []any{"Deny"}}}),
	}
	weak := map[string]fakekube.Object{
		"mutatingwebhookconfigurations": object("MutatingWebhookConfiguration", webhooks("Ignore")),
		"validatingadmissionpolicybindings": object("ValidatingAdmissionPolicyBinding",
			fakekube.Object{"spec": fakekube.Object{"validationActions": []any{"Audit"}}}),
	}
	f := start(t, func(f *fixture, o *webhook.Options) {
		o.Configuration, o.Guard = "kms-agent-injector", true
		for resource, o := range objects {
			if resource != "validatingadmissionpolicies" { // which comes later
				f.kube.Put(group+resource+"/kms-agent-injector", o)
			}
		}
	})
	is := func(resource, value string) {
		t.Helper()
		kind, _ := strings.CutSuffix(strings.Replace(resource, "policies", "policys", 1), "s")
		eventually(t, resource+" "+value, func() error { return metricIs(f, `kms_webhook_registered{object="`+kind+`"} `+value+"\n") })
	}
	is("validatingadmissionpolicies", "0")
	f.kube.Put(group+"validatingadmissionpolicies/kms-agent-injector", objects["validatingadmissionpolicies"])
	for resource, o := range objects {
		is(resource, "1")
		f.kube.Delete(group + resource + "/kms-agent-injector")
		is(resource, "0")
		f.kube.Put(group+resource+"/kms-agent-injector", o)
		is(resource, "1")
	}
	for resource, o := range weak {
		f.kube.Put(group+resource+"/kms-agent-injector", o)
		is(resource, "0")
	}
}

// Where no guard is installed, nothing is said of one.
func TestRegisteredWithoutAGuard(t *testing.T) {
	f := start(t, func(_ *fixture, o *webhook.Options) { o.Configuration = "kms-agent-injector" })
	eventually(t, "a metric", func() error { return metricIs(f, `kms_webhook_registered{object="mutatingwebhookconfiguration"} 0`) })
	r, err := http.Get(f.metrics)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && strings.Contains(string(text), "validatingadmissionpolicy") {
		err = errors.New("there is a metric about a guard")
	}
	if err != nil {
		t.Error(err)
	}
}
