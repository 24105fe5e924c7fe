package webhook

import (
	"context"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// liveTimeout bounds the one read past the cache, with the wait for it, well below the API server's timeout for a webhook (5 s).
const liveTimeout = 2 * time.Second

// Limits on reads past the cache, for one caller in total and for one namespace. A namespace's pods whose
// ServiceAccount lacks a role use up the namespace's share, and an unknown caller uses up its own.
const (
	readsOfSource, burstOfSource       = 50, 200
	readsOfNamespace, burstOfNamespace = 20, 100
)

// itself is the source of the webhook's own reads.
const itself = ""

// A live reads from the API server. Requests for the same object that wait for a read to begin share it, so that each gets an answer
// that is newer than the request.
type live struct {
	reader              client.Reader
	sources, namespaces *share.Rate

	mu   sync.Mutex
	next map[question]*answer // not begun
}

type question struct {
	source string
	kind   schema.GroupVersionKind
	name   types.NamespacedName
}

type answer struct {
	done   chan struct{}
	object *metav1.PartialObjectMetadata
	err    error
}

func newLive(reader client.Reader) *live {
	return &live{
		reader: reader, next: map[question]*answer{},
		sources: share.NewRate(readsOfSource, burstOfSource), namespaces: share.NewRate(readsOfNamespace, burstOfNamespace),
	}
}

// get returns share.ErrBusy if a read could not begin in time.
func (l *live) get(ctx context.Context, source string, kind schema.GroupVersionKind,
	name types.NamespacedName) (*metav1.PartialObjectMetadata, error) {
	q := question{source, kind, name}
	l.mu.Lock()
	a := l.next[q]
	if a == nil {
		a = &answer{done: make(chan struct{})}
		l.next[q] = a
		go l.read(context.WithoutCancel(ctx), q, a)
	}
	l.mu.Unlock()
	select {
	case <-a.done:
		return a.object, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *live) read(ctx context.Context, q question, into *answer) {
	defer close(into.done)
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	namespace := q.name.Namespace
	if q.kind == namespaceKind {
		namespace = q.name.Name
	}
	if into.err = l.sources.Wait(ctx, q.source); into.err == nil {
		into.err = l.namespaces.Wait(ctx, q.source+" "+namespace)
	}
	l.mu.Lock()
	delete(l.next, q)
	l.mu.Unlock()
	if into.err == nil {
		into.object, into.err = get(ctx, l.reader, q.kind, q.name)
	}
}
