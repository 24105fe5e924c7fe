package target

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/managedfields"
	"k8s.io/apimachinery/pkg/util/validation/field"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	k8stesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
)

const (
	ns       = "shop"
	stranger = "kubectl-edit"
)

var kubeconfig = flag.String("real", "", "the kubeconfig of an API server with kms-sync's custom resource definitions and without "+
	"controllers to run the tests on; its namespace shop is emptied each time")

// cluster is controller-runtime's API server for tests, which keeps managedFields by the API server's own code, with what Kubernetes
// checks of Secrets besides: their type, immutability, UIDs, and keys that types want. With the flag -real it is a real one.
type cluster struct {
	client.WithWatch
	t       *testing.T
	tracker k8stesting.ObjectTracker
	writes  atomic.Int32                               // of Secrets
	before  func(verb, name string)                    // a write of a Secret, when it is under way
	breaks  func(verb string, obj client.Object) error // instead of a call
	after   func(verb string, s *corev1.Secret)        // what a mutating webhook does
}

func newCluster(t *testing.T) *cluster {
	scheme := newScheme()
	c := &cluster{t: t}
	var uids atomic.Int32
	c.WithWatch = interceptor.NewClient(c.server(scheme), interceptor.Funcs{
		Create: func(ctx context.Context, in client.WithWatch, obj client.Object, opts ...client.CreateOption) error {
			if c.tracker != nil {
				obj.SetUID(types.UID(fmt.Sprint("uid-", uids.Add(1))))
			}
			return c.write(ctx, in, "create", obj, obj, func() error { return in.Create(ctx, obj, opts...) })
		},
		Update: func(ctx context.Context, in client.WithWatch, obj client.Object, opts ...client.UpdateOption) error {
			return c.write(ctx, in, "update", obj, obj, func() error { return in.Update(ctx, obj, opts...) })
		},
		Patch: func(ctx context.Context, in client.WithWatch, obj client.Object, p client.Patch, opts ...client.PatchOption) error {
			return c.write(ctx, in, "patch", obj, nil, func() error { return in.Patch(ctx, obj, p, opts...) })
		},
		Apply: func(ctx context.Context, in client.WithWatch, obj runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			ac, ok := obj.(*corev1ac.SecretApplyConfiguration)
			if !ok {
				t.Fatalf("an apply of %T", obj)
			}
			s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: *ac.Name, Namespace: *ac.Namespace}}
			return c.write(ctx, in, "apply", s, nil, func() error { return in.Apply(ctx, obj, opts...) })
		},
		Delete: func(ctx context.Context, in client.WithWatch, obj client.Object, opts ...client.DeleteOption) error {
			var o client.DeleteOptions
			o.ApplyOptions(opts)
			if _, secret := obj.(*corev1.Secret); secret &&
				(o.Preconditions == nil || o.Preconditions.UID == nil || o.Preconditions.ResourceVersion == nil) {
				t.Errorf("Secret %s is deleted without preconditions", obj.GetName())
			}
			return c.write(ctx, in, "delete", obj, nil, func() error {
				var now corev1.Secret
				if err := in.Get(ctx, client.ObjectKeyFromObject(obj), &now); err == nil && o.Preconditions != nil && now.UID != *o.Preconditions.UID {
					return apierrors.NewConflict(corev1.Resource("secrets"), obj.GetName(), fmt.Errorf("UID"))
				}
				return in.Delete(ctx, obj, opts...)
			})
		},
		Get: func(ctx context.Context, in client.WithWatch, key client.ObjectKey, obj client.Object, opts ...client.GetOption) error {
			if c.breaks != nil {
				if err := c.breaks("get", obj); err != nil {
					return err
				}
			}
			return in.Get(ctx, key, obj, opts...)
		},
	})
	return c
}

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return scheme
}

// server returns the API server for tests, or the real one, emptied.
func (c *cluster) server(scheme *runtime.Scheme) client.WithWatch {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: ns}}
	if *kubeconfig == "" {
		scheme.AddKnownTypeWithName(crd.GroupVersionKind(), &metav1.PartialObjectMetadata{})
		c.tracker = k8stesting.NewFieldManagedObjectTracker(scheme, serializer.NewCodecFactory(scheme).UniversalDecoder(),
			managedfields.NewDeducedTypeConverter()) // data, labels and annotations are maps
		return fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.ExternalSecret{}).WithReturnManagedFields().
			WithObjectTracker(c.tracker).WithGlobalResourceVersionCounter().WithObjects(namespace, crd.DeepCopy()).Build()
	}
	check := func(err error) {
		c.t.Helper()
		if err != nil {
			c.t.Fatal(err)
		}
	}
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	check(err)
	config.QPS = -1
	real, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	check(err)
	ctx := context.Background()
	if err := real.Create(ctx, namespace); !apierrors.IsAlreadyExists(err) {
		check(err)
	}
	check(real.DeleteAllOf(ctx, &corev1.Secret{}, client.InNamespace(ns)))
	var all v1alpha1.ExternalSecretList
	check(real.List(ctx, &all, client.InNamespace(ns)))
	for i := range all.Items {
		es := &all.Items[i]
		es.Finalizers = nil
		check(real.Update(ctx, es))
		check(client.IgnoreNotFound(real.Delete(ctx, es)))
	}
	return real
}

var crd = func() *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: CRD}}
	m.APIVersion, m.Kind = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
	return m
}()

type asStranger struct{}

// write does what is done to a Secret, and undoes what Kubernetes would refuse.
func (c *cluster) write(ctx context.Context, in client.WithWatch, verb string, obj, sent client.Object, do func() error) error {
	s, ok := obj.(*corev1.Secret)
	if !ok {
		return do()
	}
	own := ctx.Value(asStranger{}) == nil
	if own {
		if c.before != nil {
			before := c.before
			c.before = nil
			before(verb, s.Name)
		}
		if c.breaks != nil {
			if err := c.breaks(verb, s); err != nil {
				return err
			}
		}
		c.writes.Add(1)
	}
	if sent, ok := sent.(*corev1.Secret); ok && own && c.after != nil {
		c.after(verb, sent)
	}
	key := client.ObjectKeyFromObject(obj)
	var old, now corev1.Secret
	existed := in.Get(ctx, key, &old) == nil
	err := do()
	if err != nil || c.tracker == nil || in.Get(ctx, key, &now) != nil {
		return err
	}
	invalid := func(path, problem string) error {
		return apierrors.NewInvalid(corev1.SchemeGroupVersion.WithKind("Secret").GroupKind(), key.Name, field.ErrorList{
			field.Invalid(field.NewPath(path), "hunter2 as it was sent", problem)})
	}
	switch {
	case existed && old.Type != "" && now.Type != old.Type:
		err = invalid("type", "field is immutable")
	case existed && old.Immutable != nil && *old.Immutable &&
		(now.Immutable == nil || !*now.Immutable || !maps.EqualFunc(old.Data, now.Data, bytes.Equal)):
		err = invalid("data", "field is immutable when `immutable` is set")
	case now.Type == corev1.SecretTypeTLS && now.Data["tls.crt"] == nil:
		err = invalid("data[tls.crt]", "required")
	case now.Type == corev1.SecretTypeTLS && now.Data["tls.key"] == nil:
		err = invalid("data[tls.key]", "required")
	}
	if err == nil {
		return nil
	}
	secrets := corev1.SchemeGroupVersion.WithResource("secrets")
	if undo := c.tracker.Delete(secrets, key.Namespace, key.Name); undo != nil {
		c.t.Fatal(undo)
	}
	if existed {
		if undo := c.tracker.Add(&old); undo != nil {
			c.t.Fatal(undo)
		}
	}
	return err
}

func (c *cluster) writer() *Writer { return &Writer{Client: c, Cached: c, Live: c} }

// may asks whether an object's Secret may be written, as a reconciler does.
func (c *cluster) may(es *v1alpha1.ExternalSecret) error {
	c.t.Helper()
	w := c.writer()
	state, err := w.Current(c.t.Context(), es)
	if err != nil {
		c.t.Fatal(err)
	}
	return w.May(c.t.Context(), es, state)
}

func (c *cluster) secret(name string) *corev1.Secret {
	c.t.Helper()
	var s corev1.Secret
	err := c.WithWatch.Get(context.Background(), client.ObjectKey{Namespace: ns, Name: name}, &s)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return &s
}

// make creates a Secret as a stranger, or as ack-secret-manager.
func (c *cluster) make(name, manager string, data map[string]string, change func(*corev1.Secret)) *corev1.Secret {
	c.t.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}, Type: corev1.SecretTypeOpaque, Data: values(data)}
	if change != nil {
		change(s)
	}
	if err := c.Create(context.WithValue(context.Background(), asStranger{}, true), s, client.FieldOwner(manager)); err != nil {
		c.t.Fatal(err)
	}
	return s
}

// edit changes a Secret as a stranger.
func (c *cluster) edit(name string, change func(*corev1.Secret)) {
	c.t.Helper()
	s := c.secret(name)
	change(s)
	if err := c.Update(context.WithValue(context.Background(), asStranger{}, true), s, client.FieldOwner(stranger)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) remove(name string) {
	c.t.Helper()
	s := c.secret(name)
	if err := c.WithWatch.Delete(context.WithValue(context.Background(), asStranger{}, true), s,
		client.Preconditions{UID: &s.UID, ResourceVersion: &s.ResourceVersion}); err != nil {
		c.t.Fatal(err)
	}
}

// add creates an ExternalSecret; those that are added later are younger.
func (c *cluster) add(name string, change func(*v1alpha1.ExternalSecret)) *v1alpha1.ExternalSecret {
	c.t.Helper()
	es := &v1alpha1.ExternalSecret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name, Finalizers: []string{v1alpha1.Finalizer}}}
	es.CreationTimestamp = metav1.NewTime(time.Unix(1_700_000_000+age.Add(1), 0))
	if change != nil {
		change(es)
	}
	status := es.Status.DeepCopy()
	if err := c.Create(context.Background(), es); err != nil {
		c.t.Fatal(err)
	}
	es.Status = *status
	if err := c.Status().Update(context.Background(), es); err != nil {
		c.t.Fatal(err)
	}
	return es
}

// save writes an object's spec.
func (c *cluster) save(es *v1alpha1.ExternalSecret) {
	c.t.Helper()
	status := es.Status.DeepCopy()
	if err := c.Update(context.Background(), es); err != nil {
		c.t.Fatal(err)
	}
	es.Status = *status
}

var age atomic.Int64

func values(data map[string]string) map[string][]byte {
	all := map[string][]byte{}
	for k, v := range data {
		all[k] = []byte(v)
	}
	return all
}

func result(data map[string]string) content.Result {
	return content.Result{Type: corev1.SecretTypeOpaque, Data: values(data)}
}

// text returns a Secret's data in a form to compare.
func text(s *corev1.Secret) string {
	if s == nil {
		return "none"
	}
	var all []string
	for _, k := range slices.Sorted(maps.Keys(s.Data)) {
		all = append(all, k+"="+string(s.Data[k]))
	}
	return fmt.Sprint(all)
}
