package cloud_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"

	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/cloud"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/storespec"
)

// TestIdentities: each field of a store, and of the environment, by the identity that reads the secret, the sessions that are asked
// for it and their names.
func TestIdentities(t *testing.T) {
	const remote = "acs:ram::999:role/remote"
	asWeb := []string{"web shop.web.db 3600"}
	w := start(t)
	for name, c := range map[string]struct {
		of         *v1alpha1.KMS // of the SecretStore
		cluster    *v1alpha1.KMS // of the ClusterSecretStore
		annotation string
		env        []string
		who        store.Kind
		sessions   []string
		value      string
	}{
		"serviceAccountRef":           {of: as(v1alpha1.Auth{ServiceAccountRef: web("")}), who: store.ServiceAccount, sessions: asWeb},
		"serviceAccountRef.namespace": {of: as(v1alpha1.Auth{ServiceAccountRef: web("shop")}), who: store.ServiceAccount, sessions: asWeb},
		"serviceAccountRef.audiences": {
			of:  as(v1alpha1.Auth{ServiceAccountRef: &v1alpha1.ServiceAccountRef{Name: "web", Audiences: []string{"sts.aliyuncs.com"}}}),
			who: store.ServiceAccount, sessions: asWeb,
		},
		"serviceAccountRef, annotation role-name": {
			of: as(v1alpha1.Auth{ServiceAccountRef: &v1alpha1.ServiceAccountRef{Name: "named"}}), who: store.ServiceAccount,
			sessions: []string{"named shop.named.db 3600"},
		},
		"serviceAccountRef before all else": {
			of:  keyed(v1alpha1.Auth{ServiceAccountRef: web(""), RAMRoleARN: role("keyed"), RAMRoleSessionName: "prod.other.db"}, ""),
			who: store.ServiceAccount, sessions: asWeb,
		},
		"ClusterSecretStore serviceAccountRef, referent": {
			cluster: as(v1alpha1.Auth{ServiceAccountRef: web("")}), who: store.ServiceAccount, sessions: asWeb,
		},
		"annotation service-account": {annotation: "web", who: store.ServiceAccount, sessions: asWeb},
		"roleSessionExpiration": {
			of: as(v1alpha1.Auth{ServiceAccountRef: web(""), RoleSessionExpiration: "43200"}), who: store.ServiceAccount,
			sessions: []string{"web shop.web.db 43200"},
		},
		"remoteRamRoleARN": {
			of: as(v1alpha1.Auth{ServiceAccountRef: web(""), RemoteRAMRoleARN: remote}), who: store.ServiceAccount,
			sessions: []string{"web shop.web.db 3600", "remote shop.web.db 3600"}, value: "sentinel-remote",
		},
		"remoteRamRoleSessionName": {
			of:  keyed(v1alpha1.Auth{RemoteRAMRoleARN: remote, RemoteRAMRoleSessionName: "afar", RoleSessionExpiration: "900"}, ""),
			who: store.AccessKey, sessions: []string{"remote afar 3600"}, value: "sentinel-remote",
		},
		"accessKey, accessKeySecret":            {of: keyed(v1alpha1.Auth{}, ""), who: store.AccessKey},
		"accessKey.namespace":                   {of: keyed(v1alpha1.Auth{}, "shop"), who: store.AccessKey},
		"ClusterSecretStore accessKey":          {cluster: keyed(v1alpha1.Auth{}, ""), who: store.AccessKey},
		"ClusterSecretStore accessKey, its own": {cluster: keyed(v1alpha1.Auth{}, "shop"), who: store.AccessKey},
		"ramRoleARN with an access key": {
			of: keyed(v1alpha1.Auth{RAMRoleARN: role("keyed"), RoleSessionExpiration: "900"}, ""), who: store.AccessKey,
			sessions: []string{"keyed shop.kms 900"},
		},
		"ramRoleSessionName": {
			of: keyed(v1alpha1.Auth{RAMRoleARN: role("keyed"), RAMRoleSessionName: "mine"}, ""), who: store.AccessKey,
			sessions: []string{"keyed mine 3600"},
		},
		"ramRoleARN": {
			of: as(v1alpha1.Auth{RAMRoleARN: role("sync"), RAMRoleSessionName: "prod.other.db"}), who: store.Controller,
			sessions: []string{"sync shop.kms 3600"},
		},
		"ClusterSecretStore ramRoleARN": {
			cluster: as(v1alpha1.Auth{RAMRoleARN: role("sync")}), who: store.Controller, sessions: []string{"sync kms-sync.kms 3600"},
		},
		"oidcProviderARN": {
			of: keyed(v1alpha1.Auth{RAMRoleARN: role("sync"), OIDCProviderARN: emulatortest.ProviderARN}, ""), who: store.Controller,
			sessions: []string{"sync shop.kms 3600"},
		},
		"no credentials: the node's role": {of: as(v1alpha1.Auth{}), who: store.NodeRole},
		"environment: access key":         {env: []string{"ACCESS_KEY_ID", keyID + "\n", "SECRET_ACCESS_KEY", keyText}, who: store.Environment},
		"environment: access key and role": {
			env: []string{"ACCESS_KEY_ID", keyID, "SECRET_ACCESS_KEY", keyText, "ALICLOUD_ROLE_ARN", role("keyed"),
				"ALICLOUD_ROLE_SESSION_NAME", "seed", "ALICLOUD_ROLE_SESSION_EXPIRATION", "1800"},
			who: store.Environment, sessions: []string{"keyed seed 1800"},
		},
		"environment: RRSA": {
			env: []string{"ALICLOUD_ROLE_ARN", role("sync"), "ALICLOUD_OIDC_PROVIDER_ARN", emulatortest.ProviderARN,
				"ALICLOUD_ROLE_SESSION_NAME", "seed", "ALICLOUD_OIDC_TOKEN_FILE", w.settings.TokenFile},
			who: store.Controller, sessions: []string{"sync seed 3600"},
		},
		"oidcTokenFilePath": {
			of: as(v1alpha1.Auth{RAMRoleARN: role("sync"), OIDCTokenFilePath: storespec.TokenFile}), who: store.Controller,
			sessions: []string{"sync shop.kms 3600"},
		},
		"ramRoleARN, remote role": {
			of:  as(v1alpha1.Auth{RAMRoleARN: role("sync"), RemoteRAMRoleARN: remote, RemoteRAMRoleSessionName: "prod.other.db"}),
			who: store.Controller, sessions: []string{"sync shop.kms 3600", "remote shop.kms 3600"}, value: "sentinel-remote",
		},
		"environment: remote role": {
			env: []string{"ACCESS_KEY_ID", keyID, "SECRET_ACCESS_KEY", keyText, "ALICLOUD_REMOTE_ROLE_ARN", remote,
				"ALICLOUD_REMOTE_ROLE_SESSION_NAME", "afar"},
			who: store.Environment, sessions: []string{"remote afar 3600"}, value: "sentinel-remote",
		},
		"environment: the node's role": {who: store.NodeRole},
	} {
		t.Run(name, func(t *testing.T) {
			var objects []client.Object
			ref := v1alpha1.SecretStoreRef{Name: "kms"}
			switch {
			case c.of != nil:
				objects = append(objects, secretStore("shop", "kms", c.of))
			case c.cluster != nil:
				ref.Kind = "ClusterSecretStore"
				objects = append(objects, clusterStore("kms", c.cluster))
			default:
				ref = v1alpha1.SecretStoreRef{}
			}
			r := w.cluster(t, func(s *store.Settings) {
				served(s)
				s.Getenv = environment(c.env...)
			}, objects...)
			es := object("shop", "db")
			es.Annotations[v1alpha1.AnnotationServiceAccount] = c.annotation
			calls := cloud.New(cloud.Settings{KMS: w.kms})
			for range 3 { // from memory, but for the first
				a, got, err := read(t.Context(), r, calls, es, ref)
				if want := cmp.Or(c.value, "sentinel-value"); err != nil || string(got.Data) != want {
					t.Fatalf("got %v, %v, want %s", got, err, want)
				}
				if a.Who.Kind != c.who {
					t.Errorf("%s reads, want %s", a.Who, c.who)
				}
				if borrowed := slices.Contains([]store.Kind{store.Controller, store.Environment, store.NodeRole}, c.who); a.Who.Borrowed() != borrowed {
					t.Errorf("borrowed: %t", a.Who.Borrowed())
				}
			}
			if got := w.asked(); !slices.Equal(got, c.sessions) {
				t.Errorf("sessions %q, want %q", got, c.sessions)
			}
			if n := w.Calls().Sum(emulator.Call{Action: "GetSecretValue"}); n != 1 {
				t.Errorf("KMS was called %d times: %v", n, w.Calls())
			}
		})
	}
}

// TestClientKey: dedicatedKMSAuth, and what is refused of it.
func TestClientKey(t *testing.T) {
	w := start(t)
	r, calls := w.cluster(t, nil), cloud.New(cloud.Settings{KMS: w.kms})
	type key = v1alpha1.ClientKeyAuth
	for name, c := range map[string]struct {
		change func(*key)
		says   string // empty: it reads
	}{
		"as it was in 0.5":    {func(*key) {}, ""},
		"ignoreSSL":           {func(a *key) { a.IgnoreSSL = true }, "write the instance's CA certificate"},
		"protocol":            {func(a *key) { a.Protocol = "http" }, "only https"},
		"endpoint":            {func(a *key) { a.Endpoint = "" }, "endpoint: is missing"},
		"endpoint, elsewhere": {func(a *key) { a.Endpoint = "evil.example.com" }, "does not allow the KMS endpoint evil.example.com"},
		"ca":                  {func(a *key) { a.CA = "not base64" }, "ca: is not a PEM certificate"},
		"no ca":               {func(a *key) { a.CA = "" }, "certificate"},
		"clientKeyContent":    {func(a *key) { a.ClientKeyContent.Key = "other" }, "the Secret shop/client-key has no value under the key other"},
		"password":            {func(a *key) { a.Password = v1alpha1.SecretRef{Name: "key", Key: "id"} }, "the password does not open it"},
		"password, elsewhere": {func(a *key) { a.Password.Namespace = "stranger" },
			"have the administrator list stranger/client-key in sharedSecrets"},
	} {
		t.Run(name, func(t *testing.T) {
			auth := w.dedicated()
			c.change(auth)
			s := secretStore("shop", "kms-"+strings.Trim(strings.ReplaceAll(strings.ToLower(name), " ", "-"), ","),
				&v1alpha1.KMS{DedicatedKMSAuth: auth})
			s.Name = strings.ReplaceAll(s.Name, ",", "")
			if err := w.objects.Create(t.Context(), s); err != nil {
				t.Fatal(err)
			}
			_, got, err := read(t.Context(), r, calls, object("shop", "db"), v1alpha1.SecretStoreRef{Name: s.Name})
			switch {
			case c.says == "" && (err != nil || string(got.Data) != "sentinel-value"):
				t.Errorf("got %v, %v", got, err)
			case c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)):
				t.Errorf("got %v, want %s", err, c.says)
			}
		})
	}
}

// TestSharedSecretsNameNoStore: stores of two namespaces with one Secret have one identity, and neither gets the other's name.
func TestSharedSecretsNameNoStore(t *testing.T) {
	w := start(t)
	dedicated := w.dedicated()
	dedicated.ClientKeyContent.Namespace, dedicated.Password.Namespace = "shop", "shop"
	for missing, of := range map[string]*v1alpha1.KMS{"key": keyed(v1alpha1.Auth{}, "shop"), "client-key": {DedicatedKMSAuth: dedicated}} {
		r := w.cluster(t, func(s *store.Settings) { s.Config.SharedSecrets = []string{"shop/*"} },
			secretStore("shop", "shops-own-name", of), secretStore("stranger", "strangers-own-name", of))
		if err := w.objects.Delete(t.Context(), secret("shop", missing, nil)); err != nil {
			t.Fatal(err)
		}
		calls := cloud.New(cloud.Settings{KMS: w.kms})
		for _, namespace := range []string{"shop", "stranger"} {
			_, _, err := read(t.Context(), r, calls, object(namespace, "db"), v1alpha1.SecretStoreRef{Name: namespace + "s-own-name"})
			if err == nil || !strings.Contains(err.Error(), "the Secret shop/"+missing+" does not exist") ||
				strings.Contains(err.Error(), "own-name") {
				t.Errorf("%s is told %v", namespace, err)
			}
		}
	}
}

// TestAccessKeyChanges: an access key is read live, so that a new one counts, and a deleted one does too.
func TestAccessKeyChanges(t *testing.T) {
	w := start(t)
	r, calls := w.cluster(t, nil, secretStore("shop", "kms", keyed(v1alpha1.Auth{}, ""))), cloud.New(cloud.Settings{KMS: w.kms})
	var held client.Object = secret("shop", "key", map[string]string{"id": "LTAI5wrong", "secret": "wrong"})
	if err := w.objects.Update(t.Context(), held); err != nil {
		t.Fatal(err)
	}
	es, ref := object("shop", "db"), v1alpha1.SecretStoreRef{Name: "kms"}
	_, _, err := read(t.Context(), r, calls, es, ref)
	var refusal *kms.Error
	if !errors.As(err, &refusal) || refusal.Class() != kms.CredentialsRejected || strings.Contains(err.Error(), "wrong") {
		t.Fatalf("got %v", err)
	}
	if err := w.objects.Update(t.Context(), secret("shop", "key", map[string]string{"id": keyID, "secret": keyText})); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		_, got, err := read(t.Context(), r, calls, es, ref)
		var wait *cloud.Wait
		if err == nil && string(got.Data) == "sentinel-value" {
			return
		}
		if !errors.As(err, &wait) || time.Now().After(deadline) {
			t.Fatalf("got %v", err)
		}
	}
}

// TestOneIdentitysTroubleIsItsOwn: a role that is revoked, an identity that is throttled, a session that ended.
func TestOneIdentitysTroubleIsItsOwn(t *testing.T) {
	w := start(t)
	r := w.cluster(t, served, secretStore("shop", "web", as(v1alpha1.Auth{ServiceAccountRef: web("")})),
		secretStore("shop", "sync", as(v1alpha1.Auth{RAMRoleARN: role("sync")})))
	calls := cloud.New(cloud.Settings{KMS: w.kms})
	try := func(ctx context.Context, name string) error {
		a, err := r.Resolve(ctx, object("shop", "db"), store.Entry{Key: "app/db", Store: v1alpha1.SecretStoreRef{Name: name}})
		if err != nil {
			return err
		}
		_, err = calls.Read(ctx, a, kms.Ref{Name: "app/db"}, cloud.Due, 0, time.Now())
		return err
	}
	if err := w.DeleteRole("web"); err != nil {
		t.Fatal(err)
	}
	var sts *identity.Error
	for range 3 {
		if err := try(t.Context(), "web"); !errors.As(err, &sts) || !strings.HasPrefix(sts.Code, "EntityNotExist") {
			t.Errorf("a role that does not exist: %v", err)
		}
		if err := try(t.Context(), "sync"); err != nil {
			t.Errorf("another identity: %v", err)
		}
	}
	// Sessions that were ended are replaced once.
	w.ExpireSessions()
	if err := try(t.Context(), "sync"); err != nil {
		t.Errorf("after the sessions' end: %v", err)
	}
}

// TestPausesHonourRetryAfter: a throttled identity rests as long as KMS asks; another one does not.
func TestPausesHonourRetryAfter(t *testing.T) {
	w := start(t)
	r := w.cluster(t, served, secretStore("shop", "web", as(v1alpha1.Auth{ServiceAccountRef: web("")})),
		secretStore("shop", "sync", as(v1alpha1.Auth{RAMRoleARN: role("sync")})))
	calls := cloud.New(cloud.Settings{KMS: w.kms})
	if _, err := w.AddFault(emulator.Fault{
		Action: "GetSecretValue", Count: 1, Code: "Rejected.Throttling", RetryAfter: emulator.Duration(2 * time.Minute),
	}); err != nil {
		t.Fatal(err)
	}
	es := object("shop", "db")
	_, _, err := read(t.Context(), r, calls, es, v1alpha1.SecretStoreRef{Name: "web"})
	var refusal *kms.Error
	if !errors.As(err, &refusal) || refusal.RetryAfter != 2*time.Minute {
		t.Fatalf("got %v", err)
	}
	_, _, err = read(t.Context(), r, calls, es, v1alpha1.SecretStoreRef{Name: "web"})
	var wait *cloud.Wait
	if !errors.As(err, &wait) || wait.After < 110*time.Second || wait.Err == nil {
		t.Errorf("got %v", err)
	}
	if _, got, err := read(t.Context(), r, calls, es, v1alpha1.SecretStoreRef{Name: "sync"}); err != nil ||
		string(got.Data) != "sentinel-value" {
		t.Errorf("another identity: %v, %v", got, err)
	}
	if n := w.Calls().Sum(emulator.Call{Action: "GetSecretValue"}); n != 2 {
		t.Errorf("calls: %v", w.Calls())
	}
}

// TestRestsNameNoOthers: who waits because of what others were answered is told nothing of their secrets and roles.
func TestRestsNameNoOthers(t *testing.T) {
	for action, failed := range map[string]string{"AssumeRoleWithOIDC": role("web"), "GetSecretValue": "app/db"} {
		w := start(t)
		r := w.cluster(t, served, secretStore("shop", "web", as(v1alpha1.Auth{ServiceAccountRef: web("")})),
			secretStore("shop", "sync", as(v1alpha1.Auth{RAMRoleARN: role("sync")})))
		calls := cloud.New(cloud.Settings{KMS: w.kms})
		w.Fault(t, emulator.Fault{Action: action, Status: 503})
		ask := func(store, secret string) error {
			a, err := r.Resolve(t.Context(), object("shop", "db"), entry(store, secret))
			if err == nil {
				_, err = calls.Read(t.Context(), a, kms.Ref{Name: secret}, cloud.Due, 0, time.Now())
			}
			return err
		}
		for range 5 {
			if err := ask("web", "app/db"); err == nil || !strings.Contains(err.Error(), failed) {
				t.Fatalf("%s: %v", action, err)
			}
		}
		err := ask("sync", "app/own")
		var wait *cloud.Wait
		if !errors.As(err, &wait) || wait.Err == nil || strings.Contains(err.Error(), failed) {
			t.Errorf("%s: another one is told %v", action, err)
		}
	}
}

func entry(name, secret string) store.Entry {
	return store.Entry{Key: secret, Store: v1alpha1.SecretStoreRef{Name: name}}
}
