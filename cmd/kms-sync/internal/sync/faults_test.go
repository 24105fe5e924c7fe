package sync

import (
	"context"
	"errors"
	"fmt"
	gosync "sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/target"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// try looks at an object until it is well or the attempts are used up, each when the object is due, and returns it. Errors are tried again,
// as the queue does.
func (w *world) try(name string, attempts int) (es *v1alpha1.ExternalSecret, errs []error) {
	w.t.Helper()
	key := types.NamespacedName{Namespace: shop, Name: name}
	for range attempts {
		begun := time.Now()
		result, err := w.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key})
		if took := time.Since(begun); took > 30*time.Second {
			w.t.Errorf("a round took %s", took)
		}
		if err != nil {
			errs = append(errs, err)
		}
		es = &v1alpha1.ExternalSecret{}
		if err := w.kube.Get(w.t.Context(), key, es); err != nil {
			return nil, errs
		}
		if ready(es).Status == metav1.ConditionTrue && err == nil {
			return es, errs
		}
		w.now = w.now.Add(max(result.RequeueAfter, time.Second))
	}
	return es, errs
}

// TestFaults: whatever fails when KMS has another value, a Secret that exists stays as it is and one that does not is not made; nothing
// hangs; the condition Ready has the reason; and when it is over both are right.
func TestFaults(t *testing.T) {
	const read, assume = "GetSecretValue", "AssumeRoleWithOIDC"
	later := &emulator.Fault{Action: read, Status: 429, Code: "Rejected.Throttling", RetryAfter: emulator.Duration(time.Minute)}
	for name, tc := range map[string]struct {
		fault  *emulator.Fault
		breaks func(*world) (mend func())
		reason string
		waits  time.Duration // at least
	}{
		"KMS 500":                  {fault: &emulator.Fault{Action: read, Status: 500}, reason: reasonUnreachable},
		"KMS 503":                  {fault: &emulator.Fault{Action: read, Status: 503}, reason: reasonUnreachable},
		"KMS 429":                  {fault: &emulator.Fault{Action: read, Status: 429, Code: "Rejected.Throttling"}, reason: reasonThrottled},
		"KMS 429 with Retry-After": {fault: later, reason: reasonThrottled, waits: time.Minute},
		"KMS hangs":                {fault: &emulator.Fault{Action: read, Hang: "headers"}, reason: reasonUnreachable},
		"KMS hangs in the answer":  {fault: &emulator.Fault{Action: read, Hang: "body"}, reason: reasonUnreachable},
		"KMS cuts":                 {fault: &emulator.Fault{Action: read, Cut: "headers"}, reason: reasonUnreachable},
		"KMS cuts its answer":      {fault: &emulator.Fault{Action: read, Cut: "body"}, reason: reasonUnreachable},
		"KMS answers nonsense":     {fault: &emulator.Fault{Action: read, Body: "<html>200</html>"}, reason: reasonUnreachable},
		"an empty answer":          {fault: &emulator.Fault{Action: read, Body: "{}"}, reason: reasonUnreachable},
		"the right is revoked":     {fault: &emulator.Fault{Action: read, Status: 403, Code: "Forbidden.NoPermission"}, reason: reasonForbidden},
		"STS 500":                  {fault: &emulator.Fault{Action: assume, Status: 500}, reason: reasonUnreachable},
		"STS 429":                  {fault: &emulator.Fault{Action: assume, Status: 429, Code: "Throttling.User"}, reason: reasonThrottled},
		"STS hangs":                {fault: &emulator.Fault{Action: assume, Hang: "headers"}, reason: reasonUnreachable},
		"STS cuts":                 {fault: &emulator.Fault{Action: assume, Cut: "headers"}, reason: reasonUnreachable},
		"STS refuses the token": {fault: &emulator.Fault{Action: assume, Status: 400, Code: "AuthenticationFail.OIDCToken.Expired"},
			reason: reasonUntrusted},
		"the role is deleted": {breaks: func(w *world) func() {
			roles := w.cloud.Roles()
			for _, r := range roles {
				if err := w.cloud.DeleteRole(r.Name); err != nil {
					w.t.Fatal(err)
				}
			}
			return func() {
				for _, r := range roles {
					if err := w.cloud.PutRole(r); err != nil {
						w.t.Fatal(err)
					}
				}
			}
		}, reason: reasonUntrusted},
		"everything is away": {fault: &emulator.Fault{Status: 503}, reason: reasonUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, object("db"), object("new"))
			w.put("db", "first")
			w.reconcile("db")
			w.put("new", "first")
			if err := w.cloud.Rotate("db", emulator.Version{Value: emulator.Value{Text: "second"}}); err != nil {
				t.Fatal(err)
			}
			var mend func()
			if tc.fault != nil {
				id := w.cloud.Fault(t, *tc.fault)
				mend = func() {
					if err := w.cloud.RemoveFault(id); err != nil {
						t.Fatal(err)
					}
				}
			} else {
				mend = tc.breaks(w)
			}
			w.patience = 500 * time.Millisecond
			w.start()
			for _, name := range []string{"db", "new"} {
				w.now = w.now.Add(10 * time.Minute)
				begun := w.now
				es, errs := w.try(name, 1)
				if c := ready(es); c.Status != metav1.ConditionFalse || c.Reason != tc.reason || len(errs) > 0 {
					t.Errorf("%s: %s, %s: %s; %v", name, c.Status, c.Reason, c.Message, errs)
				}
				if waited := w.now.Sub(begun); waited < tc.waits {
					t.Errorf("%s: it is tried again after %s", name, waited)
				}
				w.try(name, 1)
			}
			if string(w.secret("db")["value"]) != "first" || w.secret("new") != nil {
				t.Errorf("the Secrets have %q and %q", w.secret("db"), w.secret("new"))
			}
			mend()
			w.patience = 0
			w.start()
			w.now = w.now.Add(10 * time.Minute)
			for name, want := range map[string]string{"db": "second", "new": "first"} {
				if es, errs := w.try(name, 2); ready(es).Status != metav1.ConditionTrue || string(w.secret(name)["value"]) != want {
					t.Errorf("%s, after it: %+v; %v", name, ready(es), errs)
				}
			}
		})
	}
}

// TestGone: a secret that KMS no longer has is one only by KMS's own word, twice, a poll apart, and nothing else in between; another name
// needs two words of its own.
func TestGone(t *testing.T) {
	w := newWorld(t, object("db", func(es *v1alpha1.ExternalSecret) { es.Spec.Target.DeletionPolicy = v1alpha1.DeletionDelete }))
	w.put("db", "first")
	w.reconcile("db")
	named := func(name string) func() {
		return func() {
			es, _ := w.reconcile("db") // which is not due
			es.Spec.Data[0].Key, es.Generation = name, es.Generation+1
			if err := w.kube.Update(t.Context(), es); err != nil {
				t.Fatal(err)
			}
		}
	}
	gone := emulator.Fault{Action: "GetSecretValue", Status: 404, Code: "Forbidden.ResourceNotFound"}
	outage := emulator.Fault{Status: 503}
	for i, step := range []struct {
		fault  emulator.Fault
		after  time.Duration
		there  bool
		before func()
	}{
		{outage, time.Hour, true, nil}, {outage, time.Hour, true, nil}, {gone, time.Hour, true, nil}, {gone, 20 * time.Second, true, nil},
		{outage, time.Hour, true, nil}, {gone, time.Hour, true, nil}, {gone, time.Hour, true, named("mistyped")},
		{gone, time.Hour, true, named("db")}, {gone, time.Hour, false, nil},
	} {
		if step.before != nil {
			step.before()
		}
		w.cloud.ClearFaults()
		w.cloud.Fault(t, step.fault)
		w.now = w.now.Add(step.after)
		recent := w.recent
		w.start() // what KMS answered is kept for an interval of the real clock
		w.recent = recent
		if w.reconcile("db"); (w.secret("db") != nil) != step.there {
			t.Fatalf("step %d: the Secret has %d keys", i, len(w.secret("db")))
		}
	}
	w.cloud.ClearFaults()
	w.start()
	w.now = w.now.Add(time.Hour)
	if es, _ := w.reconcile("db"); ready(es).Status != metav1.ConditionTrue || string(w.secret("db")["value"]) != "first" {
		t.Errorf("KMS has it again: %+v", ready(es))
	}
}

// TestAPIServer: the API server fails at the n-th call of the controller, before or after it has done what it was asked for, and the
// controller is replaced by another. It is right in the end, whichever n it is, and KMS is asked few times.
func TestAPIServer(t *testing.T) {
	for _, done := range []bool{false, true} {
		for n := 1; ; n++ {
			w := newWorld(t, object("db"))
			w.put("db", "first")
			whole := w.kube
			calls, failed := 0, false
			fails := func(do func() error) error {
				if calls++; calls < n || calls > n+2 {
					return do()
				}
				failed = true
				if done {
					if err := do(); err != nil {
						return err
					}
				}
				return apierrors.NewServiceUnavailable("etcdserver: request timed out")
			}
			w.kube = interceptor.NewClient(whole, interceptor.Funcs{
				Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
					return fails(func() error { return c.Get(ctx, key, o, opts...) })
				},
				List: func(ctx context.Context, c client.WithWatch, l client.ObjectList, opts ...client.ListOption) error {
					return fails(func() error { return c.List(ctx, l, opts...) })
				},
				Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					return fails(func() error { return c.Create(ctx, o, opts...) })
				},
				Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
					return fails(func() error { return c.Patch(ctx, o, p, opts...) })
				},
				Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
					return fails(func() error { return c.Apply(ctx, o, opts...) })
				},
				Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
					return fails(func() error { return c.Delete(ctx, o, opts...) })
				},
				SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch,
					opts ...client.SubResourcePatchOption) error {
					return fails(func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
				},
			})
			w.start()
			key := types.NamespacedName{Namespace: shop, Name: "db"}
			until := func(what string, right func() bool) {
				t.Helper()
				for range 6 {
					if _, err := w.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}); err != nil {
						w.start()
						continue
					}
					if right() {
						return
					}
					w.now = w.now.Add(5 * time.Minute)
				}
				t.Fatalf("call %d fails (done: %t): %s", n, done, what)
			}
			get := func() *v1alpha1.ExternalSecret {
				var es v1alpha1.ExternalSecret
				if err := whole.Get(t.Context(), key, &es); err != nil {
					return nil
				}
				return &es
			}
			value := func(secret string) string {
				var s corev1.Secret
				_ = whole.Get(t.Context(), types.NamespacedName{Namespace: shop, Name: secret}, &s)
				return string(s.Data["value"])
			}
			until("create", func() bool { return ready(get()).Status == metav1.ConditionTrue && value("db") == "first" })
			es := get()
			es.Spec.Target.Name = "renamed"
			es.Generation++
			if err := whole.Update(t.Context(), es); err != nil {
				t.Fatal(err)
			}
			until("rename", func() bool {
				return get().Status.SecretName == "renamed" && value("renamed") == "first" && value("db") == ""
			})
			if err := whole.Delete(t.Context(), get()); err != nil {
				t.Fatal(err)
			}
			until("delete", func() bool { return get() == nil && value("renamed") == "" })
			if n := w.calls(); n > 6 {
				t.Errorf("%d calls of KMS", n)
			}
			if !failed {
				break
			}
		}
	}
}

// TestTwoLeaders: the one before still works when the next one starts.
func TestTwoLeaders(t *testing.T) {
	w := newWorld(t, object("db"))
	w.put("db", "first")
	first := w.secrets
	w.start()
	second := w.secrets
	key := types.NamespacedName{Namespace: shop, Name: "db"}
	for range 5 {
		var group gosync.WaitGroup
		for _, leader := range []*secrets{first, second} {
			group.Go(func() {
				_, _ = leader.Reconcile(t.Context(), reconcile.Request{NamespacedName: key}) // a conflict is tried again
			})
		}
		group.Wait()
		w.now = w.now.Add(3 * time.Minute)
	}
	if es, errs := w.try("db", 3); ready(es).Status != metav1.ConditionTrue || string(w.secret("db")["value"]) != "first" || len(errs) > 0 {
		t.Errorf("%+v; %v", ready(es), errs)
	}
}

// TestEndings: a thousand objects go with their namespace or with the custom resource definition, without a call of the cloud, whatever
// state it is in, and without a write of a Secret; one that is deleted for itself takes its Secret along.
func TestEndings(t *testing.T) {
	for name, tc := range map[string]struct {
		ending client.Object
		stays  bool
	}{
		"the namespace": {&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shop}}, true},
		"the CRD": {&metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{
			APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"}, ObjectMeta: metav1.ObjectMeta{Name: target.CRD}}, true},
		"the objects": {nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			many := 1000
			if tc.ending == nil {
				many = 100 // the tests' client copies all of them for each
			}
			var objects []client.Object
			for i := range many {
				es := object(fmt.Sprint("db-", i))
				es.Finalizers = []string{v1alpha1.Finalizer}
				es.Status.SecretName = es.Name
				objects = append(objects, es, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
					Namespace: shop, Name: es.Name, UID: "x", Labels: map[string]string{target.LabelSynced: "true"},
					Annotations: map[string]string{
						target.AnnotationOwner: shop + "/" + es.Name, "keys.kms.alibabacloud.com/" + es.Name: shop + "/" + es.Name + ":value"},
				}, Data: map[string][]byte{"value": []byte("first")}})
			}
			w := newWorld(t, objects...)
			w.cloud.Fault(t, emulator.Fault{Status: 503})
			if tc.ending != nil {
				key := client.ObjectKeyFromObject(tc.ending)
				if err := w.kube.Get(t.Context(), key, tc.ending); err != nil {
					t.Fatal(err)
				}
				tc.ending.SetFinalizers([]string{"kubernetes"})
				if err := errors.Join(w.kube.Update(t.Context(), tc.ending), w.kube.Delete(t.Context(), tc.ending)); err != nil {
					t.Fatal(err)
				}
			}
			for _, o := range objects {
				if es, ok := o.(*v1alpha1.ExternalSecret); ok {
					if err := w.kube.Delete(t.Context(), es); err != nil {
						t.Fatal(err)
					}
					if left, result := w.reconcile(es.Name); left != nil || result.RequeueAfter > 0 {
						t.Fatalf("%s is left, and comes back after %s", es.Name, result.RequeueAfter)
					}
				}
			}
			var secrets corev1.SecretList
			if err := w.kube.List(t.Context(), &secrets); err != nil {
				t.Fatal(err)
			}
			if stay := len(secrets.Items) == many; stay != tc.stays || !stay && len(secrets.Items) > 0 || w.calls() > 0 {
				t.Errorf("%d Secrets are left; %d calls of KMS", len(secrets.Items), w.calls())
			}
		})
	}
}

// TestNotOwnedIsNotRead: KMS is not asked for what may not be written.
func TestNotOwnedIsNotRead(t *testing.T) {
	w := newWorld(t, object("db"),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "db"}, Data: map[string][]byte{"value": []byte("own")}})
	w.put("db", "first")
	for range 3 {
		if es, _ := w.reconcile("db"); ready(es).Reason != target.NotOwned {
			t.Errorf("%+v", ready(es))
		}
		w.now = w.now.Add(10 * time.Minute)
	}
	if w.calls() > 0 || string(w.secret("db")["value"]) != "own" {
		t.Errorf("%d calls", w.calls())
	}
}
