package certificate

import (
	"context"
	"errors"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lookInterval is how often the objects are looked at without an event, and lookTimeout how long a look may take.
const (
	lookInterval = 30 * time.Second
	lookTimeout  = 20 * time.Second
)

// Options say where in the cluster the certificate belongs.
type Options struct {
	REST          *rest.Config
	Namespace     string // of the webhook
	Service       string // by which the API server calls the webhook
	Configuration string // name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration
	Log           logr.Logger

	ValidatingOnly bool // there is no MutatingWebhookConfiguration
}

// serverName returns the DNS name by which the API server calls; "" is any.
func (o Options) serverName() string {
	if o.Namespace == "" {
		return ""
	}
	return o.Service + "." + o.Namespace + ".svc"
}

// The Secrets of the webhook's namespace. Each has its own, since RBAC grants whole objects.
// tls.crt and tls.key of the authority, and ca.crt, the same as tls.crt
func (o Options) authoritySecret() *corev1.Secret { return o.secret("-ca") }
func (o Options) servingSecret() *corev1.Secret   { return o.secret("-tls") } // tls.crt and tls.key; of cert-manager's, ca.crt too
// ca.crt, from which cert-manager's cainjector takes caBundle
func (o Options) bundleSecret() *corev1.Secret { return o.secret("-ca-bundle") }

func (o Options) secret(suffix string) *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Service + suffix}}
}

// configurations are empty objects of the configurations.
func (o Options) configurations() []client.Object {
	named := metav1.ObjectMeta{Name: o.Configuration}
	validating := &admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: named}
	if o.ValidatingOnly {
		return []client.Object{validating}
	}
	return []client.Object{&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: named}, validating}
}

// watched are a few objects that are looked at when one of them changes. The events only say when to look; what is there is
// read from the API server, so that a look never acts on an old state.
type watched struct {
	client  client.WithWatch
	log     logr.Logger
	objects []client.Object
	events  chan struct{}
}

func watch(o Options, objects ...client.Object) (*watched, error) {
	scheme := runtime.NewScheme()
	mapper := meta.NewDefaultRESTMapper(nil)
	if err := errors.Join(corev1.AddToScheme(scheme), admissionregistrationv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	mapper.Add(admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"), meta.RESTScopeRoot)
	mapper.Add(admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"), meta.RESTScopeRoot)
	c, err := client.NewWithWatch(o.REST, client.Options{Scheme: scheme, Mapper: mapper})
	return &watched{client: c, log: o.Log, objects: objects, events: make(chan struct{}, 1)}, err
}

// notice makes the next look happen now.
func (w *watched) notice() {
	select {
	case w.events <- struct{}{}:
	default: // one is pending
	}
}

// run calls look at once, after each event, after each lookInterval, and a second after it failed, until ctx ends.
func (w *watched) run(ctx context.Context, look func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, object := range w.objects {
		group.Go(func() error { return w.follow(ctx, object) })
	}
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for reported := ""; ; {
		limited, cancel := context.WithTimeout(ctx, lookTimeout)
		err := look(limited)
		cancel()
		switch {
		case err == nil || ctx.Err() != nil:
			reported = ""
		default:
			if err.Error() != reported {
				reported = err.Error()
				w.log.Error(err, "Certificates are not as they should be; trying again every second")
			}
			time.AfterFunc(time.Second, w.notice)
		}
		select {
		case <-ctx.Done():
			return group.Wait()
		case <-w.events:
		case <-tick.C:
		}
	}
}

// follow notices changes of one object, whose content it does not ask for, until ctx ends. RBAC allows a watch by name for a single name.
func (w *watched) follow(ctx context.Context, object client.Object) error {
	kind, err := w.client.GroupVersionKindFor(object)
	if err != nil {
		return err
	}
	list := &metav1.PartialObjectMetadataList{}
	list.SetGroupVersionKind(kind)
	named := client.MatchingFields{"metadata.name": object.GetName()}
	reported := ""
	wait.UntilWithContext(ctx, func(ctx context.Context) {
		changes, err := w.client.Watch(ctx, list, client.InNamespace(object.GetNamespace()), named)
		if err != nil {
			if err.Error() != reported && ctx.Err() == nil {
				reported = err.Error()
				w.log.Error(err, "Cannot watch; trying again every second", "kind", kind.Kind, "name", object.GetName())
			}
			return
		}
		reported = ""
		w.notice() // of what changed before
		for range changes.ResultChan() {
			w.notice()
		}
	}, time.Second)
	return nil
}
