package webhook

import (
	"context"
	"sync/atomic"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// A scope are the namespaces that the API server calls for: those with the label, as far as the namespaceSelector of the
// MutatingWebhookConfiguration does not exclude them. Callers are not known to be the API server, and so are held to it.
type scope struct {
	selector atomic.Pointer[labels.Selector] // nil while there is no configuration
	followed func() bool                     // whether selector has been set once; nil if no configuration is followed
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
