package webhook

import (
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// A registration watches the objects by which the API server calls the webhook and guards its absence. Without the first of them pods that
// ask for secrets are refused; without them all, such pods start without their secrets, and nothing that happens tells the webhook.
type registration struct {
	informers cache.Cache
	name      string // of the objects
	log       logr.Logger
	objects   []*registered
	gauge     *prometheus.Desc
}

// registered is one of the objects.
type registered struct {
	resource string
	kind     client.Object

	synced func() bool
	there  atomic.Bool
}

func newRegistration(name string, log logr.Logger) *registration {
	return &registration{name: name, log: log, gauge: prometheus.NewDesc("kms_webhook_registered",
		"1 if the API server calls the webhook, or guards its absence, by an object; 0 if the object is missing or does not.",
		[]string{"object"}, nil)}
}

// watchRegistration watches the two webhook configurations of a name and, if there is to be a guard, its policy and the policy's binding.
func watchRegistration(config *rest.Config, name string, guard bool, log logr.Logger) (*registration, error) {
	r := newRegistration(name, log)
	r.objects = []*registered{
		{resource: "mutatingwebhookconfiguration", kind: &admissionregistrationv1.MutatingWebhookConfiguration{}},
		{resource: "validatingwebhookconfiguration", kind: &admissionregistrationv1.ValidatingWebhookConfiguration{}},
	}
	if guard {
		r.objects = append(r.objects,
			&registered{resource: "validatingadmissionpolicy", kind: &admissionregistrationv1.ValidatingAdmissionPolicy{}},
			&registered{resource: "validatingadmissionpolicybinding", kind: &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}})
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	byName := map[client.Object]cache.ByObject{}
	for _, o := range r.objects {
		byName[o.kind] = cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", name)}
	}
	for _, kind := range []string{"MutatingWebhookConfiguration", "ValidatingWebhookConfiguration", "ValidatingAdmissionPolicy",
		"ValidatingAdmissionPolicyBinding"} {
		mapper.Add(admissionregistrationv1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	var err error
	if r.informers, err = cache.New(config, cache.Options{Mapper: mapper, ByObject: byName}); err != nil {
		return nil, fmt.Errorf("watch what calls the webhook: %w", err)
	}
	for _, o := range r.objects {
		if o.synced, err = follow(r.informers, o.kind, func(now any) { r.set(o, calls(now)) }); err != nil {
			return nil, fmt.Errorf("watch the %s %s: %w", o.resource, name, err)
		}
	}
	return r, nil
}

// calls reports whether an object refuses pods for which the webhook does not answer, or that the guard finds.
func calls(object any) bool {
	switch o := object.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		return len(o.Webhooks) > 0 && o.Webhooks[0].FailurePolicy != nil && *o.Webhooks[0].FailurePolicy == admissionregistrationv1.Fail
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		return len(o.Webhooks) > 0
	case *admissionregistrationv1.ValidatingAdmissionPolicy:
		return len(o.Spec.Validations) > 0
	case *admissionregistrationv1.ValidatingAdmissionPolicyBinding:
		return slices.Contains(o.Spec.ValidationActions, admissionregistrationv1.Deny)
	}
	return false
}

func (r *registration) set(o *registered, there bool) {
	before := o.there.Swap(there)
	switch {
	case before && !there:
		r.log.Error(nil, "The API server does not do any more what this object is for: it is missing or changed", "object", o.resource,
			"name", r.name)
	case there && !before && o.synced():
		r.log.Info("The object is there again", "object", o.resource, "name", r.name)
	}
}

// Describe implements prometheus.Collector.
func (r *registration) Describe(all chan<- *prometheus.Desc) { all <- r.gauge }

// Collect implements prometheus.Collector. What has not been read yet has no value.
func (r *registration) Collect(all chan<- prometheus.Metric) {
	for _, o := range r.objects {
		if !o.synced() {
			continue
		}
		value := 0.
		if o.there.Load() {
			value = 1
		}
		all <- prometheus.MustNewConstMetric(r.gauge, prometheus.GaugeValue, value, o.resource)
	}
}
