// Package sync keeps Secrets as ExternalSecrets ask, and says of these and of stores how they are.
//
// What it knows of an object is in the object's status: a controller that starts anew goes on where the one before ended. No worker
// waits; what has to wait comes back.
package sync

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/target"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/token"
)

// Options are the settings of the process.
type Options struct {
	Config          store.Config
	Compat          content.Compat
	Getenv          func(string) string // has the controller's own credentials
	PollingInterval time.Duration
	DisablePolling  bool
	Workers         int
	ClusterStores   bool     // whether ClusterSecretStores may be used
	Watch, Exclude  []string // namespaces; none: all, none

	KMSCallsPerSecond, STSCallsPerMinute float64

	Namespace                     string // of the Lease
	MetricsAddress, HealthAddress string
	REST                          *rest.Config
	Log                           logr.Logger
}

// lease is ack-secret-manager's: in one namespace the two never work at the same time.
const lease = "ack-secret-manager-lock"

// excludes reports whether a namespace is none of ours. One that is not watched is not in the cache either.
func (o Options) excludes(namespace string) bool { return slices.Contains(o.Exclude, namespace) }

// outside is what a process has once, and what is beyond the cluster. A simulation has others.
type outside struct {
	registry prometheus.Registerer
	rrsa     func(identity.RRSA) (identity.Provider, error) // nil: STS's
	dial     func(kms.Config) (cloud.Gateway, error)        // nil: KMS's
}

// Run works until ctx ends.
func Run(ctx context.Context, o Options) error {
	return run(ctx, o, outside{registry: metrics.Registry})
}

func run(ctx context.Context, o Options, out outside) error {
	// Client-go's default, five requests a second, is less than a few hundred objects need; the API server's priority and fairness, and
	// the number of workers, bound them.
	o.REST = rest.CopyConfig(o.REST)
	o.REST.QPS = -1
	kube, err := kubernetes.NewForConfig(o.REST)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	told := ctx // done when the process is told to stop
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if err := o.watchReadable(ctx, kube.AuthorizationV1().SelfSubjectAccessReviews(), end); err != nil {
		return err
	}
	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	resolver, err := store.New(store.Settings{
		Config: o.Config, Cached: mgr.GetClient(), Watch: o.Watch, Live: mgr.GetAPIReader(), Token: token.New(kube.CoreV1()).Token,
		Getenv: o.Getenv, RRSA: out.rrsa,
	})
	if err != nil {
		return err
	}
	counted := newCounters(out.registry)
	calls := cloud.New(cloud.Settings{
		KMS: resolver.KMS, SharedPerSecond: o.KMSCallsPerSecond, STSPerMinute: o.STSCallsPerMinute, Dial: out.dial,
		Count:  func(service, code string) { counted.requests.WithLabelValues(service, code).Inc() },
		Waited: func(service string, d time.Duration) { counted.waits.WithLabelValues(service).Observe(d.Seconds()) },
	})
	out.registry.MustRegister(objects{o, mgr.GetClient(), mgr.Elected()})
	recorder := mgr.GetEventRecorder("kms-sync")
	if err := mgr.GetFieldIndexer().IndexField(ctx, &v1alpha1.ExternalSecret{}, storeIndex, storesOf); err != nil {
		return fmt.Errorf("index the stores of ExternalSecrets: %w", err)
	}
	err = addSecrets(mgr, o, &secrets{
		Options: o, client: mgr.GetClient(), resolver: resolver, cloud: calls, events: recorder, counters: counted, now: time.Now,
		writer: &target.Writer{Client: mgr.GetClient(), Cached: mgr.GetCache(), Live: mgr.GetAPIReader()}, recent: map[types.UID]history{},
	})
	if err != nil {
		return err
	}
	for kind, object := range map[string]client.Object{
		content.KindSecretStore: &v1alpha1.SecretStore{}, content.KindClusterSecretStore: &v1alpha1.ClusterSecretStore{},
	} {
		if kind == content.KindClusterSecretStore && !o.ClusterStores {
			continue
		}
		s := &stores{Options: o, kind: kind, client: mgr.GetClient(), resolver: resolver, cloud: calls, events: recorder}
		err := ctrl.NewControllerManagedBy(mgr).For(object, builder.WithPredicates(predicate.GenerationChangedPredicate{})).Complete(s)
		if err != nil {
			return fmt.Errorf("add the controller of %ss: %w", kind, err)
		}
	}
	if err := mgr.Start(ctx); err != nil || told.Err() != nil {
		return err
	}
	return context.Cause(ctx)
}

// newManager returns a manager with caches that hold no Secret's data: of Secrets only the metadata of those that are synced, of
// ServiceAccounts and Namespaces only metadata.
func newManager(o Options) (manager.Manager, error) {
	types := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(types); err != nil {
			return nil, err
		}
	}
	cached := cache.Options{ByObject: map[client.Object]cache.ByObject{
		&corev1.Secret{}: {Label: labels.SelectorFromSet(labels.Set{target.LabelSynced: "true"})},
	}}
	if len(o.Watch) > 0 {
		cached.DefaultNamespaces = map[string]cache.Config{}
		for _, namespace := range o.Watch {
			cached.DefaultNamespaces[namespace] = cache.Config{}
		}
	}
	mgr, err := ctrl.NewManager(o.REST, ctrl.Options{
		Scheme: types, Cache: cached, Logger: o.Log,
		LeaderElection: true, LeaderElectionID: lease, LeaderElectionNamespace: o.Namespace, LeaderElectionReleaseOnCancel: true,
		Metrics: metricsserver.Options{BindAddress: cmp.Or(o.MetricsAddress, "0")}, HealthProbeBindAddress: o.HealthAddress,
		Controller: config.Controller{SkipNameValidation: new(true)}, // of two processes in one, as in a simulation of restarts
		// Secrets are read from the API server itself, whole and one at a time.
		Client: client.Options{Cache: &client.CacheOptions{DisableFor: []client.Object{&corev1.Secret{}}}},
	})
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	synced := func(req *http.Request) error {
		if !mgr.GetCache().WaitForCacheSync(req.Context()) {
			return fmt.Errorf("the caches have not synced")
		}
		return nil
	}
	if err := cmp.Or(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("caches", synced)); err != nil {
		return nil, err
	}
	return mgr, nil
}

// storeIndex finds the ExternalSecrets that name a store.
const storeIndex = "stores"

func storeKey(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

// storesOf returns the keys of the stores that an ExternalSecret names.
func storesOf(object client.Object) []string {
	var keys []string
	for _, ref := range content.Refs(object.(*v1alpha1.ExternalSecret)) {
		if ref.Store.Name != "" {
			keys = append(keys, storeKey(ref.Store.Kind, ref.Store.Namespace, ref.Store.Name))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// addSecrets has an object looked at when it changes, or its Secret, its stores, or a ServiceAccount of a namespace in which it waits for
// one.
func addSecrets(mgr manager.Manager, o Options, s *secrets) error {
	account := &metav1.PartialObjectMetadata{}
	account.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("ServiceAccount"))
	secret := &metav1.PartialObjectMetadata{}
	secret.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	asked := predicate.Or(predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	changed := builder.WithPredicates(predicate.GenerationChangedPredicate{})
	b := ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.ExternalSecret{}, builder.WithPredicates(asked)).
		WatchesMetadata(secret, handler.EnqueueRequestsFromMapFunc(claimants)).
		WatchesMetadata(account, handler.EnqueueRequestsFromMapFunc(s.waiting), builder.WithPredicates(predicate.AnnotationChangedPredicate{})).
		Watches(&v1alpha1.SecretStore{}, handler.EnqueueRequestsFromMapFunc(s.users(content.KindSecretStore)), changed).
		WithOptions(controller.Options{MaxConcurrentReconciles: o.Workers})
	if o.ClusterStores {
		b = b.Watches(&v1alpha1.ClusterSecretStore{}, handler.EnqueueRequestsFromMapFunc(s.users(content.KindClusterSecretStore)), changed)
	}
	if err := b.Complete(s); err != nil {
		return fmt.Errorf("add the controller of ExternalSecrets: %w", err)
	}
	return nil
}

// claimants are the ExternalSecrets whose keys a Secret has.
func claimants(_ context.Context, secret client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, key := range target.Claimants(secret) {
		requests = append(requests, reconcile.Request{NamespacedName: key})
	}
	return requests
}

// users are the ExternalSecrets that name a store of a kind.
func (s *secrets) users(kind string) handler.MapFunc {
	return func(ctx context.Context, object client.Object) []reconcile.Request {
		key := storeKey(kind, object.GetNamespace(), object.GetName())
		return s.list(ctx, client.MatchingFields{storeIndex: key}, func(*v1alpha1.ExternalSecret) bool { return true })
	}
}

// waiting are the ExternalSecrets of a ServiceAccount's namespace that wait for an identity.
func (s *secrets) waiting(ctx context.Context, account client.Object) []reconcile.Request {
	return s.list(ctx, client.InNamespace(account.GetNamespace()), wasRefused)
}

func (s *secrets) list(ctx context.Context, which client.ListOption, of func(*v1alpha1.ExternalSecret) bool) []reconcile.Request {
	var list v1alpha1.ExternalSecretList
	if err := s.client.List(ctx, &list, which, client.UnsafeDisableDeepCopy); err != nil {
		s.Log.Error(err, "List ExternalSecrets") // of a cache; an index that is missing
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if of(&list.Items[i]) {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return requests
}
