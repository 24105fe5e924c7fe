package webhook_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// TestReload breaks the webhook's configuration and mends it: an event at its ConfigMap and a metric say so.
func TestReload(t *testing.T) {
	f := start(t, func(f *fixture, o *webhook.Options) {
		o.ConfigMap = types.NamespacedName{Namespace: "kms", Name: "kms-webhook"}
		f.kube.Put("/api/v1/namespaces/kms/configmaps/kms-webhook", fakekube.Object{"metadata": fakekube.Object{"uid": "of-the-document"}})
	}).ready(t)
	for _, metric := range []string{"kms_webhook_config_last_reload_successful 1\n",
		"kms_webhook_config_last_reload_success_timestamp_seconds 1."} {
		if err := metricIs(f, metric); err != nil {
			t.Error(err)
		}
	}

	write(t, f.config, configuration+"regoin: x\nnetwork: vcp\n")
	eventually(t, "an event", func() error {
		return f.event("kms", "ConfigRejected", "of-the-document", `there is no field "regoin"; did you mean "region"?`)
	})
	if err := metricIs(f, "kms_webhook_config_last_reload_successful 0\n"); err != nil {
		t.Error(err)
	}
	write(t, f.config, configuration)
	eventually(t, "an event", func() error { return f.event("kms", "ConfigReloaded", "of-the-document", "in force") })
	if err := metricIs(f, "kms_webhook_config_last_reload_successful 1\n"); err != nil {
		t.Error(err)
	}
}

// A document with a hundred mistakes makes an event that the API server takes.
func TestLongEvent(t *testing.T) {
	f := start(t, func(f *fixture, o *webhook.Options) {
		o.ConfigMap = types.NamespacedName{Namespace: "kms", Name: "kms-webhook"}
		f.kube.Put("/api/v1/namespaces/kms/configmaps/kms-webhook", fakekube.Object{"metadata": fakekube.Object{"uid": "of-the-document"}})
	}).ready(t)
	write(t, f.config, configuration+"namespaces:\n"+strings.Repeat("- {allow: {identities: [‽]}}\n", 100))
	eventually(t, "an event", func() error { return f.event("kms", "ConfigRejected", "of-the-document", "200 mistakes:") })
	for _, e := range f.kube.Find("/api/v1/namespaces/kms/events/") {
		if text := e["message"].(string); len(text) > 1024 || !strings.HasSuffix(text, "…") || strings.ContainsRune(text, '�') {
			t.Errorf("%d bytes: %s", len(text), text)
		}
	}
}

// event looks for an event about an object, of which the message says something.
func (f *fixture) event(namespace, reason, uid, says string) error {
	var seen []string
	for _, e := range f.kube.Find("/api/v1/namespaces/" + namespace + "/events/") {
		about := e["involvedObject"].(fakekube.Object)
		text, _ := e["message"].(string)
		if e["reason"] == reason && about["uid"] == uid && strings.Contains(text, says) {
			return nil
		}
		seen = append(seen, fmt.Sprintf("%s about %s: %s", e["reason"], about["uid"], text))
	}
	return errors.New("no event " + reason + " among: " + strings.Join(seen, "\n"))
}
