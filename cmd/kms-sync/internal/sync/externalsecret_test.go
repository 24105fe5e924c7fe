package sync

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/target"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/when"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

const shop = "shop"

// world is a cluster, a cloud and a controller, which a test can start anew, at a time that the test sets.
type world struct {
	t      *testing.T
	kube   client.WithWatch
	cloud  *emulatortest.Server
	now    time.Time
	events *events.FakeRecorder
	// patience is how long a call may take; 0: as long as in production.
	patience time.Duration
	*secrets
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	known := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(known); err != nil {
			t.Fatal(err)
		}
	}
	crd := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{Name: target.CRD}}
	crd.APIVersion, crd.Kind = "apiextensions.k8s.io/v1", "CustomResourceDefinition"
	known.AddKnownTypeWithName(crd.GroupVersionKind(), &metav1.PartialObjectMetadata{})
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: shop}}
	objects = append(objects, crd, ns, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{
		Namespace: shop, Name: "app", Annotations: map[string]string{"ack.alibabacloud.com/role-arn": emulatortest.RoleARN},
	}}, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "without-role"}})
	issuer := emulatortest.NewIssuer(t, emulatortest.IssuerURL)
	config := emulatortest.Config(issuer)
	config.Roles[0].TrustPolicy = strings.ReplaceAll(config.Roles[0].TrustPolicy, emulatortest.Subject, "system:serviceaccount:shop:app")
	w := &world{
		t: t, now: time.Now(), cloud: emulatortest.StartConfig(t, issuer, config), events: events.NewFakeRecorder(100),
		kube: fake.NewClientBuilder().WithScheme(known).WithObjects(objects...).WithReturnManagedFields().
			WithStatusSubresource(&v1alpha1.ExternalSecret{}, &v1alpha1.SecretStore{}, &v1alpha1.ClusterSecretStore{}).
			WithIndex(&v1alpha1.ExternalSecret{}, storeIndex, storesOf).Build(),
	}
	w.start()
	return w
}

// start starts a controller that knows nothing of the one before.
func (w *world) start() {
	w.t.Helper()
	config, err := store.Read(fmt.Appendf(nil, "accountID: %q\nclusterID: c0ffee\nregion: cn-hangzhou\n", emulatortest.Account))
	if err != nil {
		w.t.Fatal(err)
	}
	config.KMS.Endpoint, config.STS.Endpoint = w.cloud.Addr, w.cloud.Addr
	settings := store.Settings{
		Config: config, Cached: w.kube, Live: w.kube, Getenv: func(string) string { return "" },
		Token: func(_ context.Context, namespace, name string) (string, error) {
			return w.cloud.Issuer.Token(w.t, "system:serviceaccount:"+namespace+":"+name), nil
		},
	}
	settings.STS.Roots, settings.KMS.Roots = emulatortest.Roots(), emulatortest.Roots()
	settings.STS.ConnectTimeout, settings.STS.Timeout, settings.KMS.Timeout = w.patience, w.patience, w.patience
	resolver, err := store.New(settings)
	if err != nil {
		w.t.Fatal(err)
	}
	w.secrets = &secrets{
		Options: Options{PollingInterval: 2 * time.Minute, ClusterStores: true}, client: w.kube, resolver: resolver,
		cloud: cloud.New(cloud.Settings{KMS: resolver.KMS}), events: w.events, counters: newCounters(prometheus.NewRegistry()),
		writer: &target.Writer{Client: w.kube, Cached: w.kube, Live: w.kube}, recent: map[types.UID]history{},
		now: func() time.Time { return w.now },
	}
}

// put creates a secret in KMS that the role may read.
func (w *world) put(name, value string) {
	w.t.Helper()
	w.cloud.Put(w.t, emulator.Secret{Name: name, Value: emulator.Value{Text: value}, Tags: map[string]string{"env": "dev"}})
}

// reconcile looks at an object once, and returns it.
func (w *world) reconcile(name string) (*v1alpha1.ExternalSecret, reconcile.Result) {
	w.t.Helper()
	key := types.NamespacedName{Namespace: shop, Name: name}
	result, err := w.Reconcile(w.t.Context(), reconcile.Request{NamespacedName: key})
	if err != nil {
		w.t.Fatal(err)
	}
	var es v1alpha1.ExternalSecret
	if err := w.kube.Get(w.t.Context(), key, &es); err != nil {
		return nil, result
	}
	return &es, result
}

// secret returns the data of a Secret, nil if there is none.
func (w *world) secret(name string) map[string][]byte {
	w.t.Helper()
	var s corev1.Secret
	if err := w.kube.Get(w.t.Context(), types.NamespacedName{Namespace: shop, Name: name}, &s); err != nil {
		return nil
	}
	return s.Data
}

func (w *world) calls() int { return w.cloud.Calls().Sum(emulator.Call{Action: "GetSecretValue"}) }

// ready returns the condition Ready of an object.
func ready(es *v1alpha1.ExternalSecret) metav1.Condition {
	if c := meta.FindStatusCondition(es.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		return *c
	}
	return metav1.Condition{}
}

// object reads the secret of its own name as the ServiceAccount app.
func object(name string, changes ...func(*v1alpha1.ExternalSecret)) *v1alpha1.ExternalSecret {
	es := &v1alpha1.ExternalSecret{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: shop, Name: name, UID: types.UID("uid-of-" + name), Generation: 1,
			Annotations: map[string]string{v1alpha1.AnnotationServiceAccount: "app"},
		},
		Spec: v1alpha1.ExternalSecretSpec{Data: []v1alpha1.DataSource{{Key: name, Name: "value"}}},
	}
	for _, change := range changes {
		change(es)
	}
	return es
}

// One object from its creation to its end: read once an interval by whichever controller, followed and repaired.
func TestLife(t *testing.T) {
	w := newWorld(t, object("db"))
	w.put("db", "first")
	es, result := w.reconcile("db")
	if c := ready(es); c.Status != metav1.ConditionTrue || c.Reason != "Synced" || c.ObservedGeneration != 1 {
		t.Fatalf("after the first round: %+v", c)
	}
	if got := w.secret("db"); string(got["value"]) != "first" || es.Status.SecretName != "db" || es.Status.Secrets[0].VersionID == "" {
		t.Errorf("the Secret has %d keys; the status is %+v", len(got), es.Status)
	}
	if result.RequeueAfter < 100*time.Second || result.RequeueAfter > 140*time.Second {
		t.Errorf("comes back after %s", result.RequeueAfter)
	}

	w.start()
	if w.reconcile("db"); w.calls() != 1 {
		t.Errorf("a restart made %d calls", w.calls()-1)
	}

	if err := w.cloud.Rotate("db", emulator.Version{Value: emulator.Value{Text: "second"}}); err != nil {
		t.Fatal(err)
	}
	w.now = w.now.Add(3 * time.Minute)
	if w.reconcile("db"); string(w.secret("db")["value"]) != "second" {
		t.Error("the Secret does not follow the rotation")
	}

	w.now = w.now.Add(30 * time.Second)
	before := w.calls()
	changed := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "db"}}
	if err := w.kube.Patch(t.Context(), changed, client.RawPatch(types.MergePatchType, []byte(`{"data":{"value":"eA=="}}`))); err != nil {
		t.Fatal(err)
	}
	if w.reconcile("db"); string(w.secret("db")["value"]) != "second" || w.calls() != before {
		t.Errorf("the change of the Secret is not repaired, or by %d calls", w.calls()-before)
	}

	if err := w.kube.Delete(t.Context(), es); err != nil {
		t.Fatal(err)
	}
	if es, _ := w.reconcile("db"); es != nil || w.secret("db") != nil || w.calls() != before {
		t.Errorf("after the deletion: the object %v, the Secret with %d keys, %d calls", es, len(w.secret("db")), w.calls()-before)
	}
}

// TestRequests: a refresh that changes nothing costs the API server one read of the Secret and one write of the status.
func TestRequests(t *testing.T) {
	w := newWorld(t, object("db"))
	w.put("db", "first")
	for _, tt := range []struct {
		name   string
		before func()
		want   []string
	}{
		{"new", func() {}, []string{"get Secret", "get Secret", "create Secret", "patch status"}},
		{"not due", func() {}, nil},
		{"without a change", func() { w.now = w.now.Add(3 * time.Minute) }, []string{"get Secret", "patch status"}},
		{"of another value", func() {
			w.now = w.now.Add(3 * time.Minute)
			if err := w.cloud.Rotate("db", emulator.Version{Value: emulator.Value{Text: "second"}}); err != nil {
				t.Fatal(err)
			}
		}, []string{"get Secret", "patch Secret", "apply Secret", "get Secret", "patch status"}}, // the first patch is of managedFields, once
		{"of a third", func() {
			w.now = w.now.Add(3 * time.Minute)
			if err := w.cloud.Rotate("db", emulator.Version{Value: emulator.Value{Text: "third"}}); err != nil {
				t.Fatal(err)
			}
		}, []string{"get Secret", "apply Secret", "get Secret", "patch status"}},
	} {
		tt.before()
		w.start() // what KMS answered is kept for an interval of the real clock
		var requests []string
		asked := func(verb string, o any) {
			kind := strings.NewReplacer("*v1.", "", "ApplyConfiguration", "").Replace(fmt.Sprintf("%T", o))
			requests = append(requests, strings.TrimSpace(verb+" "+kind))
		}
		server := interceptor.NewClient(w.kube, interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if _, whole := o.(*corev1.Secret); whole {
					asked("get", o)
				}
				return c.Get(ctx, key, o, opts...)
			},
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				asked("create", o)
				return c.Create(ctx, o, opts...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				if _, finalizer := o.(*v1alpha1.ExternalSecret); !finalizer {
					asked("patch", o)
				}
				return c.Patch(ctx, o, p, opts...)
			},
			Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
				asked("apply", o)
				return c.Apply(ctx, o, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch,
				opts ...client.SubResourcePatchOption) error {
				requests = append(requests, "patch "+sub)
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
		})
		w.client, w.writer.Client, w.writer.Live = server, server, server
		if w.reconcile("db"); !slices.Equal(requests, tt.want) {
			t.Errorf("%s: %q, want %q", tt.name, requests, tt.want)
		}
	}
}

// Each obstacle has a reason and a cure, and leaves the Secret as it was; what a person has to change is said once.
func TestObstacles(t *testing.T) {
	key := func(name string) func(*v1alpha1.ExternalSecret) {
		return func(es *v1alpha1.ExternalSecret) { es.Spec.Data[0].Key = name }
	}
	by := func(account string) func(*v1alpha1.ExternalSecret) {
		return func(es *v1alpha1.ExternalSecret) { es.Annotations[v1alpha1.AnnotationServiceAccount] = account }
	}
	for _, tt := range []struct {
		name         string
		change       func(*v1alpha1.ExternalSecret)
		fault        *emulator.Fault
		reason, says string
	}{
		{name: "missing in KMS", change: key("absent"), reason: "NotFound", says: "check the name"},
		{name: "not permitted", change: key("other"), reason: "Forbidden", says: "kms:GetSecretValue"},
		{name: "no role", change: by("without-role"), reason: "StoreNotReady", says: "ack.alibabacloud.com/role-arn"},
		{name: "no ServiceAccount", change: by("absent"), reason: "StoreNotReady", says: "absent"},
		{name: "no identity", change: func(es *v1alpha1.ExternalSecret) { es.Annotations = nil }, reason: "Forbidden",
			says: "controllerNamespaces"},
		{name: "no store", change: func(es *v1alpha1.ExternalSecret) {
			es.Spec.Data[0].SecretStoreRef = &v1alpha1.SecretStoreRef{Name: "absent"}
		}, reason: "StoreNotReady", says: "SecretStore shop/absent does not exist"},
		{name: "invalid", change: func(es *v1alpha1.ExternalSecret) { es.Spec.Provider = "oos" }, reason: "InvalidSpec", says: "spec.provider"},
		{name: "a stranger's Secret", change: func(es *v1alpha1.ExternalSecret) { es.Spec.Target.Name = "stranger" }, reason: "NotOwned",
			says: "adopt"},
		{name: "KMS is away", fault: &emulator.Fault{Action: "GetSecretValue", Status: 503}, reason: "Unreachable", says: "KMS has an outage"},
		{name: "KMS throttles", fault: &emulator.Fault{Action: "GetSecretValue", Code: "Rejected.Throttling", Status: 429},
			reason: "Throttled", says: "KMS"},
		{name: "STS refuses", fault: &emulator.Fault{Action: "AssumeRoleWithOIDC", Status: 403, Code: "AuthenticationFail.NoPermission"},
			reason: "NotTrusted", says: "trust policy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stranger := &corev1.Secret{Data: map[string][]byte{"value": []byte("own")}}
			stranger.Namespace, stranger.Name = shop, "stranger"
			es := object("db")
			if tt.change != nil {
				tt.change(es)
			}
			w := newWorld(t, es, stranger)
			w.put("db", "value of the secret")
			w.cloud.Put(t, emulator.Secret{Name: "other", Value: emulator.Value{Text: "value of the secret"}})
			if tt.fault != nil {
				w.cloud.Fault(t, *tt.fault)
			}
			got, result := w.reconcile("db")
			c := ready(got)
			if c.Status != metav1.ConditionFalse || c.Reason != tt.reason || !strings.Contains(c.Message, tt.says) {
				t.Errorf("Ready is %s, %s: %s", c.Status, c.Reason, c.Message)
			}
			if w.secret("db") != nil || string(w.secret("stranger")["value"]) != "own" {
				t.Error("a Secret was written")
			}
			if result.RequeueAfter == 0 {
				t.Errorf("comes back after %s", result.RequeueAfter)
			}
			if r := got.Status.DataSyncResults; len(r) == 0 || r[0].Status != "Failed" {
				t.Errorf("ack-secret-manager's status is %+v", r)
			}
			w.now = w.now.Add(time.Hour)
			w.reconcile("db")
			if n := len(w.events.Events); n != 1 {
				t.Errorf("%d events for two rounds that ended alike", n)
			}
		})
	}
}

// An outage leaves the Secret as it is and says since when, and everything is well after it.
func TestOutage(t *testing.T) {
	w := newWorld(t, object("db"))
	w.put("db", "first")
	w.reconcile("db")
	fault := w.cloud.Fault(t, emulator.Fault{Status: 500})
	w.start() // what KMS answered is kept for an interval of the real clock
	w.now = w.now.Add(10 * time.Minute)
	es, _ := w.reconcile("db")
	if c := ready(es); c.Reason != "Unreachable" || string(w.secret("db")["value"]) != "first" {
		t.Errorf("in the outage: %+v, a Secret with %d keys", c, len(w.secret("db")))
	}
	if !meta.IsStatusConditionTrue(es.Status.Conditions, v1alpha1.ConditionStale) {
		t.Errorf("not stale after ten minutes: %+v", es.Status.Conditions)
	}
	if err := w.cloud.RemoveFault(fault); err != nil {
		t.Fatal(err)
	}
	w.start()
	w.now = w.now.Add(10 * time.Minute)
	es, _ = w.reconcile("db")
	if c := ready(es); c.Status != metav1.ConditionTrue || meta.FindStatusCondition(es.Status.Conditions, v1alpha1.ConditionStale) != nil {
		t.Errorf("after the outage: %+v", es.Status.Conditions)
	}
}

// An object that has waited for the budget of calls for two intervals says so, although nothing has failed.
func TestWaitingIsSaid(t *testing.T) {
	w := newWorld(t, object("db"), object("other"))
	for _, name := range []string{"db", "other"} {
		w.put(name, "first")
		w.reconcile(name)
	}
	stale := func(name string, want bool) {
		t.Helper()
		es, result := w.reconcile(name)
		c := meta.FindStatusCondition(es.Status.Conditions, v1alpha1.ConditionStale)
		if (c != nil) != want || want && !strings.Contains(c.Message, "the budget of calls to KMS is used up") || result.RequeueAfter == 0 {
			t.Errorf("%s at %s: %+v; %+v", name, w.now, es.Status.Conditions, result)
		}
	}
	w.secrets.cloud = cloud.New(cloud.Settings{KMS: w.resolver.KMS, SharedPerSecond: 0.001})
	w.now = w.now.Add(3 * time.Minute)
	stale("other", false) // which takes the only call
	stale("db", false)
	w.now = w.now.Add(2 * time.Minute)
	stale("db", true)
	w.start()
	stale("db", false)
}

// The secrets of an object are not held in memory whatever they have together.
func TestTooMuch(t *testing.T) {
	const secrets = mostData/(30<<10) + 1
	w := newWorld(t, object("db", func(es *v1alpha1.ExternalSecret) {
		es.Spec.Data = nil
		for i := range secrets {
			es.Spec.Data = append(es.Spec.Data, v1alpha1.DataSource{Key: fmt.Sprint("part-", i), Name: fmt.Sprint("part-", i)})
		}
	}))
	for i := range secrets {
		w.put(fmt.Sprint("part-", i), strings.Repeat("x", 30<<10))
	}
	w.secrets.cloud = cloud.New(cloud.Settings{KMS: w.resolver.KMS, SharedPerSecond: 10 * secrets})
	es, result := w.reconcile("db")
	if c := ready(es); c.Reason != reasonContent || !strings.Contains(c.Message, "divide it") || len(es.Status.DataSyncResults) != 1 ||
		result.RequeueAfter == 0 || w.secret("db") != nil {
		t.Errorf("%+v; %d results; %+v", c, len(es.Status.DataSyncResults), result)
	}
}

// The status of an object whose thousand secrets are all absent is one that etcd takes, and says how many failures it leaves out.
func TestStatusIsBounded(t *testing.T) {
	const secrets, most = 1000, 512 << 10
	w := newWorld(t, object("many", func(es *v1alpha1.ExternalSecret) {
		es.Spec.Data = nil
		for i := range secrets {
			key := fmt.Sprintf("absent/%d/%s", i, strings.Repeat("x", 150))
			es.Spec.Data = append(es.Spec.Data, v1alpha1.DataSource{Key: key, Name: fmt.Sprint(i)})
			es.Status.Secrets = append(es.Status.Secrets, v1alpha1.SyncedSecret{Key: key, VersionID: "v1", Message: "of another time"})
		}
	}))
	w.secrets.cloud = cloud.New(cloud.Settings{KMS: w.resolver.KMS, SharedPerSecond: 10 * secrets})
	es, _ := w.reconcile("many")
	status, err := json.Marshal(es.Status)
	if err != nil {
		t.Fatal(err)
	}
	results, synced := es.Status.DataSyncResults, es.Status.Secrets
	if c := ready(es); len(status) > most || c.Reason != reasonNotFound || es.Status.NextRefreshTime == nil || len(results) != mostProblems+1 {
		t.Fatalf("%d bytes, %d results, Ready %+v", len(status), len(results), c)
	}
	if got := results[mostProblems].Reason; got != "… and 950 more failures" {
		t.Error(got)
	}
	if !strings.Contains(synced[0].Message, "absent/0/") || synced[secrets-1].Message != "" {
		t.Errorf("%+v\n%+v", synced[0], synced[secrets-1])
	}
}

// A summary of any problems is short, and made in one pass.
func TestSummaryIsBounded(t *testing.T) {
	var problems []problem
	for i := range 5000 {
		problems = append(problems, problem{fmt.Sprint(i), reasonContent, fmt.Sprint(i) + strings.Repeat("é", 2000)})
	}
	bounds.Allocations(t, 100*len(problems), func() {
		if _, message := summary(problems); len(message) > mostMessage || !utf8.ValidString(message) {
			t.Errorf("%d bytes", len(message))
		}
		for _, result := range syncResults(nil, problems, false, time.Now()) {
			if len(result.Reason) > mostProblem+len("…") {
				t.Errorf("%d bytes", len(result.Reason))
			}
		}
	})
	if _, message := summary([]problem{{"", reasonContent, "b"}, {"", reasonInvalid, "a"}, {"", reasonContent, "b"}}); message != "b\na" {
		t.Errorf("%q", message)
	}
}

// A new object gets no value that is as old as its long interval allows others to be.
func TestNewGetsNoOldValue(t *testing.T) {
	for _, tt := range []struct {
		own             string
		polling, oldest time.Duration
		policy          v1alpha1.Policy
	}{
		{"24h", 2 * time.Minute, 102 * time.Second, ""},
		{"1m", 2 * time.Minute, 51 * time.Second, ""},
		{"", 2 * time.Minute, 102 * time.Second, ""},
		{"24h", 0, justNow, ""},
		{"", 2 * time.Minute, justNow, v1alpha1.RefreshOnChange},
	} {
		es := object("db")
		es.Spec.RotationInterval, es.Spec.RefreshPolicy = tt.own, tt.policy
		r := round{secrets: &secrets{Options: Options{PollingInterval: tt.polling}}, es: es}
		if got := r.maxAge(when.New); got != tt.oldest {
			t.Errorf("%+v: %s", tt, got)
		}
	}
}

// An object with a mistake says when its Secret is stale, although it is not read.
func TestMistakesGetStale(t *testing.T) {
	w := newWorld(t, object("db"))
	w.put("db", "first")
	es, _ := w.reconcile("db")
	es.Spec.Provider, es.Generation = "oos", 2
	if err := w.kube.Update(t.Context(), es); err != nil {
		t.Fatal(err)
	}
	for _, stale := range []bool{false, false, true} {
		es, result := w.reconcile("db")
		if result.RequeueAfter != 2*time.Minute || meta.IsStatusConditionTrue(es.Status.Conditions, v1alpha1.ConditionStale) != stale {
			t.Errorf("at %s: %+v; %+v", w.now, es.Status.Conditions, result)
		}
		w.now = w.now.Add(result.RequeueAfter + time.Second)
	}
	w.DisablePolling = true
	if _, result := w.reconcile("db"); result.RequeueAfter != 0 || w.calls() != 1 {
		t.Errorf("without polling: %+v, %d calls", result, w.calls())
	}
}

// TestImmutable: an immutable Secret is never said to be what it is not, and its status has what it was made of.
func TestImmutable(t *testing.T) {
	w := newWorld(t, object("db", func(es *v1alpha1.ExternalSecret) { es.Spec.Target.Immutable = true }))
	w.put("db", "first")
	w.put("other", "second")
	es, _ := w.reconcile("db")
	if c := ready(es); c.Reason != reasonSynced {
		t.Fatalf("at first: %+v", c)
	}
	for _, key := range []string{"other", "db"} {
		es.Spec.Data[0].Key = key
		es.Generation++
		if err := w.kube.Update(t.Context(), es); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(time.Hour)
		es, _ = w.reconcile("db")
		want := map[string]string{"other": target.Immutable, "db": reasonSynced}[key]
		if c := ready(es); c.Reason != want || es.Status.Secrets[0].Key != "db" || string(w.secret("db")["value"]) != "first" {
			t.Errorf("of %s: %+v, %+v", key, c, es.Status.Secrets)
		}
	}
}

// TestLongEvents: the API server drops an event with a longer note than it takes, so it gets the beginning of a long message.
func TestLongEvents(t *testing.T) {
	w := newWorld(t, object("db", func(es *v1alpha1.ExternalSecret) {
		for range 40 {
			es.Spec.Data = append(es.Spec.Data, v1alpha1.DataSource{Key: "db", Name: strings.Repeat("é", 30)})
		}
	}))
	es, _ := w.reconcile("db")
	message := ready(es).Message
	got, ok := strings.CutPrefix(<-w.events.Events, "Warning InvalidSpec ")
	begins, cut := strings.CutSuffix(got, "…")
	if !ok || !cut || len(message) <= mostNote || len(got) > mostNote || len(got) < mostNote-2 || !strings.HasPrefix(message, begins) {
		t.Errorf("a note of %d bytes of a message of %d: %s", len(got), len(message), got)
	}
	if clip("short", mostNote) != "short" {
		t.Error("a short message is cut")
	}
}

// TestCreatedOnce: a change of the spec is observed, for those who wait for it, and is not said to be in the Secret; another target.name is
// one that does not exist yet.
func TestCreatedOnce(t *testing.T) {
	w := newWorld(t, object("db", func(es *v1alpha1.ExternalSecret) { es.Spec.RefreshPolicy = v1alpha1.RefreshCreatedOnce }),
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: "stranger"}})
	w.put("db", "first")
	w.put("other", "second")
	es, _ := w.reconcile("db")
	for _, step := range []struct {
		change       func(*v1alpha1.ExternalSecretSpec)
		reason, says string
		value        string
		calls        int
	}{
		{func(s *v1alpha1.ExternalSecretSpec) { s.RotationInterval = "1h" }, reasonSynced, "CreatedOnce leaves it as it is", "first", 1},
		{func(s *v1alpha1.ExternalSecretSpec) { s.Data[0].Key = "other" }, reasonSynced, "CreatedOnce leaves it as it is", "first", 1},
		{func(s *v1alpha1.ExternalSecretSpec) { s.Target.Name = "stranger" }, target.NotOwned, "stranger", "", 1},
		{func(s *v1alpha1.ExternalSecretSpec) { s.Target.Name = "new" }, reasonSynced, "new is as KMS has it", "second", 2},
	} {
		step.change(&es.Spec)
		es.Generation++
		if err := w.kube.Update(t.Context(), es); err != nil {
			t.Fatal(err)
		}
		w.now = w.now.Add(time.Hour)
		es, _ = w.reconcile("db")
		c := ready(es)
		if c.Reason != step.reason || !strings.Contains(c.Message, step.says) || w.calls() != step.calls ||
			string(w.secret(target.Name(es))["value"]) != step.value {
			t.Errorf("%+v: %d calls, %s", c, w.calls(), w.secret(target.Name(es)))
		}
		if es.Status.ObservedGeneration != es.Generation || c.ObservedGeneration != es.Generation {
			t.Errorf("generation %d: observed are %d and %d", es.Generation, es.Status.ObservedGeneration, c.ObservedGeneration)
		}
	}
}
