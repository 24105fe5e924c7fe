package sync

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/target"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/when"
)

// secrets brings the Secret of one ExternalSecret up to date. Everything that it remembers is in the object's status, except how often an
// object failed in a row, from which follow only the pauses between attempts, and when KMS first said that it has none of the secrets.
type secrets struct {
	Options
	client   client.Client
	resolver *store.Resolver
	cloud    *cloud.Cloud
	writer   *target.Writer
	events   events.EventRecorder
	counters *counters
	now      func() time.Time

	mu     sync.Mutex
	recent map[types.UID]history
}

// history is what is not worth a status: forgotten at a restart, it is only later than it would be.
type history struct {
	failures int               // in a row
	gone     time.Time         // when KMS first said, in a row, that it has none of the secrets; zero: it did not
	about    [sha256.Size]byte // what it said that about, as round.asked returns it
	waiting  attempt           // the one that waits for the budget of calls; zero: none does
}

// An attempt is one to read all secrets of an object: in several rounds, if it has to wait.
type attempt struct {
	generation int64 // that it is about
	refresh    string
	begun      time.Time
}

// Reconcile never waits: what has to wait comes back.
func (s *secrets) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var es v1alpha1.ExternalSecret
	if err := s.client.Get(ctx, req.NamespacedName, &es); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !es.DeletionTimestamp.IsZero() {
		return reconcile.Result{}, s.release(ctx, &es) // in a namespace that is left out now, too: its finalizer is ours
	}
	if s.excludes(es.Namespace) {
		return reconcile.Result{}, nil
	}
	if before := es.DeepCopy(); controllerutil.AddFinalizer(&es, v1alpha1.Finalizer) {
		if err := s.client.Patch(ctx, &es, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
	}
	r := round{secrets: s, es: &es, before: es.DeepCopy(), now: s.now(), attempt: s.resume(&es)}
	return r.run(ctx)
}

// release ends the life of an object: no call to the cloud can hold that up.
func (s *secrets) release(ctx context.Context, es *v1alpha1.ExternalSecret) error {
	if !controllerutil.ContainsFinalizer(es, v1alpha1.Finalizer) {
		return nil
	}
	if err := s.writer.Release(ctx, es); err != nil {
		return err
	}
	s.forget(es)
	before := es.DeepCopy()
	controllerutil.RemoveFinalizer(es, v1alpha1.Finalizer)
	return client.IgnoreNotFound(s.client.Patch(ctx, es, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})))
}

// remember changes the history of an object, and returns it.
func (s *secrets) remember(es *v1alpha1.ExternalSecret, change func(*history)) history {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.recent[es.UID]
	change(&h)
	s.recent[es.UID] = h
	return h
}

// resume returns the attempt that waited when the object was last looked at, if it is about the object as it is now; else one that begins.
func (s *secrets) resume(es *v1alpha1.ExternalSecret) attempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := attempt{es.Generation, es.Annotations[v1alpha1.AnnotationRefresh], time.Now()}
	h := s.recent[es.UID]
	if before := h.waiting; before.generation == now.generation && before.refresh == now.refresh {
		now.begun = before.begun
	}
	if h.waiting != (attempt{}) { // it may not be what the object needs next
		h.waiting = attempt{}
		s.recent[es.UID] = h
	}
	return now
}

// forget is for an object that is well, or gone.
func (s *secrets) forget(es *v1alpha1.ExternalSecret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.recent, es.UID)
}

// A round is one look at an ExternalSecret.
type round struct {
	*secrets
	es, before *v1alpha1.ExternalSecret
	now        time.Time // of the whole round
	attempt    attempt
	askers     map[content.Ref]store.Asker
	problems   []problem
}

// run is a round up to the decision whether something is to be read.
func (r *round) run(ctx context.Context) (reconcile.Result, error) {
	if mistakes := content.Check(r.es); len(mistakes) > 0 {
		for _, m := range mistakes {
			r.fail("", reasonInvalid, m.String())
		}
		r.es.Status.NextRefreshTime = nil      // a change of the spec brings it back
		return r.report(ctx, r.every(), false) // and says when the Secret is stale
	}
	if err := r.resolve(ctx); err != nil {
		return reconcile.Result{}, err
	}
	if len(r.problems) > 0 {
		return r.retry(ctx, nil)
	}
	state, err := r.writer.Current(ctx, r.es)
	if err != nil {
		return reconcile.Result{}, err
	}
	missing := !state.Exists || r.es.Status.SecretName != target.Name(r.es) // with another target.name what was written is not it
	due := when.Next(r.es, when.Facts{
		Now: r.now, Polling: r.polling(), Stores: r.storeGenerations(), Missing: missing, Drifted: state.Exists && !state.Intact,
	})
	if wasRefused(r.es) {
		due = when.Due{At: r.now, Why: when.Retry}
	}
	if due.Why == when.Never && r.es.Status.ObservedGeneration != r.es.Generation { // refreshPolicy CreatedOnce
		r.es.Status.ObservedGeneration = r.es.Generation
		setReady(&r.es.Status.Conditions, r.es.Generation, metav1.ConditionTrue, reasonSynced, "the Secret "+r.es.Status.SecretName+
			" exists, and refreshPolicy CreatedOnce leaves it as it is; the spec has changed since: delete the Secret to have it made anew")
		return reconcile.Result{}, r.save(ctx)
	}
	if !due.Is(r.now) {
		return r.later(due), nil
	}
	var refused *target.Refused
	switch err := r.writer.May(ctx, r.es, state); {
	case errors.As(err, &refused): // whatever KMS has
		r.fail("", refused.Reason, refused.Message)
		return r.retry(ctx, nil)
	case err != nil:
		return reconcile.Result{}, err
	}
	log.FromContext(ctx).V(1).Info("Refreshing", "because", due.Why)
	return r.refresh(ctx, due.Why)
}

// wasRefused reports whether the last round ended before any call, for want of an identity, which there is now.
func wasRefused(es *v1alpha1.ExternalSecret) bool {
	return meta.IsStatusConditionFalse(es.Status.Conditions, v1alpha1.ConditionReady) && es.Status.NextRefreshTime == nil
}

// polling is the interval of objects without one of their own; 0: none is read for the time that has passed.
func (s *secrets) polling() time.Duration {
	if s.DisablePolling {
		return 0
	}
	return s.PollingInterval
}

// every is the interval of the object; 0: it is read only when something changes.
func (r *round) every() time.Duration {
	if policy := r.es.Spec.RefreshPolicy; policy == v1alpha1.RefreshOnChange || policy == v1alpha1.RefreshCreatedOnce {
		return 0
	}
	return when.Every(r.es, r.polling())
}

// later comes back when the object is due, behind those that are new or changed.
func (r *round) later(due when.Due) reconcile.Result {
	if due.Why == when.Never {
		return reconcile.Result{}
	}
	return reconcile.Result{RequeueAfter: max(due.At.Sub(r.now), time.Millisecond), Priority: new(handler.LowPriority)}
}

// resolve finds out who reads each secret. Refusals become problems; the error is an outage of the API server.
func (r *round) resolve(ctx context.Context) error {
	r.askers = map[content.Ref]store.Asker{}
	for _, ref := range content.Refs(r.es) {
		if ref.Store.Kind == content.KindClusterSecretStore && !r.ClusterStores {
			r.fail(ref.Name, reasonForbidden, "ClusterSecretStores are switched off by --process-cluster-secret-store=false; use a SecretStore")
			continue
		}
		asker, err := r.resolver.Resolve(ctx, r.es, store.Entry{Key: ref.Name, Endpoint: ref.Endpoint, Store: ref.Store})
		var refusal *store.Refusal
		switch {
		case errors.As(err, &refusal):
			r.fail(ref.Name, refusal.Reason, refusal.Message)
		case err != nil:
			return err
		}
		r.askers[ref] = asker
	}
	return nil
}

func (r *round) storeGenerations() map[string]int64 {
	var generations map[string]int64
	for _, asker := range r.askers {
		if asker.Store != "" {
			if generations == nil {
				generations = map[string]int64{}
			}
			generations[asker.Store] = asker.Generation
		}
	}
	return generations
}

// refresh reads everything that the object names, and writes the Secret if all of it is there.
func (r *round) refresh(ctx context.Context, why when.Reason) (reconcile.Result, error) {
	values, err := r.read(ctx, why)
	var wait *cloud.Wait
	switch {
	case errors.As(err, &wait):
		r.remember(r.es, func(h *history) { h.waiting = r.attempt })
		setStale(r.es, r.every(), r.now, wait.Why)
		return reconcile.Result{RequeueAfter: max(wait.After, time.Millisecond)}, r.save(ctx)
	case err != nil:
		return reconcile.Result{}, err
	}
	r.es.Status.ObservedRefresh = r.es.Annotations[v1alpha1.AnnotationRefresh]
	r.es.Status.StoreGenerations = r.storeGenerations()
	if len(r.problems) > 0 { // too much was read
		return r.failed(ctx, values)
	}
	read := func(ref content.Ref) (kms.Secret, error) { return values[ref].secret, values[ref].err }
	present, unread := sync.OnceValues(func() (map[string][]byte, error) { return r.writer.Present(ctx, r.es) }), error(nil)
	result, mistakes := content.Render(r.es, r.Compat, read, func(key string) []byte {
		var data map[string][]byte
		data, unread = present()
		return data[key]
	})
	if unread != nil {
		return reconcile.Result{}, unread
	}
	for _, m := range mistakes {
		r.problems = append(r.problems, explained(m.Key, m.Err))
	}
	if len(r.problems) > 0 {
		return r.failed(ctx, values)
	}
	outcome, err := r.writer.Apply(ctx, r.es, result)
	var refused *target.Refused
	switch {
	case errors.As(err, &refused):
		r.fail("", refused.Reason, refused.Message)
		return r.retry(ctx, values)
	case err != nil && ctx.Err() == nil:
		r.fail("", reasonWrite, err.Error())
		return r.retry(ctx, values)
	case err != nil:
		return reconcile.Result{}, err
	}
	return r.succeeded(ctx, values, outcome)
}

// failed is the end of a round in which not all is there that the object asks for.
func (r *round) failed(ctx context.Context, values map[content.Ref]value) (reconcile.Result, error) {
	if err := r.gone(ctx, values); err != nil {
		return reconcile.Result{}, err
	}
	return r.retry(ctx, values)
}

// asked returns a hash of what is asked for, as which identity and where. Not every change of it is one of the spec: a store's is none.
func (r *round) asked() [sha256.Size]byte {
	var all []string
	for ref, asker := range r.askers {
		all = append(all, fmt.Sprintf("%#v %#v %q", ref, asker.Who, asker.Endpoint))
	}
	slices.Sort(all)
	return sha256.Sum256(fmt.Appendf(nil, "%d %q", r.es.Generation, all))
}

// gone carries out the deletionPolicy when KMS itself has said twice, an interval apart and nothing else in between, that it has none of
// the secrets: of the same ones, or a mistyped name would need no second word.
func (r *round) gone(ctx context.Context, values map[content.Ref]value) error {
	none := len(values) > 0
	for _, v := range values {
		var refused *kms.Error
		none = none && errors.As(v.err, &refused) && refused.Class() == kms.NotFound
	}
	about := r.asked()
	h := r.remember(r.es, func(h *history) {
		switch {
		case !none:
			h.gone = time.Time{}
		case h.gone.IsZero() || h.about != about:
			h.gone, h.about = r.now, about
		}
	})
	if !none || !when.Confirmed(h.gone, r.now, cmp.Or(r.every(), r.PollingInterval)) {
		return nil
	}
	outcome, err := r.writer.Gone(ctx, r.es)
	var refused *target.Refused
	switch {
	case errors.As(err, &refused):
		r.fail("", refused.Reason, refused.Message)
		return nil
	case err != nil:
		return err
	}
	r.wrote(outcome)
	return nil
}

// fail adds a problem.
func (r *round) fail(key, reason, message string) {
	r.problems = append(r.problems, problem{key, reason, message})
}

// succeeded says that the Secret is as KMS has it.
func (r *round) succeeded(ctx context.Context, values map[content.Ref]value, outcome target.Outcome) (reconcile.Result, error) {
	r.forget(r.es)
	status := &r.es.Status
	status.RefreshTime = new(metav1.NewTime(r.now))
	status.SecretName, status.SecretResourceVersion = outcome.SecretName, outcome.ResourceVersion
	status.Secrets = nil
	for _, ref := range content.Refs(r.es) {
		secret := values[ref].secret
		synced := v1alpha1.SyncedSecret{Key: ref.Name, VersionID: secret.VersionID}
		if !secret.NextRotation.IsZero() {
			synced.NextRotation = new(metav1.NewTime(secret.NextRotation))
		}
		status.Secrets = append(status.Secrets, synced)
	}
	r.wrote(outcome)
	return r.report(ctx, 0, outcome.Action != target.Unchanged)
}

// wrote counts what was done to a Secret and says it where people look.
func (r *round) wrote(outcome target.Outcome) {
	if outcome.Action == target.Unchanged || outcome.Action == "" {
		return
	}
	r.counters.writes.WithLabelValues(string(outcome.Action)).Inc()
	r.events.Eventf(r.es, nil, corev1.EventTypeNormal, string(outcome.Action), "Sync", "%s the Secret %s",
		strings.ToLower(string(outcome.Action)), outcome.SecretName)
}

// retry says what failed, and when it is tried again. Without values no call was made, and no status has to remember when.
func (r *round) retry(ctx context.Context, values map[content.Ref]value) (reconcile.Result, error) {
	var asked time.Duration
	for _, v := range values {
		var hint interface{ RetryAfterHint() time.Duration }
		if errors.As(v.err, &hint) {
			asked = max(asked, hint.RetryAfterHint())
		}
		var wait *cloud.Wait
		if errors.As(v.err, &wait) {
			asked = max(asked, wait.After)
		}
	}
	tried := r.remember(r.es, func(h *history) { h.failures++ })
	outage := !slices.ContainsFunc(r.problems, func(p problem) bool { return p.reason != reasonUnreachable })
	wait := when.After(tried.failures, asked, r.every(), outage)
	r.es.Status.NextRefreshTime = nil
	if values != nil {
		r.es.Status.NextRefreshTime = when.Stamp(r.now.Add(wait))
	}
	messages := map[string]string{}
	for _, f := range r.problems[:min(mostProblems, len(r.problems))] {
		messages[f.key] = clip(f.message, mostProblem)
	}
	for i := range r.es.Status.Secrets {
		of := &r.es.Status.Secrets[i]
		of.Message = messages[of.Key]
	}
	return r.report(ctx, wait, false)
}

// save writes the status, if it is another one. An object that is gone has none.
func (r *round) save(ctx context.Context) error {
	if equality.Semantic.DeepEqual(r.es.Status, r.before.Status) {
		return nil
	}
	return client.IgnoreNotFound(r.client.Status().Patch(ctx, r.es, client.MergeFrom(r.before)))
}

// report writes the status. Failures are reported as they are, none is a success. It comes back after wait, 0: when the next refresh is
// due.
func (r *round) report(ctx context.Context, wait time.Duration, written bool) (reconcile.Result, error) {
	status, kind := metav1.ConditionTrue, corev1.EventTypeNormal
	reason, message, late := reasonSynced, "the Secret "+r.es.Status.SecretName+" is as KMS has it", ""
	if len(r.problems) > 0 {
		status, kind, late = metav1.ConditionFalse, corev1.EventTypeWarning, "the condition Ready says why"
		reason, message = summary(r.problems)
	}
	r.counters.refreshes.WithLabelValues(reason).Inc()
	if setReady(&r.es.Status.Conditions, r.es.Generation, status, reason, message) {
		r.events.Eventf(r.es, nil, kind, reason, "Sync", "%s", clip(message, mostNote))
	}
	r.es.Status.ObservedGeneration = r.es.Generation
	next := when.Due{Why: when.Never}
	if len(r.problems) == 0 {
		next = when.Next(r.es, when.Facts{Now: r.now, Polling: r.polling(), Stores: r.es.Status.StoreGenerations})
		r.es.Status.NextRefreshTime = nil
		if next.Why != when.Never {
			r.es.Status.NextRefreshTime = when.Stamp(next.At)
		}
	}
	r.es.Status.DataSyncResults = syncResults(r.es.Status.DataSyncResults, r.problems, written, r.now)
	setStale(r.es, r.every(), r.now, late)
	r.setBorrowed()
	if err := r.save(ctx); err != nil {
		return reconcile.Result{}, err
	}
	if wait > 0 {
		return reconcile.Result{RequeueAfter: wait, Priority: new(handler.LowPriority)}, nil
	}
	return r.later(next), nil
}

// setBorrowed says which secrets the controller reads as itself.
func (r *round) setBorrowed() {
	var whose []string
	for ref, asker := range r.askers {
		if asker.Who.Borrowed() {
			whose = append(whose, fmt.Sprintf("%s is read as %s", ref.Name, asker.Who))
		}
	}
	slices.Sort(whose)
	setFlag(r.es, v1alpha1.ConditionBorrowedIdentity, len(whose) > 0, "ControllerIdentity", clip(strings.Join(whose, "; "), mostMessage)+
		": name a ServiceAccount by the annotation "+v1alpha1.AnnotationServiceAccount+", or a store with serviceAccountRef")
}
