package doctor

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

const (
	syncedPath     = "/apis/alibabacloud.com/v1alpha1/namespaces/shop/externalsecrets/db"
	storePath      = "/apis/alibabacloud.com/v1alpha1/namespaces/shop/secretstores/kms"
	secretPath     = "/api/v1/namespaces/shop/secrets/db"
	leasePath      = "/apis/coordination.k8s.io/v1/namespaces/kms-sync/leases/ack-secret-manager-lock"
	deploymentPath = "/apis/apps/v1/namespaces/kms-sync/deployments/kms-sync"
)

var syncedAt = time.Date(2026, 1, 1, 0, 5, 0, 0, time.UTC)

// A synced is a cluster with an ExternalSecret, whose store is the ServiceAccount web's.
type synced struct {
	fakekube.Server
	es     *v1alpha1.ExternalSecret
	store  *v1alpha1.SecretStore
	secret *corev1.Secret
}

func ready(status metav1.ConditionStatus, reason, message string) []metav1.Condition {
	return []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: status, Reason: reason, Message: message, ObservedGeneration: 1}}
}

// fails has the last refresh end with a reason, after calls.
func (s *synced) fails(reason, message string) {
	s.es.Status.Conditions = ready(metav1.ConditionFalse, reason, message)
}

// refused has it end before any.
func (s *synced) refused(reason, message string) {
	s.fails(reason, message)
	s.es.Status.NextRefreshTime = nil
}

func syncing() *synced {
	at := func(ago time.Duration) *metav1.Time { return &metav1.Time{Time: syncedAt.Add(-ago)} }
	s := &synced{}
	s.es = &v1alpha1.ExternalSecret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db", Generation: 1, CreationTimestamp: *at(time.Hour)},
		Spec: v1alpha1.ExternalSecretSpec{Data: []v1alpha1.DataSource{
			{Key: "app/prod/db", Name: "password", SecretStoreRef: &v1alpha1.SecretStoreRef{Name: "kms"}},
		}},
		Status: v1alpha1.ExternalSecretStatus{Conditions: ready(metav1.ConditionTrue, "Synced", ""), ObservedGeneration: 1,
			RefreshTime: at(time.Minute), NextRefreshTime: at(-time.Minute)},
	}
	s.store = &v1alpha1.SecretStore{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "kms", Generation: 1},
		Spec: v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{KMSAuth: &v1alpha1.Auth{
			ServiceAccountRef: &v1alpha1.ServiceAccountRef{Name: "web"}}}},
		Status: v1alpha1.SecretStoreStatus{Conditions: ready(metav1.ConditionTrue, "Valid", "STS accepts the identity")}}
	s.secret = &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "db",
		Annotations: map[string]string{v1alpha1.AnnotationOwner: "shop/db"}}}
	s.Objects = map[string]any{
		syncedPath: s.es, storePath: s.store, secretPath: s.secret,
		account + "web": map[string]any{"metadata": map[string]any{"annotations": map[string]any{
			"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"}}},
		deploymentPath: map[string]any{"status": map[string]any{"availableReplicas": 2}},
		leasePath: &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{HolderIdentity: new("kms-sync-7f-x_1"),
			LeaseDurationSeconds: new(int32(15)), RenewTime: &metav1.MicroTime{Time: syncedAt.Add(-time.Second)}}},
		"/.well-known/openid-configuration": map[string]any{"issuer": "https://oidc-ack-cn-hangzhou.oss-cn-hangzhou.aliyuncs.com/c0ffee"},
	}
	return s
}

func (s *synced) diagnose(t *testing.T, target string) (Report, error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/secrets/") &&
			r.Header.Get("Accept") != "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1" {
			t.Errorf("%s %s asks for more than metadata", r.Method, r.URL)
		}
		if r.Method != http.MethodGet {
			t.Errorf("%s %s", r.Method, r.URL)
		}
		s.ServeHTTP(w, r)
	}))
	defer server.Close()
	kube, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, QPS: -1})
	if err != nil {
		t.Fatal(err)
	}
	d := Doctor{Client: cluster.Client{Kube: kube}, Policy: clusterconfig.Config{AccountID: "<account>", Region: "cn-hangzhou",
		OIDCProviderARN: "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee"}}
	return d.Examine(t.Context(), "shop", target, syncedAt)
}

// Of each link that can break the report says that it is broken, and of no other.
func TestExternalSecret(t *testing.T) {
	for name, c := range map[string]struct {
		breakIt       func(*synced)
		broken, doubt string // links
		says          string
	}{
		"whole": {func(*synced) {}, "", "",
			"✓ secret        the Secret shop/db is there, and the object's; KMS was last read at 2026-01-01T00:04:00Z"},
		"policies": {func(*synced) {}, "", "", `"oidc:sub": "system:serviceaccount:shop:web"`},
		"spec": {func(s *synced) {
			s.es.Spec.Data[0].JMESPath = []v1alpha1.JMESPathObject{{Path: "a[", ObjectAlias: "a"}}
		}, "spec", "",
			"spec.data[0].jmesPath[0].path"},
		"spec, by kms-sync": {func(s *synced) { s.refused("InvalidSpec", "policies contradict") }, "spec", "", "policies contradict"},
		"no kms-sync": {func(s *synced) {
			delete(s.Objects, deploymentPath)
			s.es.Status = v1alpha1.ExternalSecretStatus{}
		}, "controller", "trust-policy permission name template target", "say --sync-namespace; nothing looks at the object"},
		"kms-sync elsewhere": {func(s *synced) { delete(s.Objects, deploymentPath) }, "", "controller", "say --sync-namespace"},
		"no replica":         {func(s *synced) { s.Objects[deploymentPath] = map[string]any{} }, "controller", "", "is available"},
		"no Lease":           {func(s *synced) { delete(s.Objects, leasePath) }, "controller", "", "no replica has the Lease"},
		"an old Lease": {func(s *synced) {
			s.Objects[leasePath].(*coordinationv1.Lease).Spec.RenewTime.Time = syncedAt.Add(-time.Minute)
		}, "controller", "", "no replica has the Lease"},
		"left out": {func(s *synced) { s.es.Status = v1alpha1.ExternalSecretStatus{} }, "controller",
			"trust-policy permission name template target", "excludeNamespaces"},
		"changed just now": {func(s *synced) { s.es.Generation = 2 }, "", "trust-policy permission name template target", "as it is now"},
		"no store":         {func(s *synced) { delete(s.Objects, storePath) }, "store", "", "SecretStore shop/kms does not exist"},
		"a wrong store": {func(s *synced) {
			s.store.Status.Conditions = ready(metav1.ConditionFalse, "StoreNotReady", "KMS is empty")
		}, "store", "", "SecretStore shop/kms is not Ready: KMS is empty"},
		"a wrong store, by the object": {func(s *synced) { s.refused("StoreNotReady", "no key") }, "store", "", "no key"},
		"no ServiceAccount": {func(s *synced) { delete(s.Objects, account+"web") }, "identity", "",
			"ServiceAccount shop/web does not exist"},
		"no role": {func(s *synced) {
			s.Objects[account+"web"] = map[string]any{}
			s.refused("StoreNotReady", "no RAM role is set")
		}, "role", "", "kubectl annotate serviceaccount"},
		"by annotation": {func(s *synced) {
			s.es.Spec.Data[0].SecretStoreRef = nil
			s.es.Annotations = map[string]string{v1alpha1.AnnotationServiceAccount: "api"}
		}, "identity", "", "ServiceAccount shop/api does not exist"},
		"trust": {func(s *synced) {
			s.fails("NotTrusted", "AuthenticationFail.NoPermission; fix: mend it")
			s.store.Status.Conditions = ready(metav1.ConditionFalse, "NotTrusted", "AuthenticationFail.NoPermission; fix: mend it")
		}, "trust-policy", "", "– store         SecretStore shop/kms is not Ready, for the reason below"},
		"permission":        {func(s *synced) { s.fails("Forbidden", "no GetSecretValue") }, "permission", "", "✓ trust-policy"},
		"the administrator": {func(s *synced) { s.refused("Forbidden", "controllerNamespaces") }, "permission", "", "– trust-policy"},
		"name":              {func(s *synced) { s.fails("NotFound", "no such secret") }, "name", "", "✓ permission"},
		"template":          {func(s *synced) { s.fails("InvalidContent", "no key") }, "template", "", "✓ name"},
		"outage":            {func(s *synced) { s.fails("Unreachable", "out of order") }, "calls", "", "– name"},
		"budget": {func(s *synced) {
			hour := &metav1.Time{Time: syncedAt.Add(-time.Hour)}
			s.es.Status.RefreshTime, s.es.Status.NextRefreshTime = hour, hour
			s.es.Status.Conditions = append(s.es.Status.Conditions, metav1.Condition{
				Type: v1alpha1.ConditionStale, Status: metav1.ConditionTrue, Message: "the budget of calls to KMS is used up"})
		}, "calls", "", "budget.kmsCallsPerSecond"},
		"not ours": {func(s *synced) {
			s.refused("NotOwned", "annotate the Secret")
			s.secret.Annotations = nil
		}, "target", "", "– secret        the Secret shop/db is there, and is not the object's"},
		"quota":                   {func(s *synced) { s.fails("WriteFailed", "quota") }, "target", "", "✓ template"},
		"a reason of a later day": {func(s *synced) { s.fails("Unheard", "of") }, "target", "", "✓ template"},
		"Secret gone": {func(s *synced) { delete(s.Objects, secretPath) }, "secret", "",
			"does not exist, though nothing else is broken"},
		"a key of it": {func(s *synced) {
			s.secret.Annotations = map[string]string{v1alpha1.AnnotationKeysPrefix + "db": "shop/db:password"}
		}, "", "", "✓ secret"},
		"another's": {func(s *synced) {
			s.secret.Annotations = map[string]string{v1alpha1.AnnotationOwner: "shop/other"}
		}, "secret", "", "adopt"},
		"no right to the Secret": {func(s *synced) { s.Forbids = map[string]string{secretPath: "it is forbidden"} }, "", "",
			"says that it is as it should be; KMS was last read at 2026-01-01T00:04:00Z"},
		"no right to the Secret, and no kms-sync": {func(s *synced) {
			s.Forbids = map[string]string{secretPath: "it is forbidden"}
			delete(s.Objects, leasePath)
		}, "controller", "secret", "? secret        the Secret shop/db cannot be read: it is forbidden"},
		"no right to the Secret, which is not made": {func(s *synced) {
			s.Forbids = map[string]string{secretPath: "it is forbidden"}
			s.fails("NotFound", "no such secret")
		}, "name", "secret", "? secret"},
		"no rights": {func(s *synced) {
			s.Forbids = map[string]string{storePath: "it is forbidden", deploymentPath: "it is forbidden", secretPath: "it is forbidden"}
		}, "", "controller store secret", "? store         SecretStore shop/kms cannot be read: it is forbidden\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s := syncing()
			c.breakIt(s)
			r, err := s.diagnose(t, "externalsecret/db")
			if err != nil {
				t.Fatal(err)
			}
			var broken, doubt []string
			for _, check := range r.Checks {
				switch check.State {
				case Broken:
					broken = append(broken, check.Link)
				case Unseen:
					doubt = append(doubt, check.Link)
				}
			}
			var out bytes.Buffer
			r.Text(screen.New(&out, os.Getenv))
			if strings.Join(broken, " ") != c.broken || strings.Join(doubt, " ") != c.doubt || !strings.Contains(out.String(), c.says) {
				t.Errorf("%q is broken and %q not known; want %q, %q and %q:\n%s", broken, doubt, c.broken, c.doubt, c.says, out.String())
			}
		})
	}
}

func TestExternalSecretNames(t *testing.T) {
	for target, found := range map[string]bool{
		"externalsecret/db": true, "externalsecrets/db": true, "externalsecrets.alibabacloud.com/db": true,
		"externalsecrets.v1alpha1.alibabacloud.com/db": true, "ExternalSecret/db": true, "externalsecret/none": false,
	} {
		r, err := syncing().diagnose(t, target)
		if (err == nil) != found || found && r.Subject != "ExternalSecret shop/db" {
			t.Errorf("%s: %v %+v", target, err, r)
		}
	}
}

// Every reason of Ready that the page of kms-sync explains is about a link.
func TestReasons(t *testing.T) {
	page, err := os.ReadFile("../../../../docs/secret-sync.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "| reason of `Ready` |")
	table, _, _ := strings.Cut(rest, "\n\n")
	n := 0
	for row := range strings.Lines(table) {
		for _, reason := range regexp.MustCompile("`([A-Z][a-zA-Z]+)`").FindAllStringSubmatch(strings.Split(row+"||", "|")[1], -1) {
			if n++; reason[1] != "Synced" && links[reason[1]] == "" {
				t.Errorf("%s is about no link", reason[1])
			}
		}
	}
	if n != len(links)+1 {
		t.Errorf("the page has %d reasons, want Synced and %d", n, len(links))
	}
}
