package storespec

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

// Each mistake is said with its field, all of a store together, and what is right has none.
func TestCheck(t *testing.T) {
	ref := v1alpha1.SecretRef{Name: "key", Key: "id"}
	account := &v1alpha1.ServiceAccountRef{Name: "web", Namespace: "shop", Audiences: []string{tokenAudience}}
	role, provider := "acs:ram::1234567890123456:role/shop", "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c"
	for name, c := range map[string]struct {
		namespace string
		spec      v1alpha1.SecretStoreSpec
		want      []string
	}{
		"ServiceAccount": {"shop", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{KMSAuth: &v1alpha1.Auth{
			ServiceAccountRef: account, RAMRoleARN: "not read", RemoteRAMRoleARN: role, OIDCProviderARN: provider,
			RoleSessionExpiration: "900", OIDCTokenFilePath: TokenFile,
		}}}, nil},
		"access key": {"shop", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{KMSAuth: &v1alpha1.Auth{
			AccessKey: &ref, AccessKeySecret: &ref, RAMRoleARN: role}}}, nil},
		"node": {"shop", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{KMSAuth: &v1alpha1.Auth{}}}, nil},
		"client key": {"shop", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{DedicatedKMSAuth: &v1alpha1.ClientKeyAuth{
			Endpoint: "kst-1", Protocol: "HTTPS", ClientKeyContent: ref, Password: ref}}}, nil},
		"ClusterSecretStore of another namespace's ServiceAccount": {"", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{
			KMSAuth: &v1alpha1.Auth{ServiceAccountRef: account}}}, nil},
		"nothing": {"shop", v1alpha1.SecretStoreSpec{}, []string{"spec: has no KMS"}},
		"OOS":     {"shop", v1alpha1.SecretStoreSpec{OOS: &v1alpha1.OOS{}}, []string{"spec.OOS: is not supported yet"}},
		"empty":   {"shop", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{}}, []string{"spec.KMS: is empty"}},
		"both": {"shop", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{KMSAuth: &v1alpha1.Auth{}, DedicatedKMSAuth: &v1alpha1.ClientKeyAuth{}}},
			[]string{"spec.KMS: has both"}},
		"all of KMSAuth": {"team", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{KMSAuth: &v1alpha1.Auth{
			AccessKey: &v1alpha1.SecretRef{Name: "key"}, RemoteRAMRoleARN: "remote", OIDCProviderARN: strings.TrimPrefix(provider, "acs:ram::"),
			RoleSessionExpiration: "1h", OIDCTokenFilePath: "/etc/passwd",
			ServiceAccountRef: &v1alpha1.ServiceAccountRef{Name: "web", Namespace: "shop", Audiences: []string{"vault"}},
		}}}, []string{
			"spec.KMS.KMSAuth: has only one of", "spec.KMS.KMSAuth.accessKey: needs name and key",
			`spec.KMS.KMSAuth.roleSessionExpiration: is "1h"; write seconds, 900 to 43200`,
			`spec.KMS.KMSAuth.oidcTokenFilePath: is "/etc/passwd", a file of kms-sync's pod`,
			`spec.KMS.KMSAuth.remoteRamRoleARN: "remote" is not the ARN`, "spec.KMS.KMSAuth.oidcProviderARN: is ",
			"spec.KMS.KMSAuth.serviceAccountRef.audiences: is vault;",
			`spec.KMS.KMSAuth.serviceAccountRef.namespace: is "shop", and a SecretStore may only name`,
		}},
		"role": {"shop", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{KMSAuth: &v1alpha1.Auth{RAMRoleARN: "shop"}}},
			[]string{`spec.KMS.KMSAuth.ramRoleARN: "shop" is not the ARN`}},
		"all of dedicatedKMSAuth": {"shop", v1alpha1.SecretStoreSpec{KMS: &v1alpha1.KMS{DedicatedKMSAuth: &v1alpha1.ClientKeyAuth{
			IgnoreSSL: true, Protocol: "http", CA: "bm9uZQ==", ClientKeyContent: ref}}}, []string{
			"spec.KMS.dedicatedKMSAuth.ignoreSSL: is true", `spec.KMS.dedicatedKMSAuth.protocol: is "http"`,
			"spec.KMS.dedicatedKMSAuth.endpoint: is missing", "spec.KMS.dedicatedKMSAuth.ca: is not a PEM",
			"spec.KMS.dedicatedKMSAuth.password: needs name and key",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got := Check(c.spec, c.namespace)
			if len(got) != len(c.want) {
				t.Fatalf("%d mistakes, want %d: %s", len(got), len(c.want), got.Line())
			}
			for i, want := range c.want {
				if !strings.HasPrefix(got[i].String(), want) {
					t.Errorf("%s, want %s", got[i], want)
				}
			}
		})
	}
}

func TestCheckConditions(t *testing.T) {
	got := CheckConditions([]v1alpha1.NamespaceCondition{
		{Namespaces: []string{"shop"}, NamespaceRegexes: []string{"team-.*", "("}},
		{NamespaceRegexes: []string{"((a{100}){10}){10}"}},
		{NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}}},
	})
	want := []string{"spec.conditions[0].namespaceRegexes[1]: the regular expression cannot be parsed",
		"spec.conditions[1].namespaceRegexes[0]: the regular expression", "spec.conditions[2].namespaceSelector: "}
	if len(got) != len(want) {
		t.Fatal(got.Line())
	}
	for i := range want {
		if !strings.HasPrefix(got[i].String(), want[i]) {
			t.Errorf("%s, want %s", got[i], want[i])
		}
	}
}
