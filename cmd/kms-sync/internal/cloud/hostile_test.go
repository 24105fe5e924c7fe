package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
)

// TestHostileTenant: what a tenant may write, and the refusal that it gets. No refusal costs a token, an exchange or a call, although
// the controller has identities of its own that could read the secret.
func TestHostileTenant(t *testing.T) {
	const clusterStores = "ClusterSecretStore"
	w := start(t)
	named := func(s *v1alpha1.ServiceAccountRef, change func(*v1alpha1.ServiceAccountRef)) v1alpha1.Auth {
		change(s)
		return v1alpha1.Auth{ServiceAccountRef: s}
	}
	ownRoles := func(c *store.Config) { c.Allow.Roles = []string{role("*")} }
	for name, c := range map[string]struct {
		namespace  string // default shop
		of         *v1alpha1.KMS
		cluster    *v1alpha1.KMS
		store      client.Object
		ref        v1alpha1.SecretStoreRef
		annotation string
		entry      store.Entry
		provider   string
		config     func(*store.Config)
		reason     string
		says       string
	}{
		// Borrowed identity.
		"no store: the controller's environment": {reason: store.Forbidden, says: "does not list namespace shop in controllerNamespaces"},
		"the cure is in the refusal": {reason: store.Forbidden,
			says: "kubectl annotate serviceaccount --namespace shop <name> ack.alibabacloud.com/role-arn=acs:ram::<account>:role/<role>"},
		"ramRoleARN: the controller's token": {of: as(v1alpha1.Auth{RAMRoleARN: role("sync")}), reason: store.Forbidden,
			says: "SecretStore shop/kms: KMS.KMSAuth: ramRoleARN without serviceAccountRef means that kms-sync's own ServiceAccount"},
		"ramRoleARN in a ClusterSecretStore": {cluster: as(v1alpha1.Auth{RAMRoleARN: role("sync")}), reason: store.Forbidden,
			says: "controllerNamespaces"},
		"no credentials": {of: as(v1alpha1.Auth{}), reason: store.NotReady,
			says: "no identity is configured; name a ServiceAccount of the namespace in serviceAccountRef"},
		"no credentials, node's role allowed elsewhere": {of: as(v1alpha1.Auth{}), config: func(c *store.Config) { c.NodeRole = true },
			reason: store.Forbidden, says: "a store without credentials means the role of kms-sync's node"},
		"what an upgrade of the original leaves": {of: &v1alpha1.KMS{}, reason: store.NotReady,
			says: "SecretStore shop/kms: spec.KMS: is empty, and so names no identity"},
		"oidcTokenFilePath": {of: as(v1alpha1.Auth{RAMRoleARN: role("sync"),
			OIDCTokenFilePath: "/var/run/secrets/kubernetes.io/serviceaccount/token"}),
			reason: store.NotReady, says: "a file of kms-sync's pod"},
		"a role that is not allowed": {of: keyed(v1alpha1.Auth{RAMRoleARN: "acs:ram::666:role/x"}, ""), reason: store.Forbidden,
			config: ownRoles, says: "does not allow the role acs:ram::666:role/x in namespace shop"},
		"a remote role that is not allowed": {of: as(v1alpha1.Auth{ServiceAccountRef: web(""), RemoteRAMRoleARN: "acs:ram::999:role/remote"}),
			config: ownRoles, reason: store.Forbidden, says: "remoteRamRoleARN: the administrator"},
		"a ServiceAccount's role that is not allowed": {annotation: "web", config: func(c *store.Config) {
			c.Namespaces = []clusterconfig.Namespace{{Names: []string{"shop"}, Allow: clusterconfig.Allow{Roles: []string{role("other")}}}}
		}, reason: store.Forbidden, says: "ServiceAccount shop/web: the administrator of this cluster does not allow the role " + role("web")},
		"a secret that is not allowed": {annotation: "web", config: func(c *store.Config) { c.Allow.Secrets = []string{"shop/*"} },
			reason: store.Forbidden, says: "does not allow the secret app/db in namespace shop; allowed: shop/*"},

		// ServiceAccounts and their tokens.
		"another namespace's ServiceAccount": {of: as(v1alpha1.Auth{ServiceAccountRef: web("stranger")}), reason: store.NotReady,
			says: "a SecretStore may only name ServiceAccounts of its own"},
		"a ServiceAccount for all": {cluster: as(v1alpha1.Auth{ServiceAccountRef: web("stranger")}), reason: store.Forbidden,
			says: "does not list ServiceAccount stranger/web in clusterServiceAccounts"},
		"another audience": {of: as(named(web(""), func(r *v1alpha1.ServiceAccountRef) {
			r.Audiences = []string{"sts.aliyuncs.com", "https://kubernetes.default.svc"}
		})), reason: store.NotReady, says: "tokens are requested for sts.aliyuncs.com alone"},
		"a ServiceAccount that does not exist": {of: as(named(web(""), func(r *v1alpha1.ServiceAccountRef) { r.Name = "none" })),
			reason: store.NotReady, says: "ServiceAccount shop/none does not exist; create it"},
		"a path instead of a name": {annotation: "../stranger/web", reason: store.NotReady, says: "does not exist"},
		"a ServiceAccount without a role": {annotation: "plain", reason: store.NotReady,
			says: "no RAM role is set for ServiceAccount shop/plain, as which"},
		"another namespace's access key": {of: keyed(v1alpha1.Auth{}, "stranger"), reason: store.Forbidden,
			says: "KMS.KMSAuth.accessKey names a Secret of namespace stranger instead of shop"},
		"an access key for all": {cluster: keyed(v1alpha1.Auth{}, "shop"), namespace: "stranger", reason: store.Forbidden,
			says: "list shop/key in sharedSecrets"},
		"half an access key": {of: as(v1alpha1.Auth{AccessKey: &v1alpha1.SecretRef{Name: "key", Key: "id"}}), reason: store.NotReady,
			says: "only one of accessKey and accessKeySecret"},

		// Stores.
		"another namespace's store": {of: as(v1alpha1.Auth{ServiceAccountRef: web("")}), namespace: "stranger", reason: store.Forbidden,
			ref: v1alpha1.SecretStoreRef{Name: "kms", Namespace: "shop"}, says: "is of another namespace than the ExternalSecret"},
		"a store that does not exist": {ref: v1alpha1.SecretStoreRef{Name: "none"}, reason: store.NotReady,
			says: "SecretStore shop/none does not exist; create it"},
		"a store for others": {store: clusterStore("kms", as(v1alpha1.Auth{ServiceAccountRef: web("")}),
			v1alpha1.NamespaceCondition{Namespaces: []string{"prod"}}), namespace: "stranger", reason: store.Forbidden,
			says: "ClusterSecretStore kms does not admit namespace stranger"},
		"a regex that is part of the name": {namespace: "stranger", store: clusterStore("kms", as(v1alpha1.Auth{ServiceAccountRef: web("")}),
			v1alpha1.NamespaceCondition{NamespaceRegexes: []string{"strange|ranger"}}), reason: store.Forbidden, says: "does not admit"},
		"a regex that is none": {store: clusterStore("kms", as(v1alpha1.Auth{ServiceAccountRef: web("")}),
			v1alpha1.NamespaceCondition{NamespaceRegexes: []string{"stran(ger"}}), namespace: "stranger", reason: store.NotReady,
			says: "spec.conditions[0].namespaceRegexes[0]: the regular expression cannot be parsed: missing closing )"},
		"roleSessionExpiration": {of: as(v1alpha1.Auth{ServiceAccountRef: web(""), RoleSessionExpiration: "86400"}), reason: store.NotReady,
			says: "write seconds, 900 to 43200"},
		"a role that is none": {of: keyed(v1alpha1.Auth{RAMRoleARN: "keyed"}, ""), reason: store.NotReady, says: "is not the ARN of a RAM role"},
		"a provider that is none": {of: as(v1alpha1.Auth{ServiceAccountRef: web(""), OIDCProviderARN: "acs:ram::x:oidc-provider/"}),
			reason: store.NotReady, says: "oidcProviderARN: is"},
		"OOS": {provider: "oos", annotation: "web", reason: store.Invalid, says: "oos is not supported yet"},
		"an OOS store": {store: &v1alpha1.SecretStore{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "kms"},
			Spec: v1alpha1.SecretStoreSpec{OOS: &v1alpha1.OOS{}}}, reason: store.NotReady, says: "spec.OOS: is not supported yet"},
		"kmsEndpoint": {annotation: "web", entry: store.Entry{Endpoint: "kms.evil.example.com"}, reason: store.Forbidden,
			says: "does not allow the KMS endpoint kms.evil.example.com"},
	} {
		t.Run(name, func(t *testing.T) {
			var objects []client.Object
			switch {
			case c.of != nil:
				objects = append(objects, secretStore("shop", "kms", c.of))
			case c.cluster != nil:
				objects = append(objects, clusterStore("kms", c.cluster))
			case c.store != nil:
				objects = append(objects, c.store)
			}
			e := c.entry
			if e.Store = c.ref; len(objects) > 0 && c.ref.Name == "" {
				e.Store.Name = "kms"
			}
			if _, ok := c.store.(*v1alpha1.ClusterSecretStore); ok || c.cluster != nil {
				e.Store.Kind = clusterStores
			}
			r := w.cluster(t, func(s *store.Settings) {
				s.Getenv = environment("ACCESS_KEY_ID", keyID, "SECRET_ACCESS_KEY", keyText, "ALICLOUD_ROLE_ARN", role("keyed"))
				if c.config != nil {
					c.config(&s.Config)
				}
				if !strings.Contains(c.says, "kms-sync's") && !strings.Contains(c.says, "controllerNamespaces") &&
					!strings.Contains(c.says, "kubectl") {
					// What the controller itself may do here does not matter.
					s.Config.ControllerNamespaces = []store.Namespaces{{Names: []string{"*"}}}
				}
			}, objects...)
			es := object("shop", "db")
			if c.namespace != "" {
				es.Namespace = c.namespace
			}
			es.Spec.Provider, es.Annotations[v1alpha1.AnnotationServiceAccount] = c.provider, c.annotation
			e.Key = "app/db"
			_, err := r.Resolve(t.Context(), es, e)
			var refusal *store.Refusal
			if !errors.As(err, &refusal) || refusal.Reason != c.reason || !strings.Contains(refusal.Message, c.says) {
				t.Errorf("got %+v\nwant %s: %s", err, c.reason, c.says)
			}
			if err != nil && strings.Contains(err.Error(), "sentinel") {
				t.Errorf("a value is in the refusal: %v", err)
			}
			if len(w.tokens)+len(w.asked())+w.Calls().Sum(emulator.Call{}) > 0 {
				t.Errorf("tokens %v, sessions %v, calls %v", w.tokens, w.asked(), w.Calls())
			}
		})
	}
}

// TestConditions: one condition is enough, and one that is wrong takes the store from no namespace that another one admits.
func TestConditions(t *testing.T) {
	w := start(t)
	team := func(name string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"team": name}}
	}
	for name, c := range map[string]struct {
		conditions []v1alpha1.NamespaceCondition
		compat     bool
		admitted   bool
	}{
		"none":               {nil, false, true},
		"namespaces":         {[]v1alpha1.NamespaceCondition{{Namespaces: []string{"other"}}, {Namespaces: []string{"shop"}}}, false, true},
		"selector":           {[]v1alpha1.NamespaceCondition{{NamespaceSelector: team("a")}}, false, true},
		"selector of others": {[]v1alpha1.NamespaceCondition{{NamespaceSelector: team("b")}}, false, false},
		"regex":              {[]v1alpha1.NamespaceCondition{{NamespaceRegexes: []string{"s.*|x"}}}, false, true},
		"part":               {[]v1alpha1.NamespaceCondition{{NamespaceRegexes: []string{"ho"}}}, false, false},
		"part, compat":       {[]v1alpha1.NamespaceCondition{{NamespaceRegexes: []string{"ho"}}}, true, true},
		"one wrong": {[]v1alpha1.NamespaceCondition{{NamespaceRegexes: []string{"("}}, {NamespaceSelector: &metav1.LabelSelector{
			MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}}, {NamespaceRegexes: []string{"shop"}}}, false, true},
		"brackets that close early":     {[]v1alpha1.NamespaceCondition{{NamespaceRegexes: []string{"x)|(?:.*"}}}, false, false},
		"a quotation that does not end": {[]v1alpha1.NamespaceCondition{{NamespaceRegexes: []string{`sho\Qp`}}}, false, true},
		"empty":                         {[]v1alpha1.NamespaceCondition{{}}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := w.cluster(t, func(s *store.Settings) { s.Config.Compat.UnanchoredRegexes = c.compat },
				clusterStore("kms", as(v1alpha1.Auth{ServiceAccountRef: web("")}), c.conditions...))
			a, err := r.Resolve(t.Context(), object("shop", "db"),
				store.Entry{Key: "app/db", Store: v1alpha1.SecretStoreRef{Name: "kms", Kind: "ClusterSecretStore"}})
			if (err == nil) != c.admitted {
				t.Errorf("got %v", err)
			}
			if err == nil && (a.Store != "ClusterSecretStore kms" || a.Generation != 8) {
				t.Errorf("store %s generation %d", a.Store, a.Generation)
			}
		})
	}
}

// TestTrustPolicyDecides: a ServiceAccount that names another one's role is refused by RAM.
func TestTrustPolicyDecides(t *testing.T) {
	w := start(t)
	r := w.cluster(t, nil, clusterStore("kms", as(v1alpha1.Auth{ServiceAccountRef: web("")})))
	_, _, err := read(t.Context(), r, cloud.New(cloud.Settings{KMS: w.kms}), object("stranger", "db"),
		v1alpha1.SecretStoreRef{Name: "kms", Kind: "ClusterSecretStore"})
	var refusal *identity.Error
	if !errors.As(err, &refusal) || refusal.Code != "AuthenticationFail.NoPermission" ||
		refusal.Subject != "system:serviceaccount:stranger:web" {
		t.Errorf("got %v", err)
	}
	if !slices.Equal(w.asked(), []string{"web stranger.web.db 3600"}) || !slices.Equal(w.tokens, []string{"stranger/web"}) {
		t.Errorf("sessions %q, tokens %q", w.asked(), w.tokens)
	}
}

// TestMixedStores: 200 stores of all kinds, read at the same time by many objects. It is for the race detector, and each value must be
// its identity's.
func TestMixedStores(t *testing.T) {
	w := start(t)
	r := w.cluster(t, served)
	stores := make([]v1alpha1.SecretStoreRef, 200)
	want := make([]string, len(stores))
	for i := range stores {
		ref := v1alpha1.SecretStoreRef{Name: fmt.Sprintf("store-%d", i)}
		session := fmt.Sprintf("session-%d", i)
		want[i] = "sentinel-value"
		var of *v1alpha1.KMS
		switch i % 8 {
		case 0:
			of = as(v1alpha1.Auth{ServiceAccountRef: web("")})
		case 1:
			of = keyed(v1alpha1.Auth{}, "")
		case 2:
			of = keyed(v1alpha1.Auth{RAMRoleARN: role("keyed"), RAMRoleSessionName: session}, "")
		case 3:
			of = as(v1alpha1.Auth{RAMRoleARN: role("sync")})
		case 4:
			of = as(v1alpha1.Auth{})
		case 5:
			of = &v1alpha1.KMS{DedicatedKMSAuth: w.dedicated()}
		case 6:
			of = keyed(v1alpha1.Auth{RemoteRAMRoleARN: "acs:ram::999:role/remote", RemoteRAMRoleSessionName: session}, "")
			want[i] = "sentinel-remote"
		case 7:
			of, ref.Kind = as(v1alpha1.Auth{ServiceAccountRef: web("")}), "ClusterSecretStore"
		}
		var s client.Object = secretStore("shop", ref.Name, of)
		if ref.Kind != "" {
			s = clusterStore(ref.Name, of)
		}
		if err := w.objects.Create(t.Context(), s); err != nil {
			t.Fatal(err)
		}
		stores[i] = ref
	}
	calls := cloud.New(cloud.Settings{KMS: w.kms, InstancePerSecond: 1000, SharedPerSecond: 1000, STSPerMinute: 400})
	var all sync.WaitGroup
	for worker := range 16 {
		all.Go(func() {
			for range 30 {
				i := rand.N(len(stores))
				var err error
				var got kms.Secret
				for wait := (&cloud.Wait{}); errors.As(err, &wait) || err == nil && got.Name == ""; time.Sleep(min(wait.After, time.Second)) {
					var a store.Asker
					e := store.Entry{Key: "app/db", Store: stores[i]}
					if a, err = r.Resolve(t.Context(), object("shop", fmt.Sprintf("db-%d", worker)), e); err == nil {
						got, err = calls.Read(t.Context(), a, kms.Ref{Name: "app/db"}, cloud.Priority(rand.N(3)),
							time.Duration(rand.N(2))*time.Minute, time.Now())
					}
				}
				if err != nil || string(got.Data) != want[i] {
					t.Errorf("store %d: %v, %v", i, got, err)
				}
				clear(got.Data) // it is the caller's
			}
		})
	}
	all.Wait()
}

// TestManyObjectsOneCall: whatever asks for one secret as one identity, KMS is called once.
func TestManyObjectsOneCall(t *testing.T) {
	w := start(t)
	r := w.cluster(t, nil, clusterStore("kms", as(v1alpha1.Auth{ServiceAccountRef: web("")})))
	calls := cloud.New(cloud.Settings{KMS: w.kms})
	ask := func(ctx context.Context, i int, ref kms.Ref, age time.Duration) error {
		a, err := r.Resolve(ctx, object("shop", fmt.Sprint("db-", i)),
			store.Entry{Key: ref.Name, Store: v1alpha1.SecretStoreRef{Name: "kms", Kind: "ClusterSecretStore"}})
		if err == nil {
			_, err = calls.Read(ctx, a, ref, cloud.Due, age, time.Now())
		}
		return err
	}
	for _, c := range []struct {
		ref  kms.Ref
		age  time.Duration
		want int
	}{
		{kms.Ref{Name: "app/db"}, time.Minute, 1},
		{kms.Ref{Name: "app/none"}, time.Minute, 1},      // a refusal is shared, too
		{kms.Ref{Name: "app/db", VersionID: "v1"}, 0, 1}, // a version that never changes
		{kms.Ref{Name: "app/db", VersionStage: "ACSCurrent"}, time.Minute, 1},
	} {
		w.ResetCalls()
		var all sync.WaitGroup
		for i := range 100 {
			all.Go(func() {
				if err := ask(t.Context(), i, c.ref, c.age); (err != nil) != (c.ref.Name == "app/none") {
					t.Errorf("%s: %v", c.ref, err)
				}
			})
		}
		all.Wait()
		if n := w.Calls().Sum(emulator.Call{Action: "GetSecretValue"}); n != c.want {
			t.Errorf("%s: %d calls, want %d", c.ref, n, c.want)
		}
	}
	w.ResetCalls()
	time.Sleep(time.Millisecond)
	for i := range 3 {
		if err := ask(t.Context(), i, kms.Ref{Name: "app/db"}, 0); err != nil {
			t.Error(err)
		}
	}
	if n := w.Calls().Sum(emulator.Call{Action: "GetSecretValue"}); n != 3 {
		t.Errorf("%d calls, want one each time that a value may not be old", n)
	}
	if n := len(w.asked()); n != 1 {
		t.Errorf("%d sessions", n)
	}
}
