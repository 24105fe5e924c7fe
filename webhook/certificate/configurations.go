package certificate

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// lookInterval is how often the bundles are looked at without an event.
const lookInterval = 30 * time.Second

// Options are what a certificate needs to know of the cluster.
type Options struct {
	REST          *rest.Config
	Namespace     string // of the webhook
	Service       string // by which the API server calls the webhook
	Secret        string // in Namespace: SelfSigned keeps its authority there, Files the bundle that it publishes; Files may have none
	Configuration string // name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration
	Log           logr.Logger
}

// configurations know what the API server trusts the webhook by: the caBundles of the two webhook configurations. With each look
// at them they call publish, which may add to what is trusted. It counts when the API server shows it.
type configurations struct {
	options Options
	cache   cache.Cache
	client  client.Client
	publish func(context.Context) error
	events  chan struct{}
	seen    atomic.Pointer[bundles]
}

// bundles are those of all webhooks that exist, as the API server last showed them.
type bundles struct {
	all   [][]byte
	since time.Time // zero: since before this process looked
}

func newConfigurations(o Options) (*configurations, error) {
	scheme := runtime.NewScheme()
	mapper := meta.NewDefaultRESTMapper(nil)
	if err := errors.Join(corev1.AddToScheme(scheme), admissionregistrationv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Secret"), meta.RESTScopeNamespace)
	mapper.Add(admissionregistrationv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration"), meta.RESTScopeRoot)
	mapper.Add(admissionregistrationv1.SchemeGroupVersion.WithKind("ValidatingWebhookConfiguration"), meta.RESTScopeRoot)

	httpClient, err := rest.HTTPClientFor(o.REST)
	if err != nil {
		return nil, err
	}
	named := func(name string) cache.ByObject {
		return cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", name)}
	}
	watched := map[client.Object]cache.ByObject{
		&admissionregistrationv1.MutatingWebhookConfiguration{}:   named(o.Configuration),
		&admissionregistrationv1.ValidatingWebhookConfiguration{}: named(o.Configuration),
	}
	if o.Secret != "" {
		secret := named(o.Secret)
		secret.Namespaces = map[string]cache.Config{o.Namespace: {}}
		watched[&corev1.Secret{}] = secret
	}
	informers, err := cache.New(o.REST, cache.Options{HTTPClient: httpClient, Scheme: scheme, Mapper: mapper, ByObject: watched})
	if err != nil {
		return nil, err
	}
	c, err := client.New(o.REST, client.Options{HTTPClient: httpClient, Scheme: scheme, Mapper: mapper, Cache: &client.CacheOptions{Reader: informers}})
	if err != nil {
		return nil, err
	}
	return &configurations{
		options: o, cache: informers, client: c, events: make(chan struct{}, 1),
		publish: func(context.Context) error { return nil },
	}, nil
}

// kinds are empty objects of the two configurations.
func kinds() []client.Object {
	return []client.Object{&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}}
}

// look makes the next look happen now.
func (c *configurations) look() {
	select {
	case c.events <- struct{}{}:
	default: // one is pending
	}
}

// run looks until ctx ends.
func (c *configurations) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return c.cache.Start(ctx) })
	group.Go(func() error { return c.follow(ctx) })
	return group.Wait()
}

func (c *configurations) follow(ctx context.Context) error {
	watched := kinds()
	if c.options.Secret != "" {
		watched = append(watched, &corev1.Secret{})
	}
	for _, kind := range watched {
		informer, err := c.cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { c.look() }, UpdateFunc: func(any, any) { c.look() }, DeleteFunc: func(any) { c.look() },
		}); err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
	}
	if !c.cache.WaitForCacheSync(ctx) {
		return nil // ctx ended
	}
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		if err := c.lookOnce(ctx); err != nil && ctx.Err() == nil {
			c.options.Log.Error(err, "CA bundles are not as they should be; trying again")
			time.AfterFunc(time.Second, c.look)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.events:
		case <-tick.C:
		}
	}
}

func (c *configurations) lookOnce(ctx context.Context) error {
	var seen [][]byte
	err := c.each(ctx, func(_ client.Object, _ []string, bundles [][]byte) error {
		seen = append(seen, bundles...)
		return nil
	})
	if err != nil {
		return err
	}
	c.remember(seen, time.Now())
	return c.publish(ctx)
}

// each calls do with both configurations, where they exist, and with the names and the bundles of their webhooks.
func (c *configurations) each(ctx context.Context, do func(configuration client.Object, names []string, bundles [][]byte) error) error {
	for _, kind := range kinds() {
		err := c.client.Get(ctx, types.NamespacedName{Name: c.options.Configuration}, kind)
		if apierrors.IsNotFound(err) {
			continue // not installed, or not yet
		}
		if err != nil {
			return fmt.Errorf("read %T %s: %w", kind, c.options.Configuration, err)
		}
		names, bundles := webhooksOf(kind)
		if err := do(kind, names, bundles); err != nil {
			return err
		}
	}
	return nil
}

func webhooksOf(configuration client.Object) (names []string, bundles [][]byte) {
	switch c := configuration.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for _, w := range c.Webhooks {
			names, bundles = append(names, w.Name), append(bundles, w.ClientConfig.CABundle)
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for _, w := range c.Webhooks {
			names, bundles = append(names, w.Name), append(bundles, w.ClientConfig.CABundle)
		}
	}
	return names, bundles
}

func (c *configurations) remember(all [][]byte, now time.Time) {
	old := c.seen.Load()
	switch {
	case old == nil:
		c.seen.Store(&bundles{all: all})
	case !slices.EqualFunc(old.all, all, bytes.Equal):
		c.seen.Store(&bundles{all: all, since: now})
	}
}

// trust is nil if every webhook that exists has trusted the certificate, and the certificate has been valid, for at least the given
// time.
func (c *configurations) trust(serving *tls.Certificate, name string, now time.Time, settled time.Duration) error {
	seen := c.seen.Load()
	if seen == nil {
		return errors.New("the webhook configurations have not been read yet")
	}
	for _, bundle := range seen.all {
		if err := verify(bundle, serving, name, now.Add(-settled)); err != nil {
			return fmt.Errorf("a webhook configuration %s does not trust the serving certificate: %w", c.options.Configuration, err)
		}
	}
	if now.Sub(seen.since) < settled {
		return errors.New("the webhook configurations have changed just now")
	}
	return nil
}
