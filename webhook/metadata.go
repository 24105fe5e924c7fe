package webhook

import (
	"context"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/singleflight"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

var (
	serviceAccountKind = schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}
	namespaceKind      = schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}
	configMapKind      = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"} // the webhook's own; never cached
)

// A metadata is where the metadata of ServiceAccounts and Namespaces is looked up: in the cache, and in the API server itself
// before anyone is refused or passed over, because what was made or changed a moment ago may not be in the cache yet.
type metadata struct {
	cached client.Reader
	live   *live
	scope  *scope
	read   []toolscache.InformerSynced // whether the cache has been read
}

// fromServer returns nil for an object that does not exist. The error is an outage.
func (m metadata) fromServer(
	ctx context.Context, source string, kind schema.GroupVersionKind, name types.NamespacedName,
) (*metav1.PartialObjectMetadata, error) {
	object, err := m.live.get(ctx, source, kind, name)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read %s %s: %w", kind.Kind, strings.TrimPrefix(name.String(), "/"), err)
	}
	return object, nil
}

// labels returns the labels of a namespace: from the cache if they are enough, since there may be one that is younger than the cache. The
// error is an outage: there is no request in a namespace that does not exist.
func (m metadata) labels(
	ctx context.Context, source, namespace string, enough func(labels map[string]string) bool,
) (map[string]string, error) {
	key := types.NamespacedName{Name: namespace}
	if ns, err := get(ctx, m.cached, namespaceKind, key); err == nil && enough(ns.Labels) {
		return ns.Labels, nil
	}
	ns, err := m.fromServer(ctx, source, namespaceKind, key)
	switch {
	case err != nil:
		return nil, err
	case ns == nil:
		return nil, fmt.Errorf("namespace %q does not exist", namespace)
	}
	return ns.Labels, nil
}

// A lookup is an injector.Cluster for one request.
type lookup struct {
	metadata
	source string            // of the request
	labels map[string]string // of its namespace
}

func (l lookup) NamespaceLabels(context.Context, string) (map[string]string, error) {
	return l.labels, nil
}

func (l lookup) ServiceAccountAnnotations(ctx context.Context, namespace, name string, fresh bool) (map[string]string, error) {
	key := types.NamespacedName{Namespace: namespace, Name: name}
	var account *metav1.PartialObjectMetadata
	var err error
	if fresh {
		account, err = l.fromServer(ctx, l.source, serviceAccountKind, key)
	} else {
		account, err = get(ctx, l.cached, serviceAccountKind, key)
	}
	switch {
	case err != nil:
		return nil, err
	case account == nil:
		return nil, config.ErrNotFound
	}
	return account.Annotations, nil
}

func get(
	ctx context.Context, from client.Reader, kind schema.GroupVersionKind, name types.NamespacedName,
) (*metav1.PartialObjectMetadata, error) {
	var object metav1.PartialObjectMetadata
	object.SetGroupVersionKind(kind)
	if err := from.Get(ctx, name, &object); err != nil {
		return nil, err
	}
	return &object, nil
}

// liveTimeout bounds the one read past the cache, with the wait for it, well below the API server's timeout for a webhook (5 s).
const liveTimeout = 2 * time.Second

// Limits on reads past the cache, for one caller in total and for one namespace. A namespace's pods whose
// ServiceAccount lacks a role use up the namespace's share, and an unknown caller uses up its own.
const (
	readsOfSource, burstOfSource       = 50, 200
	readsOfNamespace, burstOfNamespace = 20, 100
)

// itself is the source of the webhook's own reads.
const itself = ""

// A live reads from the API server.
type live struct {
	reader              client.Reader
	sources, namespaces *share.Rate
	reads               singleflight.Group // that have not begun
}

func newLive(reader client.Reader) *live {
	return &live{
		reader: reader, sources: share.NewRate(readsOfSource, burstOfSource), namespaces: share.NewRate(readsOfNamespace, burstOfNamespace),
	}
}

// get returns share.ErrBusy if a read could not begin in time. Requests for the same object that wait for a read to begin share it, so
// that each gets an answer that is newer than the request.
func (l *live) get(
	ctx context.Context, source string, kind schema.GroupVersionKind, name types.NamespacedName,
) (*metav1.PartialObjectMetadata, error) {
	namespace := name.Namespace
	if kind == namespaceKind {
		namespace = name.Name
	}
	key := source + " " + kind.Kind + " " + name.String()
	read := l.reads.DoChan(key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), liveTimeout)
		defer cancel()
		if err := l.sources.Wait(ctx, source); err != nil {
			return nil, err
		}
		if err := l.namespaces.Wait(ctx, source+" "+namespace); err != nil {
			return nil, err
		}
		l.reads.Forget(key)
		return get(ctx, l.reader, kind, name)
	})
	select {
	case answer := <-read:
		object, _ := answer.Val.(*metav1.PartialObjectMetadata)
		return object, answer.Err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// slim keeps of an object what is looked up: the annotations of a ServiceAccount that name its role, and the labels of a Namespace. The
// cache holds every one of the cluster.
func slim(obj any) (any, error) {
	o, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj, nil
	}
	kept := &metav1.PartialObjectMetadata{TypeMeta: o.TypeMeta, ObjectMeta: metav1.ObjectMeta{
		Namespace: o.Namespace, Name: o.Name, ResourceVersion: o.ResourceVersion, Annotations: map[string]string{},
	}}
	if o.Namespace == "" {
		kept.Labels = o.Labels
	}
	for _, key := range []string{rrsa.RoleARNAnnotation, rrsa.RoleNameAnnotation} {
		if value, found := o.Annotations[key]; found {
			kept.Annotations[key] = value
		}
	}
	return kept, nil
}

// watch makes the cache, which the caller starts, and the look-up in it, and has the registration follow its objects. It asks for no API
// discovery: the kinds are known.
func watch(config *rest.Config, r *registration) (cache.Cache, metadata, error) {
	fail := func(err error) (cache.Cache, metadata, error) {
		return nil, metadata{}, fmt.Errorf("watch ServiceAccounts, Namespaces and what calls the webhook: %w", err)
	}
	// Client-go would let five reads a second through, and have the pods of one namespace that lack a role hold up all others.
	config = rest.CopyConfig(config)
	config.QPS = -1
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return fail(err)
	}
	accounts, namespaces := &metav1.PartialObjectMetadata{}, &metav1.PartialObjectMetadata{}
	accounts.SetGroupVersionKind(serviceAccountKind)
	namespaces.SetGroupVersionKind(namespaceKind)
	watched := map[client.Object]cache.ByObject{accounts: {Transform: slim}, namespaces: {Transform: slim}}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(serviceAccountKind, meta.RESTScopeNamespace)
	mapper.Add(namespaceKind, meta.RESTScopeRoot)
	mapper.Add(configMapKind, meta.RESTScopeNamespace)
	for _, o := range r.objects {
		watched[o.object] = cache.ByObject{Field: fields.OneTermEqualSelector("metadata.name", r.name)}
		mapper.Add(admissionregistrationv1.SchemeGroupVersion.WithKind(o.kind), meta.RESTScopeRoot)
	}
	informers, err := cache.New(config, cache.Options{
		HTTPClient: httpClient, Mapper: mapper, ByObject: watched, DefaultUnsafeDisableDeepCopy: new(true), // nothing is written here
	})
	if err != nil {
		return fail(err)
	}
	reader, err := client.New(config, client.Options{HTTPClient: httpClient, Mapper: mapper})
	if err != nil {
		return fail(err)
	}
	m := metadata{cached: informers, live: newLive(reader), scope: &scope{}}
	for _, kind := range []client.Object{accounts, namespaces} {
		informer, err := informers.GetInformer(context.Background(), kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fail(err)
		}
		m.read = append(m.read, informer.HasSynced)
	}
	for _, o := range r.objects {
		if o.synced, err = follow(informers, o.object, func(now any) { r.set(o, calls(now)) }); err != nil {
			return fail(err)
		}
	}
	if len(r.objects) > 0 {
		configuration, err := follow(informers, &admissionregistrationv1.MutatingWebhookConfiguration{}, m.scope.set)
		if err != nil {
			return fail(err)
		}
		m.read = append(m.read, configuration)
	}
	return informers, m, nil
}

// wait returns when what decisions need has been read, false if ctx has ended before.
func (m metadata) wait(ctx context.Context) bool {
	return toolscache.WaitForCacheSync(ctx.Done(), m.read...)
}
