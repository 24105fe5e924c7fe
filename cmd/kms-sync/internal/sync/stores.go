package sync

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
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
	err = s.try(ctx, object)
	var wait *cloud.Wait
	switch of, cluster := object.(*v1alpha1.ClusterSecretStore); {
	case err == nil && cluster && ofUsers(of.Spec.KMS):
		message = "STS accepts the identity of a namespace that uses the store; what it says of others, their ExternalSecrets say"
	case err == nil:
	case errors.Is(err, errUnused):
		ready, reason, message, again = metav1.ConditionUnknown, reasonUnused, err.Error(), checkSoon
	case errors.As(err, &wait) && wait.Err == nil:
		return reconcile.Result{RequeueAfter: max(wait.After, time.Millisecond)}, nil
	case outage(err):
		return reconcile.Result{}, err
	default:
		p := explained("", err)
		ready, reason, message, again, kind = metav1.ConditionFalse, p.reason, p.message, checkSoon, corev1.EventTypeWarning
	}
	if setReady(&status.Conditions, object.GetGeneration(), ready, reason, message) {
		s.events.Eventf(object, nil, kind, reason, "Check", "%s", clip(message, mostNote))
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

// errUnused says that a ClusterSecretStore cannot be tried.
var errUnused = errors.New("no ExternalSecret that may use the store does; which identity reads depends on its namespace")

// mostTried is how many namespaces without an identity that STS accepts are enough to call a ClusterSecretStore wrong.
const mostTried = 10

// try gets a session of a store's identity: for a ClusterSecretStore as the oldest ExternalSecret of each namespace that uses it and may,
// until one gets a session. One that may not is no reason to call the store wrong. Everybody may read what a ClusterSecretStore says, so
// that where the identity is the namespaces' own no error names one.
func (s *stores) try(ctx context.Context, object client.Object) error {
	of, cluster := object.(*v1alpha1.ClusterSecretStore)
	if !cluster {
		return s.check(ctx, object, types.NamespacedName{Namespace: object.GetNamespace(), Name: object.GetName()})
	}
	mistakes := storespec.Check(v1alpha1.SecretStoreSpec{KMS: of.Spec.KMS, OOS: of.Spec.OOS}, "")
	if mistakes = append(mistakes, storespec.CheckConditions(of.Spec.Conditions)...); len(mistakes) > 0 {
		return &store.Refusal{Reason: store.NotReady, Message: mistakes.Line()}
	}
	users, err := s.users(ctx, of)
	if err != nil {
		return err
	}
	var first error
	failed := 0
	for _, user := range users {
		err := s.check(ctx, object, user)
		var refusal *store.Refusal
		var wait *cloud.Wait
		switch {
		case errors.As(err, &refusal) && refusal.Reason == store.Forbidden:
			continue
		case err == nil, !ofUsers(of.Spec.KMS), outage(err), errors.As(err, &wait) && wait.Err == nil:
			return err
		}
		first = cmp.Or(first, err)
		if failed++; failed == mostTried {
			break
		}
	}
	if first == nil {
		return errUnused
	}
	return &store.Refusal{Reason: reasonOf(first), Message: fmt.Sprintf("the store's identity is that of the namespace that uses it, and "+
		"none of the %d that were tried has one that STS accepts; the condition Ready of their ExternalSecrets says what to change", failed)}
}

// ofUsers reports whether the identity of a ClusterSecretStore is in the namespace that uses it.
func ofUsers(kms *v1alpha1.KMS) bool {
	if auth := kms.DedicatedKMSAuth; auth != nil {
		return auth.ClientKeyContent.Namespace == "" || auth.Password.Namespace == ""
	}
	auth := kms.KMSAuth
	if ref := auth.ServiceAccountRef; ref != nil {
		return ref.Namespace == ""
	}
	return auth.AccessKey != nil && (auth.AccessKey.Namespace == "" || auth.AccessKeySecret.Namespace == "")
}

// outage reports whether an error is neither a refusal nor an answer of STS.
func outage(err error) bool {
	var refusal *store.Refusal
	var by *askerError
	return err != nil && !errors.As(err, &refusal) && !errors.As(err, &by)
}

// users returns the oldest ExternalSecret of each namespace that uses a ClusterSecretStore, the oldest first: what may be used depends on
// the namespace.
func (s *stores) users(ctx context.Context, of *v1alpha1.ClusterSecretStore) ([]types.NamespacedName, error) {
	var list v1alpha1.ExternalSecretList
	if err := s.client.List(ctx, &list, client.MatchingFields{storeIndex: storeKey(s.kind, "", of.Name)}); err != nil {
		return nil, err
	}
	slices.SortFunc(list.Items, func(a, b v1alpha1.ExternalSecret) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	var users []types.NamespacedName
	listed := map[string]bool{}
	for _, es := range list.Items {
		if !s.excludes(es.Namespace) && !listed[es.Namespace] {
			listed[es.Namespace] = true
			users = append(users, types.NamespacedName{Namespace: es.Namespace, Name: es.Name})
		}
	}
	return users, nil
}

// check gets a session of the store's identity as an ExternalSecret, or takes the one in hand.
func (s *stores) check(ctx context.Context, object client.Object, user types.NamespacedName) error {
	es := &v1alpha1.ExternalSecret{ObjectMeta: metav1.ObjectMeta{Namespace: user.Namespace, Name: user.Name}}
	asker, err := s.resolver.Resolve(ctx, es, store.Entry{
		Store: v1alpha1.SecretStoreRef{Kind: s.kind, Namespace: object.GetNamespace(), Name: object.GetName()},
	})
	if err != nil {
		return err
	}
	if err := s.cloud.Authenticate(ctx, asker, cloud.Due); err != nil {
		return &askerError{asker, err}
	}
	return nil
}
