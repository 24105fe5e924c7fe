package webhook

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// A registration watches the objects by which the API server calls the webhook and guards its absence. Without the first of them pods that
// ask for secrets are refused; without them all, such pods start without their secrets, and nothing that happens tells the webhook.
type registration struct {
	name    string // of the objects
	log     logr.Logger
	objects []*registered
	gauge   *prometheus.Desc
}

// registered is one of the objects.
type registered struct {
	kind   string
	object client.Object

	synced func() bool
	there  atomic.Bool
}

// newRegistration returns one of the two webhook configurations of a name and, if there is to be a guard, of its policy and the policy's
// binding; without a name there are none.
func newRegistration(name string, guard bool, log logr.Logger) *registration {
	r := &registration{name: name, log: log, gauge: prometheus.NewDesc("kms_webhook_registered",
		"1 if the API server calls the webhook, or guards its absence, by an object; 0 if the object is missing or does not.",
		[]string{"object"}, nil)}
	if name != "" {
		r.objects = []*registered{
			{kind: "MutatingWebhookConfiguration", object: &admissionregistrationv1.MutatingWebhookConfiguration{}},
			{kind: "ValidatingWebhookConfiguration", object: &admissionregistrationv1.ValidatingWebhookConfiguration{}},
		}
	}
	if name != "" && guard {
		r.objects = append(r.objects,
			&registered{kind: "ValidatingAdmissionPolicy", object: &admissionregistrationv1.ValidatingAdmissionPolicy{}},
			&registered{kind: "ValidatingAdmissionPolicyBinding", object: &admissionregistrationv1.ValidatingAdmissionPolicyBinding{}})
	}
	return r
}

// resource is what metrics and logs call it.
func (o *registered) resource() string { return strings.ToLower(o.kind) }

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
		r.log.Error(nil, "The API server does not do any more what this object is for: it is missing or changed", "object", o.resource(),
			"name", r.name)
	case there && !before && o.synced():
		r.log.Info("The object is there again", "object", o.resource(), "name", r.name)
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
		all <- prometheus.MustNewConstMetric(r.gauge, prometheus.GaugeValue, value, o.resource())
	}
}

// A scope are the namespaces that the API server calls for: those with the label, as far as the namespaceSelector of the
// MutatingWebhookConfiguration does not exclude them. Callers are not known to be the API server, and so are held to it.
type scope struct {
	selector atomic.Pointer[labels.Selector] // nil while there is no configuration
}

// follow calls set with an object, nil without one, now and whenever it changes. Synced reports whether it has been called.
func follow(informers cache.Cache, kind client.Object, set func(now any)) (synced func() bool, err error) {
	informer, err := informers.GetInformer(context.Background(), kind, cache.BlockUntilSynced(false))
	if err != nil {
		return nil, err
	}
	handler, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: set, UpdateFunc: func(_, now any) { set(now) }, DeleteFunc: func(any) { set(nil) },
	})
	if err != nil {
		return nil, err
	}
	return handler.HasSynced, nil
}

func (s *scope) set(now any) {
	configuration, ok := now.(*admissionregistrationv1.MutatingWebhookConfiguration)
	if !ok || len(configuration.Webhooks) == 0 {
		s.selector.Store(nil)
		return
	}
	selector, err := metav1.LabelSelectorAsSelector(configuration.Webhooks[0].NamespaceSelector)
	if err != nil { // which the API server does not accept
		selector = labels.Nothing()
	}
	s.selector.Store(&selector)
}

// excludes reports whether nothing is injected in a namespace, whatever its label config.NamespaceLabel says.
func (s *scope) excludes(name string, of map[string]string) bool {
	selector := s.selector.Load()
	return selector != nil && !(*selector).Matches(labels.Merge(of, labels.Set{
		podconfig.NamespaceLabel: podconfig.NamespaceLabelValue, corev1.LabelMetadataName: name,
	}))
}

// inScope reports whether pods of a namespace are injected, with the namespace's labels. The error is an outage.
func (m metadata) inScope(ctx context.Context, source, namespace string) (in bool, of map[string]string, err error) {
	selects := func(of map[string]string) bool {
		return of[podconfig.NamespaceLabel] == podconfig.NamespaceLabelValue && !m.scope.excludes(namespace, of)
	}
	of, err = m.labels(ctx, source, namespace, selects)
	return err == nil && selects(of), of, err
}
