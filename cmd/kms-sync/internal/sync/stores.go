package sync

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/storespec"
)

const (
	reasonValid  = "Valid"
	reasonUnused = "NotUsed" // of a ClusterSecretStore, whose identity depends on the namespace that uses it
)

// stores says of each store of one kind whether it gives an identity that STS accepts.
type stores struct {
	Options
	kind     string
	client   client.Client
	resolver *store.Resolver
	cloud    *cloud.Cloud
	events   events.EventRecorder
}

const (
	checkAgain = 10 * time.Minute // a store that is well: its session is in hand, and STS is not called while it lasts
	checkSoon  = 30 * time.Second // one that is not
)

// Reconcile checks one store. A store leaves nothing when it is deleted, and needs no finalizer; that of ack-secret-manager is taken off.
func (s *stores) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if s.excludes(req.Namespace) {
		return reconcile.Result{}, nil
	}
	object, status, err := s.get(ctx, req)
	if object == nil || err != nil {
		return reconcile.Result{}, err
	}
	before := object.DeepCopyObject().(client.Object)
	if object.GetDeletionTimestamp() != nil {
		if !controllerutil.RemoveFinalizer(object, v1alpha1.Finalizer) {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, client.IgnoreNotFound(s.client.Patch(ctx, object,
			client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
	}
	ready, reason, message := metav1.ConditionTrue, reasonValid, "STS accepts the identity"
	again, kind := checkAgain, corev1.EventTypeNormal
	user, err := s.user(ctx, object)
	switch {
	case err != nil:
		return reconcile.Result{}, err
	case user == nil:
		ready, reason, again = metav1.ConditionUnknown, reasonUnused, checkSoon
		message = "no ExternalSecret that may use the store does; who reads depends on its namespace"
	default:
		err = s.check(ctx, object, user)
		var wait *cloud.Wait
		if errors.As(err, &wait) && wait.Err == nil {
			return reconcile.Result{RequeueAfter: max(wait.After, time.Millisecond)}, nil
		}
		if err != nil {
			p := explained("", err)
			ready, reason, message, again, kind = metav1.ConditionFalse, p.reason, p.message, checkSoon, corev1.EventTypeWarning
		}
	}
	if setReady(&status.Conditions, object.GetGeneration(), ready, reason, message) {
		s.events.Eventf(object, nil, kind, reason, "Check", "%s", note(message))
	}
	if equality.Semantic.DeepEqual(object, before) {
		return reconcile.Result{RequeueAfter: again}, nil
	}
	return reconcile.Result{RequeueAfter: again}, client.IgnoreNotFound(s.client.Status().Patch(ctx, object, client.MergeFrom(before)))
}

// get returns a store and its status in it; nil if there is none.
func (s *stores) get(ctx context.Context, req reconcile.Request) (object client.Object, status *v1alpha1.SecretStoreStatus, err error) {
	if s.kind == content.KindSecretStore {
		of := &v1alpha1.SecretStore{}
		object, status = of, &of.Status
	} else {
		of := &v1alpha1.ClusterSecretStore{}
		object, status = of, &of.Status
	}
	if err := s.client.Get(ctx, req.NamespacedName, object); err != nil {
		return nil, nil, client.IgnoreNotFound(err)
	}
	return object, status, nil
}

// user returns an ExternalSecret as which the store is tried: one of its own namespace, or the oldest that uses a ClusterSecretStore and
// may, nil if none does. One that may not is no reason to call the store wrong, nor to name its namespace to all.
func (s *stores) user(ctx context.Context, object client.Object) (*v1alpha1.ExternalSecret, error) {
	if s.kind == content.KindSecretStore {
		return &v1alpha1.ExternalSecret{ObjectMeta: metav1.ObjectMeta{Namespace: object.GetNamespace(), Name: object.GetName()}}, nil
	}
	var list v1alpha1.ExternalSecretList
	err := s.client.List(ctx, &list, client.MatchingFields{storeIndex: storeKey(s.kind, "", object.GetName())})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.ExternalSecret) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	tried := map[string]bool{} // namespaces: what may be used depends on them
	for _, es := range list.Items {
		if s.excludes(es.Namespace) || tried[es.Namespace] {
			continue
		}
		tried[es.Namespace] = true
		user := &v1alpha1.ExternalSecret{ObjectMeta: metav1.ObjectMeta{Namespace: es.Namespace, Name: es.Name}}
		_, err := s.resolve(ctx, object, user)
		var refusal *store.Refusal
		switch {
		case errors.As(err, &refusal) && refusal.Reason == store.Forbidden:
		case err != nil && refusal == nil:
			return nil, err
		default:
			return user, nil
		}
	}
	return nil, nil
}

func (s *stores) resolve(ctx context.Context, object client.Object, user *v1alpha1.ExternalSecret) (store.Asker, error) {
	return s.resolver.Resolve(ctx, user, store.Entry{
		Store: v1alpha1.SecretStoreRef{Kind: s.kind, Namespace: object.GetNamespace(), Name: object.GetName()},
	})
}

// check gets a session of the store's identity, or takes the one in hand.
func (s *stores) check(ctx context.Context, object client.Object, user *v1alpha1.ExternalSecret) error {
	if of, ok := object.(*v1alpha1.ClusterSecretStore); ok {
		if mistakes := storespec.CheckConditions(of.Spec.Conditions); len(mistakes) > 0 {
			return &store.Refusal{Reason: store.NotReady, Message: mistakes.Line()}
		}
	}
	asker, err := s.resolve(ctx, object, user)
	if err != nil {
		return err
	}
	if err := s.cloud.Authenticate(ctx, asker, cloud.Due); err != nil {
		return &askerError{asker, err}
	}
	return nil
}
