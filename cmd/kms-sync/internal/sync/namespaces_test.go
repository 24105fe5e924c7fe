package sync

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
)

// A namespace without a Role holds up no other one, and is taken up when it has one.
func TestNamespacesWithoutRights(t *testing.T) {
	for name, c := range map[string]struct {
		allowed []string
		watch   []string
		want    string
	}{
		"all":  {allowed: []string{"a", "b"}, watch: []string{"a", "b"}},
		"some": {allowed: []string{"a"}, watch: []string{"a"}},
		"none": {want: "no rights in any namespace that it is to watch (a, b); create them"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithCancelCause(t.Context())
				defer stop(nil)
				var role atomic.Bool // of b
				kube := fake.NewClientset()
				kube.PrependReactor("create", "selfsubjectaccessreviews", func(a clienttesting.Action) (bool, runtime.Object, error) {
					review := a.(clienttesting.CreateAction).GetObject().(*authorizationv1.SelfSubjectAccessReview)
					of := review.Spec.ResourceAttributes.Namespace
					review.Status.Allowed = slices.Contains(c.allowed, of) || of == "b" && role.Load()
					return true, review, nil
				})
				o := Options{Watch: []string{"a", "b"}, Log: logr.Discard()}
				err := o.watchReadable(ctx, kube.AuthorizationV1().SelfSubjectAccessReviews(), stop)
				if c.want != "" {
					if err == nil || !strings.Contains(err.Error(), c.want) {
						t.Fatal(err)
					}
					return
				}
				if err != nil || !slices.Equal(o.Watch, c.watch) {
					t.Fatal(o.Watch, err)
				}
				if len(c.watch) == 2 {
					return
				}
				time.Sleep(10 * lookAgain)
				if ctx.Err() != nil {
					t.Fatal("ended without a reason:", context.Cause(ctx))
				}
				role.Store(true)
				time.Sleep(2 * lookAgain)
				if why := context.Cause(ctx); why == nil || !strings.Contains(why.Error(), "rights in b now") {
					t.Fatal(why)
				}
			})
		})
	}
}

func TestNamespacesUnknown(t *testing.T) {
	kube := fake.NewClientset()
	kube.PrependReactor("create", "selfsubjectaccessreviews", func(clienttesting.Action) (bool, runtime.Object, error) {
		return true, nil, errors.New("the API server is away")
	})
	o := Options{Watch: []string{"a"}, Log: logr.Discard()}
	err := o.watchReadable(t.Context(), kube.AuthorizationV1().SelfSubjectAccessReviews(), nil)
	if err == nil || !strings.Contains(err.Error(), "of the namespace a may be listed: the API server is away") {
		t.Fatal(err)
	}
}

// TestExcludedHaveNoMetrics: an object that is left out is in no alert.
func TestExcludedHaveNoMetrics(t *testing.T) {
	w := newWorld(t, object("db"))
	w.Exclude = []string{shop}
	w.reconcile("db")
	elected := make(chan struct{})
	close(elected)
	for want, o := range []Options{w.Options, {}} {
		r := prometheus.NewRegistry()
		r.MustRegister(objects{o, w.kube, elected})
		if n, err := testutil.GatherAndCount(r, "kms_sync_ready"); err != nil || n != want {
			t.Errorf("%d objects (%v), want %d", n, err, want)
		}
	}
}
