package sync

import (
	"context"
	"errors"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
)

// The kinds of stores.
const (
	secretStore        = "SecretStore"
	clusterSecretStore = "ClusterSecretStore"
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

// checkAgain is how often a store that is well is looked at: its session is in hand, and no call is made while it lasts.
const checkAgain = 10 * time.Minute

// Reconcile checks one store. A store needs no finalizer: deleted, it leaves nothing. One of ack-secret-manager's is taken off, or nobody
// would.
func (s *stores) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if s.excludes(req.Namespace) {
		return reconcile.Result{}, nil
	}
	var object client.Object
	var status *v1alpha1.SecretStoreStatus
	var mistakes func() []string
	if s.kind == secretStore {
		of := &v1alpha1.SecretStore{}
		object, status = of, &of.Status
	} else {
		of := &v1alpha1.ClusterSecretStore{}
		object, status = of, &of.Status
	}
	if err := s.client.Get(ctx, req.NamespacedName, object); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	before := object.DeepCopyObject().(client.Object)
	if object.GetDeletionTimestamp() != nil {
		if !controllerutil.RemoveFinalizer(object, v1alpha1.Finalizer) {
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, client.IgnoreNotFound(s.client.Patch(ctx, object,
			client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
	}
	...
}
