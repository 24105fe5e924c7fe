package cloud_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/clientkey"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
)

const (
	account = emulatortest.Account
	keyID   = "LTAI5sentinelKey"
	keyText = "sentinel-key-secret"
	ours    = "system:serviceaccount:kms-sync:kms-sync" // the controller's own ServiceAccount
)

func role(name string) string { return "acs:ram::" + account + ":role/" + name }

const (
	readsAll   = `{"Version":"1","Statement":[{"Effect":"Allow","Action":["kms:GetSecretValue","kms:Decrypt"],"Resource":"*"}]}`
	assumesAll = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"*"}]}`
)

func trusts(principal string) string {
	return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":` + principal + `}]}`
}

func trustsAccount(subject string) string {
	return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"Federated":["` + emulatortest.ProviderARN +
		`"]},"Condition":{"StringEquals":{"oidc:aud":["sts.aliyuncs.com"],"oidc:iss":["` + emulatortest.IssuerURL + `"],"oidc:sub":["` + subject +
		`"]}}}]}`
}

// world is a cloud and a cluster.
type world struct {
	*emulatortest.Server
	addr     string // of STS and KMS
	instance string // of the KMS instance
	key      clientkey.Key
	settings store.Settings
	kms      kms.Config
	objects  client.Client

	mu       sync.Mutex
	sessions []url.Values // that were asked of STS
	tokens   []string     // that were requested, by namespace/name
}

// start has the roles web of ServiceAccount shop/web, named of shop/named, sync of kms-sync's own, keyed of the access key, remote in
// another account for web and keyed, and node. All may read app/db.
func start(t *testing.T) *world {
	t.Helper()
	issuer := emulatortest.NewIssuer(t, emulatortest.IssuerURL)
	config := emulatortest.Config(issuer)
	config.Users = []emulator.User{{
		Name: "u", AccessKeys: []emulator.AccessKey{{ID: keyID, Secret: keyText}}, Policies: []string{readsAll, assumesAll},
	}}
	for name, trust := range map[string]string{
		"web": trustsAccount("system:serviceaccount:shop:web"), "named": trustsAccount("system:serviceaccount:shop:named"),
		"sync": trustsAccount(ours), "keyed": trusts(`{"RAM":"acs:ram::` + account + `:root"}`), "node": trusts(`{"Service":"ecs.aliyuncs.com"}`),
	} {
		config.Roles = append(config.Roles, emulator.Role{
			Name: name, TrustPolicy: trust, Policies: []string{readsAll, assumesAll}, MaxSessionDuration: 43200,
		})
	}
	config.Roles = append(config.Roles, emulator.Role{
		Account: "999", Name: "remote", TrustPolicy: trusts(`{"RAM":"acs:ram::` + account + `:root"}`), Policies: []string{readsAll},
	})
	config.Node.Role = "node"
	w := &world{key: emulatortest.WithInstance(t, &config, "app/*")}
	config.Secrets = []emulator.Secret{
		{Name: "app/db", Value: emulator.Value{Text: "sentinel-value"}},
		{Name: "app/db", Account: "999", Value: emulator.Value{Text: "sentinel-remote"}},
	}
	w.Server = emulatortest.StartConfig(t, issuer, config)
	w.instance = w.StartInstance(t)
	front := httptest.NewTLSServer(http.HandlerFunc(w.serve))
	t.Cleanup(front.Close)
	w.addr = strings.TrimPrefix(front.URL, "https://")
	roots := x509.NewCertPool()
	roots.AddCert(front.Certificate())

	w.kms = kms.Config{Endpoint: w.addr, Settings: openapi.Settings{Roots: roots}}
	w.settings = store.Settings{
		STS: identity.STS{Endpoint: w.addr, Settings: w.kms.Settings}, KMS: w.kms, Getenv: func(string) string { return "" },
		TokenFile: issuer.TokenFile(t, ours), Metadata: identity.NodeRole{Proxy: w.StartMetadata(t)},
		Token: func(_ context.Context, namespace, name string) (string, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.tokens = append(w.tokens, namespace+"/"+name)
			return issuer.Token(t, "system:serviceaccount:"+namespace+":"+name), nil
		},
	}
	return w
}

// cluster returns a Resolver of a cluster with these objects, and forgets what was asked before.
func (w *world) cluster(t *testing.T, change func(*store.Settings), objects ...client.Object) *store.Resolver {
	t.Helper()
	w.mu.Lock()
	w.sessions, w.tokens = nil, nil
	w.mu.Unlock()
	w.ResetCalls()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	account := func(namespace, name string, annotations map[string]string) client.Object {
		return &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: annotations}}
	}
	w.objects = fake.NewClientBuilder().WithScheme(scheme).WithObjects(append([]client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "stranger"}},
		account("shop", "web", map[string]string{"ack.alibabacloud.com/role-arn": role("web")}),
		account("shop", "named", map[string]string{"pod-identity.alibabacloud.com/role-name": "named"}),
		account("shop", "plain", nil),
		account("stranger", "web", map[string]string{"ack.alibabacloud.com/role-arn": role("web")}),
		secret("shop", "key", map[string]string{"id": keyID + "\n", "secret": keyText + "\n"}),
		secret("shop", "client-key", map[string]string{"key": string(w.key.JSON), "password": w.key.Password + "\n"}),
	}, objects...)...).Build()

	s := w.settings
	s.Cached, s.Live = w.objects, w.objects
	s.Config = store.Config{Config: clusterconfig.Config{AccountID: emulatortest.Account, OIDCProviderARN: emulatortest.ProviderARN}}
	s.Config.Allow = clusterconfig.Allow{
		Roles: []string{"acs:ram::*:role/*"}, Secrets: []string{"*"}, Endpoints: []string{"*.cryptoservice.kms.aliyuncs.com", w.instance},
	}
	if change != nil {
		change(&s)
	}
	r, err := store.New(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// serve notes which sessions are asked for.
func (w *world) serve(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	if form, err := url.ParseQuery(string(body)); err == nil && form.Get("RoleSessionName") != "" {
		w.mu.Lock()
		w.sessions = append(w.sessions, form)
		w.mu.Unlock()
	}
	w.ServeHTTP(rw, r)
}

// asked is what STS was asked for: role's name, session's name and seconds.
func (w *world) asked() (list []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, form := range w.sessions {
		_, name, _ := strings.Cut(form.Get("RoleArn"), ":role/")
		list = append(list, name+" "+form.Get("RoleSessionName")+" "+form.Get("DurationSeconds"))
	}
	return list
}

// read reads app/db for an ExternalSecret, once more whenever it is to wait.
func read(ctx context.Context, r *store.Resolver, c *cloud.Cloud, es *v1alpha1.ExternalSecret, ref v1alpha1.SecretStoreRef) (
	store.Asker, kms.Secret, error,
) {
	a, err := r.Resolve(ctx, es, store.Entry{Key: "app/db", Store: ref})
	if err != nil {
		return a, kms.Secret{}, err
	}
	got, err := c.Read(ctx, a, kms.Ref{Name: "app/db"}, cloud.Due, time.Minute, time.Now())
	return a, got, err
}

func secret(namespace, name string, values map[string]string) *corev1.Secret {
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: map[string][]byte{}}
	for key, value := range values {
		s.Data[key] = []byte(value)
	}
	return s
}

func object(namespace, name string) *v1alpha1.ExternalSecret {
	return &v1alpha1.ExternalSecret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{}}}
}

func secretStore(namespace, name string, of *v1alpha1.KMS) *v1alpha1.SecretStore {
	return &v1alpha1.SecretStore{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Generation: 7}, Spec: v1alpha1.SecretStoreSpec{KMS: of},
	}
}

func clusterStore(name string, of *v1alpha1.KMS, conditions ...v1alpha1.NamespaceCondition) *v1alpha1.ClusterSecretStore {
	return &v1alpha1.ClusterSecretStore{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: 8}, Spec: v1alpha1.ClusterSecretStoreSpec{KMS: of, Conditions: conditions},
	}
}

// as has credentials of KMSAuth.
func as(auth v1alpha1.Auth) *v1alpha1.KMS { return &v1alpha1.KMS{KMSAuth: &auth} }

// web is the ServiceAccount web.
func web(namespace string) *v1alpha1.ServiceAccountRef {
	return &v1alpha1.ServiceAccountRef{Name: "web", Namespace: namespace}
}

// keyed adds the access key in the Secret key.
func keyed(auth v1alpha1.Auth, namespace string) *v1alpha1.KMS {
	auth.AccessKey = &v1alpha1.SecretRef{Namespace: namespace, Name: "key", Key: "id"}
	auth.AccessKeySecret = &v1alpha1.SecretRef{Namespace: namespace, Name: "key", Key: "secret"}
	return as(auth)
}

// dedicated is the client key in the Secret client-key.
func (w *world) dedicated() *v1alpha1.ClientKeyAuth {
	return &v1alpha1.ClientKeyAuth{
		Endpoint: w.instance, CA: base64.StdEncoding.EncodeToString(emulatortest.InstanceCAPEM()), Protocol: "https",
		ClientKeyContent: v1alpha1.SecretRef{Name: "client-key", Key: "key"}, Password: v1alpha1.SecretRef{Name: "client-key", Key: "password"},
	}
}

// served lists shop in controllerNamespaces.
func served(s *store.Settings) {
	s.Config.NodeRole = true
	s.Config.ControllerNamespaces = []store.Namespaces{{Selector: &clusterconfig.Selector{MatchLabels: map[string]string{"team": "a"}}}}
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}
