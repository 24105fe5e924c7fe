package atrest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/util/retry"
)

// An object identifies an object to read or to rewrite.
type object struct {
	namespace, name, version string
	uid                      types.UID
}

// after reports whether the object was written later than a resource version.
func (o object) after(version string) bool {
	later, err := resourceversion.CompareResourceVersion(o.version, version)
	return err == nil && later > 0
}

// pageSize is how many objects a page of a list has.
const pageSize = 500

// list returns the objects of a resource, read in pages, and the resource version of the list. If etcd compacts that version meanwhile,
// list reads all objects at once.
func (s *server) list(ctx context.Context, resource schema.GroupVersionResource) (objects []object, version string, err error) {
	options := metav1.ListOptions{Limit: pageSize}
	for {
		page, err := s.objects.Resource(resource).List(ctx, options)
		if apierrors.IsResourceExpired(err) && options.Continue != "" {
			options, objects, version = metav1.ListOptions{}, nil, ""
			continue
		}
		if err != nil {
			return nil, "", refusal(err, "list "+name(resource)+" in all namespaces")
		}
		if version == "" {
			version = page.ResourceVersion
		}
		for _, o := range page.Items {
			objects = append(objects, object{o.Namespace, o.Name, o.ResourceVersion, o.UID})
		}
		if options.Continue = page.Continue; options.Continue == "" {
			return objects, version, nil
		}
	}
}

const (
	parallel = 16              // objects in flight
	grace    = 3 * time.Second // for them to finish after an interrupt
)

// each calls a function for every object, several at a time, until ctx ends or a call is forbidden. It returns the errors by object, and
// how many objects were done.
func each(ctx context.Context, objects []object, show func(done int), do func(context.Context, object) error) (failed []error, done int,
	err error) {
	var group errgroup.Group
	group.SetLimit(parallel)
	var finished atomic.Int64
	var mu sync.Mutex
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	calls, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(grace, end) })()
	for _, o := range objects {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if ctx.Err() != nil {
				return nil
			}
			err := retry.OnError(retry.DefaultBackoff, passing, func() error { return do(calls, o) })
			switch {
			case err == nil || apierrors.IsNotFound(err): // it was deleted: done
				show(int(finished.Add(1)))
			case calls.Err() != nil:
			case apierrors.IsForbidden(err):
				stop(err)
			default:
				mu.Lock()
				defer mu.Unlock()
				failed = append(failed, fmt.Errorf("%s/%s: %w", o.namespace, o.name, err))
			}
			return nil
		})
	}
	_ = group.Wait() // failures are collected
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	return failed, int(finished.Load()), err
}

// passing reports whether a retry may succeed.
func passing(err error) bool {
	return apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err) || apierrors.IsServerTimeout(err) ||
		apierrors.IsTimeout(err) || apierrors.IsInternalError(err) || utilnet.IsConnectionReset(err) || utilnet.IsConnectionRefused(err) ||
		utilnet.IsHTTP2ConnectionLost(err) || utilnet.IsProbableEOF(err)
}

var errInterrupted = errors.New("interrupted")

// read has the API server read an object from etcd, which a list, served from the cache, does not do. It returns metadata only.
func (s *server) read(ctx context.Context, resource schema.GroupVersionResource, o object) error {
	_, err := s.objects.Resource(resource).Namespace(o.namespace).Get(ctx, o.name, metav1.GetOptions{})
	return err
}
