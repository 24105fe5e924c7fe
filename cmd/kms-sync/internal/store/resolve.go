package store

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/storespec"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
)

// Settings say what a Resolver works with.
type Settings struct {
	Config Config
	// Cached reads stores, and the metadata of Namespaces and ServiceAccounts.
	Cached client.Reader
	// Watch are the namespaces that Cached has, without any all. Of another one it gives an error that says nothing of the object.
	Watch []string
	// Live reads Secrets, and once more the metadata of a ServiceAccount that has no role in the cache: from the API server itself.
	Live client.Reader
	// Token requests a token for a ServiceAccount.
	Token func(ctx context.Context, namespace, name string) (string, error)
	// STS and KMS say how they are reached; the Config's hosts and CA files are filled in where they have none.
	STS identity.STS
	KMS kms.Config
	// Getenv has the controller's own credentials, in the variables of ack-secret-manager.
	Getenv func(string) string
	// TokenFile is the controller's own token; empty: storespec.TokenFile.
	TokenFile string
	Metadata  identity.NodeRole                              // of the node, for tests
	RRSA      func(identity.RRSA) (identity.Provider, error) // nil: identity.NewRRSA; for simulations
}

// A Resolver resolves entries. It is safe for concurrent use.
type Resolver struct {
	Settings
	policy policy
}

// New returns a Resolver.
func New(s Settings) (*Resolver, error) {
	p, err := s.Config.compile()
	if err != nil {
		return nil, err
	}
	s.TokenFile = cmp.Or(s.TokenFile, storespec.TokenFile)
	if s.RRSA == nil {
		s.RRSA = identity.NewRRSA
	}
	s.STS.Endpoint = cmp.Or(s.STS.Endpoint, s.Config.STS.Endpoint)
	s.STS.CAFile = cmp.Or(s.STS.CAFile, s.Config.STS.CAFile)
	s.KMS.Endpoint = cmp.Or(s.KMS.Endpoint, s.Config.KMS.Endpoint)
	s.KMS.CAFile = cmp.Or(s.KMS.CAFile, s.Config.KMS.CAFile)
	return &Resolver{Settings: s, policy: p}, nil
}

// namespace is that of an ExternalSecret.
type namespace struct {
	name   string
	labels labels.Set
}

// query is one resolution.
type query struct {
	*Resolver
	object *v1alpha1.ExternalSecret
	in     namespace
	allow  clusterconfig.Allow
}

// Resolve returns who reads an entry of an ExternalSecret, and where. Its error is a *Refusal, or says what could not be looked up.
// An entry without a key is about the identity alone.
func (r *Resolver) Resolve(ctx context.Context, es *v1alpha1.ExternalSecret, e Entry) (Asker, error) {
	if es.Spec.Provider == "oos" {
		return Asker{}, refuse(Invalid, "spec.provider: oos is not supported yet; store the parameter as a secret in KMS, "+
			"and set provider to kms")
	}
	in, err := r.namespace(ctx, es.Namespace)
	if err != nil {
		return Asker{}, err
	}
	q := &query{r, es, in, r.policy.allow(in)}
	if e.Key != "" && !q.allow.Secret(e.Key) {
		return Asker{}, refuse(Forbidden, "the administrator of this cluster does not allow the secret %s in namespace %s; allowed: %s",
			e.Key, in.name, listed(q.allow.Secrets))
	}
	a, err := q.asker(ctx, e.Store)
	if err != nil {
		return Asker{}, err
	}
	a.Namespace = es.Namespace
	return a, q.place(&a, strings.TrimSpace(e.Endpoint))
}

func (r *Resolver) namespace(ctx context.Context, name string) (namespace, error) {
	ns, err := metadata(ctx, r.Cached, "Namespace", types.NamespacedName{Name: name})
	if err != nil {
		return namespace{}, fmt.Errorf("read namespace %s: %w", name, err)
	}
	return namespace{name, ns.Labels}, nil
}

func metadata(ctx context.Context, from client.Reader, kind string, key types.NamespacedName) (*metav1.PartialObjectMetadata, error) {
	var object metav1.PartialObjectMetadata
	object.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind(kind))
	err := from.Get(ctx, key, &object)
	return &object, err
}

// place sets the gateway.
func (q *query) place(a *Asker, endpoint string) error {
	if a.Who.Kind == ClientKey {
		if endpoint != "" && endpoint != a.Endpoint {
			return refuse(Invalid, "kmsEndpoint is %s, and the client key of %s is good for %s alone; remove kmsEndpoint", endpoint, a.Store,
				a.Endpoint)
		}
		endpoint = a.Endpoint
	}
	if a.Endpoint = cmp.Or(endpoint, q.KMS.Endpoint); a.Endpoint != q.KMS.Endpoint && !q.allow.Endpoint(a.Endpoint) {
		return refuse(Forbidden, "the administrator of this cluster does not allow the KMS endpoint %s in namespace %s; allowed: %s",
			a.Endpoint, q.in.name, listed(append([]string{q.KMS.Endpoint}, q.allow.Endpoints...)))
	}
	return nil
}

func listed(patterns []string) string { return cmp.Or(strings.Join(patterns, ", "), "none") }

// asker returns who asks: the store's identity, or without a store that of the object's ServiceAccount or of the controller.
func (q *query) asker(ctx context.Context, ref v1alpha1.SecretStoreRef) (Asker, error) {
	name := q.object.Annotations[v1alpha1.AnnotationServiceAccount]
	switch {
	case ref.Name != "":
		return q.stored(ctx, ref)
	case name != "":
		a, err := q.serviceAccount(ctx, q.in.name, name, &v1alpha1.Auth{}, 0)
		return a, at("annotation "+v1alpha1.AnnotationServiceAccount, err)
	}
	a, err := q.environment(ctx)
	return a, at("no secretStoreRef", err)
}

// stored returns the identity of a store.
func (q *query) stored(ctx context.Context, ref v1alpha1.SecretStoreRef) (Asker, error) {
	var spec v1alpha1.SecretStoreSpec
	var o origin
	var generation int64
	if ref.Kind == "ClusterSecretStore" {
		o = origin{where: "ClusterSecretStore " + ref.Name, session: identity.SessionName("kms-sync", ref.Name)}
		var s v1alpha1.ClusterSecretStore
		if err := q.Cached.Get(ctx, types.NamespacedName{Name: ref.Name}, &s); err != nil {
			return Asker{}, absent(o.where, err)
		}
		if err := q.admits(o.where, s.Spec.Conditions); err != nil {
			return Asker{}, err
		}
		spec, generation = v1alpha1.SecretStoreSpec{KMS: s.Spec.KMS, OOS: s.Spec.OOS}, s.Generation
	} else {
		key := types.NamespacedName{Namespace: cmp.Or(ref.Namespace, q.in.name), Name: ref.Name}
		o = origin{where: "SecretStore " + key.String(), namespace: key.Namespace, session: identity.SessionName(key.Namespace, key.Name)}
		if key.Namespace != q.in.name && !q.Config.CrossNamespaceStores {
			return Asker{}, refuse(Forbidden, "%s is of another namespace than the ExternalSecret; make a SecretStore in %s, or have the "+
				"administrator make a ClusterSecretStore or set crossNamespaceStores", o.where, q.in.name)
		}
		if err := q.watched(o.where, key.Namespace); err != nil {
			return Asker{}, err
		}
		var s v1alpha1.SecretStore
		if err := q.Cached.Get(ctx, key, &s); err != nil {
			return Asker{}, absent(o.where, err)
		}
		spec, generation = s.Spec, s.Generation
	}
	a, err := q.from(ctx, spec, o)
	a.Store, a.Generation = o.where, generation
	return a, at(o.where, err)
}

// watched refuses what is in a namespace that the controller does not watch.
func (r *Resolver) watched(what, namespace string) error {
	if len(r.Watch) == 0 || slices.Contains(r.Watch, namespace) {
		return nil
	}
	return refuse(NotReady, "%s is in namespace %s, which kms-sync does not watch; have the administrator add it to "+
		"command.watchNamespaces of kms-sync's chart, or use one of a namespace that is watched", what, namespace)
}

func absent(where string, err error) error {
	if apierrors.IsNotFound(err) {
		return refuse(NotReady, "%s does not exist; create it, or correct secretStoreRef", where)
	}
	return fmt.Errorf("read %s: %w", where, err)
}

// from returns the identity that a store's spec describes.
func (q *query) from(ctx context.Context, spec v1alpha1.SecretStoreSpec, o origin) (Asker, error) {
	if mistakes := storespec.Check(spec, o.namespace); len(mistakes) > 0 {
		return Asker{}, refuse(NotReady, "%s", mistakes.Line())
	}
	if spec.KMS.DedicatedKMSAuth != nil {
		a, err := q.clientKey(spec.KMS.DedicatedKMSAuth, o)
		return a, at("KMS.dedicatedKMSAuth", err)
	}
	auth := spec.KMS.KMSAuth
	key, err := q.keyOf(auth, o)
	if err != nil {
		return Asker{}, err
	}
	a, err := q.identity(ctx, auth, key, o)
	return a, at("KMS.KMSAuth", err)
}

// role holds a role to what the administrator allows.
func (q *query) role(field, arn string) error {
	if !config.AnyMatches(q.allow.Roles, arn) {
		return refuse(Forbidden, "%s: the administrator of this cluster does not allow the role %s in namespace %s; allowed: %s",
			field, arn, q.in.name, listed(q.allow.Roles))
	}
	return nil
}
