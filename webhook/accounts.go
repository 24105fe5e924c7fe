package webhook

import (
	"context"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// liveTimeout bounds the one read past the cache, well inside the API server's patience with a webhook (5 s).
const liveTimeout = 2 * time.Second

var serviceAccountKind = schema.GroupVersionKind{Version: "v1", Kind: "ServiceAccount"}

// accounts looks ServiceAccounts up: in the cache, and once in the API server before anyone is refused, because one that was
// made or annotated a moment ago may not be in the cache yet.
type accounts struct {
	cached, live client.Reader
}

// An outageError is a question that the API server did not answer.
type outageError struct{ err error }

func (e *outageError) Error() string { return e.err.Error() }
func (e *outageError) Unwrap() error { return e.err }

// role is the ARN that a pod assumes, "" for an identity that has its role from elsewhere. The error is an outageError or for the
// pod's author.
func (a accounts) role(ctx context.Context, spec config.Spec, policy config.Injector, namespace, name string) (string, error) {
	if spec.Identity.Kind != config.RRSA {
		return "", nil
	}
	account := rrsa.ServiceAccount{Namespace: namespace, Name: name}
	if rrsa.FromPod(spec) {
		return rrsa.Role(spec, policy, account)
	}
	var err error
	if account.Annotations, err = annotations(ctx, a.cached, namespace, name); err == nil {
		if role, err := rrsa.Role(spec, policy, account); err == nil {
			return role, nil
		}
	}
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	account.Annotations, err = annotations(ctx, a.live, namespace, name)
	switch {
	case apierrors.IsNotFound(err):
		return "", fmt.Errorf("ServiceAccount %s/%s, with which the pod runs, does not exist", namespace, name)
	case err != nil:
		return "", &outageError{fmt.Errorf("read ServiceAccount %s/%s: %w", namespace, name, err)}
	}
	return rrsa.Role(spec, policy, account)
}

func annotations(ctx context.Context, from client.Reader, namespace, name string) (map[string]string, error) {
	var sa metav1.PartialObjectMetadata
	sa.SetGroupVersionKind(serviceAccountKind)
	if err := from.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &sa); err != nil {
		return nil, err
	}
	return sa.Annotations, nil
}

// slim keeps of a ServiceAccount's metadata what role needs: the cache holds every one of the cluster.
func slim(obj any) (any, error) {
	sa, ok := obj.(*metav1.PartialObjectMetadata)
	if !ok {
		return obj, nil
	}
	kept := map[string]string{}
	for _, key := range []string{rrsa.RoleARNAnnotation, rrsa.RoleNameAnnotation} {
		if value, found := sa.Annotations[key]; found {
			kept[key] = value
		}
	}
	return &metav1.PartialObjectMetadata{TypeMeta: sa.TypeMeta, ObjectMeta: metav1.ObjectMeta{
		Namespace: sa.Namespace, Name: sa.Name, ResourceVersion: sa.ResourceVersion, Annotations: kept,
	}}, nil
}

// watchAccounts makes the cache, which the caller starts, and the look-up in it. It asks for no API discovery: the one kind is
// known.
func watchAccounts(config *rest.Config) (cache.Cache, accounts, error) {
	fail := func(err error) (cache.Cache, accounts, error) {
		return nil, accounts{}, fmt.Errorf("watch ServiceAccounts: %w", err)
	}
	httpClient, err := rest.HTTPClientFor(config)
	if err != nil {
		return fail(err)
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(serviceAccountKind, meta.RESTScopeNamespace)
	kind := &metav1.PartialObjectMetadata{}
	kind.SetGroupVersionKind(serviceAccountKind)
	informers, err := cache.New(config, cache.Options{
		HTTPClient: httpClient, Mapper: mapper, ByObject: map[client.Object]cache.ByObject{kind: {Transform: slim}},
	})
	if err != nil {
		return fail(err)
	}
	if _, err := informers.GetInformer(context.Background(), kind, cache.BlockUntilSynced(false)); err != nil {
		return fail(err)
	}
	live, err := client.New(config, client.Options{HTTPClient: httpClient, Mapper: mapper})
	if err != nil {
		return fail(err)
	}
	return informers, accounts{cached: informers, live: live}, nil
}
