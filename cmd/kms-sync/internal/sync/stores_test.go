package sync

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// check looks at a store once and returns its condition Ready.
func (w *world) check(kind string, object client.Object, status *v1alpha1.SecretStoreStatus) metav1.Condition {
	w.t.Helper()
	s := &stores{Options: w.Options, kind: kind, client: w.kube, resolver: w.resolver, cloud: w.secrets.cloud, events: w.events}
	if _, err := s.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(object)}); err != nil {
		w.t.Fatal(err)
	}
	if err := w.kube.Get(w.t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
		return metav1.Condition{}
	}
	if len(status.Conditions) == 0 {
		return metav1.Condition{}
	}
	return status.Conditions[0]
}

func keys(account string) *v1alpha1.KMS {
	return &v1alpha1.KMS{KMSAuth: &v1alpha1.Auth{ServiceAccountRef: &v1alpha1.ServiceAccountRef{Name: account}}}
}

// A store is ready when STS has given a session of its identity, and says what is wrong otherwise.
func TestStores(t *testing.T) {
	for account, want := range map[string]metav1.Condition{
		"app":          {Status: metav1.ConditionTrue, Reason: "Valid"},
		"without-role": {Status: metav1.ConditionFalse, Reason: "StoreNotReady", Message: "ack.alibabacloud.com/role-arn"},
		"absent":       {Status: metav1.ConditionFalse, Reason: "StoreNotReady", Message: "absent"},
	} {
		of := &v1alpha1.SecretStore{Spec: v1alpha1.SecretStoreSpec{KMS: keys(account)}}
		of.Namespace, of.Name = shop, "store"
		w := newWorld(t, of)
		got := w.check(content.KindSecretStore, of, &of.Status)
		if got.Status != want.Status || got.Reason != want.Reason || !strings.Contains(got.Message, want.Message) {
			t.Errorf("%s: %+v", account, got)
		}
		exchanged := w.cloud.Calls().Sum(emulator.Call{Action: "AssumeRoleWithOIDC"})
		if w.check(content.KindSecretStore, of, &of.Status); exchanged != w.cloud.Calls().Sum(emulator.Call{Action: "AssumeRoleWithOIDC"}) {
			t.Errorf("%s: a second look made another exchange with STS", account)
		}
	}
}

// A ClusterSecretStore is tried as an object that uses it: its identity is that of the object's namespace.
func TestClusterSecretStore(t *testing.T) {
	of := &v1alpha1.ClusterSecretStore{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Spec: v1alpha1.ClusterSecretStoreSpec{KMS: keys("app")}}
	w := newWorld(t, of)
	if got := w.check(content.KindClusterSecretStore, of, &of.Status); got.Status != metav1.ConditionUnknown || got.Reason != "NotUsed" {
		t.Errorf("unused: %+v", got)
	}
	user := object("db", func(es *v1alpha1.ExternalSecret) {
		es.Spec.Data[0].SecretStoreRef = &v1alpha1.SecretStoreRef{Name: "all", Kind: content.KindClusterSecretStore}
	})
	if err := w.kube.Create(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	if got := w.check(content.KindClusterSecretStore, of, &of.Status); got.Status != metav1.ConditionTrue {
		t.Errorf("used: %+v", got)
	}
	w.put("db", "value")
	if es, _ := w.reconcile("db"); ready(es).Status != metav1.ConditionTrue || len(es.Status.StoreGenerations) != 1 {
		t.Errorf("the object that uses it: %+v", es.Status)
	}
	// One of a namespace that the store does not admit, and one of a namespace that is left out, decide nothing, however old they are.
	of.Spec.Conditions = []v1alpha1.NamespaceCondition{{Namespaces: []string{shop, "left-out"}}}
	if err := w.kube.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	w.Exclude = []string{"left-out"}
	for _, name := range []string{"another", "left-out"} {
		stranger := user.DeepCopy()
		stranger.Namespace, stranger.ResourceVersion, stranger.UID = name, "", types.UID(name)
		stranger.CreationTimestamp = metav1.NewTime(w.now.Add(-time.Hour))
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if err := errors.Join(w.kube.Create(t.Context(), ns), w.kube.Create(t.Context(), stranger)); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.check(content.KindClusterSecretStore, of, &of.Status); got.Status != metav1.ConditionTrue {
		t.Errorf("used by others, too: %+v", got)
	}
	if err := w.kube.Delete(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	w.reconcile("db")
	if got := w.check(content.KindClusterSecretStore, of, &of.Status); got.Reason != reasonUnused || strings.Contains(got.Message, "another") {
		t.Errorf("used only by others: %+v", got)
	}
	user.ResourceVersion = ""
	if err := w.kube.Create(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	of.Spec.Conditions = []v1alpha1.NamespaceCondition{{NamespaceRegexes: []string{"("}}}
	if err := w.kube.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	got := w.check(content.KindClusterSecretStore, of, &of.Status)
	if got.Reason != "StoreNotReady" || !strings.Contains(got.Message, "namespaceRegexes[0]") {
		t.Errorf("with a condition that is wrong: %+v", got)
	}
}

// The finalizer of ack-secret-manager does not keep a store that is deleted.
func TestFinalizerOfTheOriginal(t *testing.T) {
	of := &v1alpha1.SecretStore{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "store", Finalizers: []string{v1alpha1.Finalizer}}}
	w := newWorld(t, of)
	if err := w.kube.Delete(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	w.check(content.KindSecretStore, of, &of.Status)
	if err := w.kube.Get(t.Context(), types.NamespacedName{Namespace: shop, Name: "store"}, of); err == nil {
		t.Errorf("the store is still there: %+v", of.ObjectMeta)
	}
}

// TestUnwatchedNamespaces: what a store or a ServiceAccount of a namespace outside the caches lacks, a condition says.
func TestUnwatchedNamespaces(t *testing.T) {
	elsewhere := &v1alpha1.ClusterSecretStore{Spec: v1alpha1.ClusterSecretStoreSpec{KMS: keys("app")}}
	elsewhere.Name = "all"
	elsewhere.Spec.KMS.KMSAuth.ServiceAccountRef.Namespace = "platform"
	own := &v1alpha1.SecretStore{Spec: v1alpha1.SecretStoreSpec{KMS: keys("app")}}
	own.Namespace, own.Name = shop, "s"
	for ref, want := range map[v1alpha1.SecretStoreRef]string{
		{Name: "s", Namespace: "platform"}:                  "SecretStore platform/s is in namespace platform, which",
		{Name: "all", Kind: content.KindClusterSecretStore}: "ServiceAccount platform/app is in namespace platform, which",
		{Name: "s"}: "",
	} {
		w := newWorld(t, elsewhere.DeepCopy(), own.DeepCopy(),
			object("db", func(es *v1alpha1.ExternalSecret) { es.Spec.Data[0].SecretStoreRef = &ref }))
		w.put("db", "value")
		w.resolver.Config.CrossNamespaceStores, w.resolver.Config.ClusterServiceAccounts = true, []string{"platform/app"}
		w.resolver.Watch = []string{shop}
		w.resolver.Cached = interceptor.NewClient(w.kube, interceptor.Funcs{ // as a cache of some namespaces does
			Get: func(ctx context.Context, in client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if key.Namespace != "" && key.Namespace != shop {
					return fmt.Errorf("unable to get: %v because of unknown namespace for the cache", key)
				}
				return in.Get(ctx, key, o, opts...)
			},
		})
		es, _ := w.reconcile("db")
		if c := ready(es); want == "" && c.Reason != reasonSynced ||
			want != "" && (c.Reason != store.NotReady || !strings.Contains(c.Message, want) || !strings.Contains(c.Message, "watchNamespaces")) {
			t.Errorf("%+v: %+v", ref, c)
		}
	}
}

// TestClusterSecretStoreNamesNoTenant: what a ClusterSecretStore says, everybody may read, and no tenant decides it for all.
func TestClusterSecretStoreNamesNoTenant(t *testing.T) {
	of := &v1alpha1.ClusterSecretStore{ObjectMeta: metav1.ObjectMeta{Name: "all"}, Spec: v1alpha1.ClusterSecretStoreSpec{KMS: keys("app")}}
	w := newWorld(t, of)
	uses := func(namespace string, age time.Duration) *v1alpha1.ExternalSecret {
		es := object("db", func(es *v1alpha1.ExternalSecret) {
			es.Namespace, es.UID, es.CreationTimestamp = namespace, types.UID(namespace), metav1.NewTime(w.now.Add(-age))
			es.Spec.Data[0].SecretStoreRef = &v1alpha1.SecretStoreRef{Name: "all", Kind: content.KindClusterSecretStore}
		})
		if err := w.kube.Create(t.Context(), es); err != nil {
			t.Fatal(err)
		}
		return es
	}
	account := func(namespace, name string, annotations map[string]string) {
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}
		sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations}}
		if err := errors.Join(w.kube.Create(t.Context(), ns), w.kube.Create(t.Context(), sa)); err != nil {
			t.Fatal(err)
		}
	}
	account("tenant-1", "app", map[string]string{"ack.alibabacloud.com/role-arn": emulatortest.RoleARN}) // which does not trust it
	account("tenant-2", "app", nil)
	uses("tenant-1", 2*time.Hour)
	uses("tenant-2", time.Hour)
	good := uses(shop, 0)
	if got := w.check(content.KindClusterSecretStore, of, &of.Status); got.Status != metav1.ConditionTrue {
		t.Errorf("with two tenants whose ServiceAccounts are wrong: %+v", got)
	}
	if err := w.kube.Delete(t.Context(), good); err != nil {
		t.Fatal(err)
	}
	got := w.check(content.KindClusterSecretStore, of, &of.Status)
	if got.Status != metav1.ConditionFalse || got.Reason != reasonUntrusted || !strings.Contains(got.Message, "none of the 2 ") {
		t.Errorf("with them alone: %+v", got)
	}
	for range 2 {
		if e := <-w.events.Events; strings.Contains(e+got.Message, "tenant-") {
			t.Errorf("a tenant is named: %s; %s", got.Message, e)
		}
	}
	// A ServiceAccount that serves all is the administrator's, and no secret.
	of.Spec.KMS.KMSAuth.ServiceAccountRef = &v1alpha1.ServiceAccountRef{Namespace: "platform", Name: "reader"}
	w.resolver.Config.ClusterServiceAccounts = []string{"platform/reader"}
	account("platform", "reader", nil)
	if err := w.kube.Update(t.Context(), of); err != nil {
		t.Fatal(err)
	}
	got = w.check(content.KindClusterSecretStore, of, &of.Status)
	if got.Reason != store.NotReady || !strings.Contains(got.Message, "no RAM role is set for ServiceAccount platform/reader") {
		t.Errorf("of the administrator's ServiceAccount: %+v", got)
	}
}
