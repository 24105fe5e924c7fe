package certificate

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
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

// keepInterval is how often the bundles are looked at without an event.
const keepInterval = 30 * time.Second

// A keeper puts the authority's certificate into the caBundle of the two webhook configurations and knows what they trust.
type keeper struct {
	options SelfSignedOptions
	cache   cache.Cache
	client  client.Client
	log     logr.Logger
	trust   atomic.Pointer[trust]
}

// trust is the caBundles of all webhooks that exist, as the API server last showed them.
type trust struct {
	bundles [][]byte
	since   time.Time // zero: since before this process looked
}

func newKeeper(o SelfSignedOptions) (*keeper, error) {
	scheme := runtime.NewScheme()
	mapper := meta.NewDefaultRESTMapper(nil)
	if err := corev1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := admissionregistrationv1.AddToScheme(scheme); err != nil {
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
	secret := named(o.Secret)
	secret.Namespaces = map[string]cache.Config{o.Namespace: {}}
	informers, err := cache.New(o.REST, cache.Options{
		HTTPClient: httpClient, Scheme: scheme, Mapper: mapper,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Secret{}: secret,
			&admissionregistrationv1.MutatingWebhookConfiguration{}:   named(o.Configuration),
			&admissionregistrationv1.ValidatingWebhookConfiguration{}: named(o.Configuration),
		},
	})
	if err != nil {
		return nil, err
	}
	c, err := client.New(o.REST, client.Options{HTTPClient: httpClient, Scheme: scheme, Mapper: mapper, Cache: &client.CacheOptions{Reader: informers}})
	if err != nil {
		return nil, err
	}
	return &keeper{options: o, cache: informers, client: c, log: o.Log}, nil
}

// run keeps the bundles until ctx ends.
func (k *keeper) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return k.cache.Start(ctx) })
	group.Go(func() error { return k.keep(ctx) })
	return group.Wait()
}

func (k *keeper) keep(ctx context.Context) error {
	events := make(chan struct{}, 1)
	wake := func() {
		select {
		case events <- struct{}{}:
		default: // one is pending
		}
	}
	for _, kind := range []client.Object{&corev1.Secret{}, &admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}} {
		informer, err := k.cache.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { wake() }, UpdateFunc: func(any, any) { wake() }, DeleteFunc: func(any) { wake() },
		}); err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
	}
	if !k.cache.WaitForCacheSync(ctx) {
		return nil // ctx ended
	}
	tick := time.NewTicker(keepInterval)
	defer tick.Stop()
	for {
		if err := k.reconcile(ctx); err != nil && ctx.Err() == nil {
			k.log.Error(err, "CA bundles are not as they should be; trying again")
			time.AfterFunc(time.Second, wake)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-events:
		case <-tick.C:
		}
	}
}

// reconcile looks at the configurations, remembers what they trust and adds what is missing. What it adds counts as trusted when
// the API server shows it.
func (k *keeper) reconcile(ctx context.Context) error {
	var secret corev1.Secret
	err := k.client.Get(ctx, types.NamespacedName{Namespace: k.options.Namespace, Name: k.options.Secret}, &secret)
	if client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("read the authority's Secret: %w", err)
	}
	ca := secret.Data["ca.crt"] // none until the authority has been made

	var seen [][]byte
	for _, kind := range []client.Object{&admissionregistrationv1.MutatingWebhookConfiguration{}, &admissionregistrationv1.ValidatingWebhookConfiguration{}} {
		err := k.client.Get(ctx, types.NamespacedName{Name: k.options.Configuration}, kind)
		if apierrors.IsNotFound(err) {
			continue // not installed, or not yet
		}
		if err != nil {
			return fmt.Errorf("read %T %s: %w", kind, k.options.Configuration, err)
		}
		names, bundles := webhooksOf(kind)
		seen = append(seen, bundles...)
		if len(ca) == 0 {
			continue
		}
		if err := k.add(ctx, kind, names, bundles, ca); err != nil {
			return err
		}
	}
	k.remember(seen, time.Now())
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

// add patches nothing but the bundles that lack ca. A webhook is tested by name, in case somebody has reordered them since.
func (k *keeper) add(ctx context.Context, configuration client.Object, names []string, bundles [][]byte, ca []byte) error {
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	var operations []operation
	for i, bundle := range bundles {
		merged := merge(bundle, ca, time.Now())
		if bytes.Equal(merged, bundle) {
			continue
		}
		at := fmt.Sprintf("/webhooks/%d", i)
		operations = append(operations, operation{"test", at + "/name", names[i]}, operation{"add", at + "/clientConfig/caBundle", merged})
	}
	if len(operations) == 0 {
		return nil
	}
	patch, err := json.Marshal(operations)
	if err != nil {
		return fmt.Errorf("encode the patch: %w", err)
	}
	if err := k.client.Patch(ctx, configuration, client.RawPatch(types.JSONPatchType, patch)); err != nil {
		return fmt.Errorf("patch the caBundle of %T %s: %w", configuration, k.options.Configuration, err)
	}
	k.log.Info("CA bundle written", "kind", fmt.Sprintf("%T", configuration), "name", k.options.Configuration)
	return nil
}

func (k *keeper) remember(bundles [][]byte, now time.Time) {
	old := k.trust.Load()
	switch {
	case old == nil:
		k.trust.Store(&trust{bundles: bundles})
	case !slices.EqualFunc(old.bundles, bundles, bytes.Equal):
		k.trust.Store(&trust{bundles: bundles, since: now})
	}
}

// trusts reports whether every webhook that exists has trusted the certificate for at least the given time.
func (k *keeper) trusts(leaf *x509.Certificate, name string, now time.Time, settled time.Duration) bool {
	t := k.trust.Load()
	if t == nil || now.Sub(t.since) < settled {
		return false
	}
	return !slices.ContainsFunc(t.bundles, func(bundle []byte) bool { return !trusts(bundle, leaf, name, now) })
}
