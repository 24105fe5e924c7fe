// Package storespec says what is wrong with stores, whatever the cluster has, and reads the fields of theirs that are texts.
package storespec

import (
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/pattern"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// TokenFile is where the controller's own ServiceAccount token is mounted, as in ack-secret-manager's chart.
const TokenFile = "/var/run/secrets/tokens/ack-secret-manager"

// tokenAudience is the one that tokens are requested for.
const tokenAudience = "sts.aliyuncs.com"

// Check returns all mistakes of a store that can be known without a cluster. The namespace is that of a SecretStore, and empty for a
// ClusterSecretStore.
func Check(spec v1alpha1.SecretStoreSpec, namespace string) config.Mistakes {
	var c checker
	of := spec.KMS
	switch {
	case spec.OOS != nil:
		c.Add("spec.OOS", "is not supported yet; use a store with KMS")
	case of == nil:
		c.Add("spec", "has no KMS; write KMS.KMSAuth.serviceAccountRef.name for the role of a ServiceAccount")
	case of.DedicatedKMSAuth != nil && of.KMSAuth != nil:
		c.Add("spec.KMS", "has both KMSAuth and dedicatedKMSAuth; remove one of them")
	case of.DedicatedKMSAuth != nil:
		c.clientKey("spec.KMS.dedicatedKMSAuth", of.DedicatedKMSAuth)
	case of.KMSAuth != nil:
		c.auth("spec.KMS.KMSAuth", of.KMSAuth, namespace)
	default:
		c.Add("spec.KMS", "is empty, and so names no identity; write KMSAuth, or dedicatedKMSAuth again if an upgrade of ack-secret-manager "+
			"to 0.5.12 or later removed it")
	}
	return c.Mistakes
}

type checker struct{ config.Mistakes }

func (c *checker) clientKey(at string, auth *v1alpha1.ClientKeyAuth) {
	if auth.IgnoreSSL {
		c.Add(at+".ignoreSSL", "is true, so that any host could answer in the instance's place; remove it, and write the instance's CA "+
			"certificate, which the KMS console gives out, into ca, in base64")
	}
	if auth.Protocol != "" && !strings.EqualFold(auth.Protocol, "https") {
		c.Add(at+".protocol", "is %q; only https keeps the secrets: remove it", auth.Protocol)
	}
	if strings.TrimSpace(auth.Endpoint) == "" {
		c.Add(at+".endpoint", "is missing; write the instance's ID, for example kst-hzz62ee817bvyyr5x")
	}
	if _, err := Authority(auth.CA); err != nil {
		c.Add(at+".ca", "%v", err)
	}
	c.secret(at+".clientKeyContent", &auth.ClientKeyContent)
	c.secret(at+".password", &auth.Password)
}

// Authority decodes the ca of a client key; nil if it is empty.
func Authority(ca string) (*x509.CertPool, error) {
	if ca == "" {
		return nil, nil
	}
	pem, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(ca), ""))
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("is not a PEM certificate in base64; write what base64 -w0 gives of the instance's CA file")
	}
	return pool, nil
}

func (c *checker) secret(at string, ref *v1alpha1.SecretRef) {
	if ref != nil && (ref.Name == "" || ref.Key == "") {
		c.Add(at, "needs name and key")
	}
}

func (c *checker) auth(at string, auth *v1alpha1.Auth, namespace string) {
	if (auth.AccessKey == nil) != (auth.AccessKeySecret == nil) {
		c.Add(at, "has only one of accessKey and accessKeySecret; write both")
	}
	c.secret(at+".accessKey", auth.AccessKey)
	c.secret(at+".accessKeySecret", auth.AccessKeySecret)
	if _, err := SessionDuration(auth.RoleSessionExpiration); err != nil {
		c.Add(at+".roleSessionExpiration", "%v", err)
	}
	if auth.OIDCTokenFilePath != "" && auth.OIDCTokenFilePath != TokenFile {
		c.Add(at+".oidcTokenFilePath", "is %q, a file of kms-sync's pod, of which only %s is a token for STS; remove it",
			auth.OIDCTokenFilePath, TokenFile)
	}
	c.role(at+".remoteRamRoleARN", auth.RemoteRAMRoleARN)
	ref := auth.ServiceAccountRef
	if ref == nil { // else the ServiceAccount says its role
		c.role(at+".ramRoleARN", auth.RAMRoleARN)
	}
	if arn := auth.OIDCProviderARN; arn != "" && (ref != nil || auth.RAMRoleARN != "") && !IsProviderARN(arn) {
		c.Add(at+".oidcProviderARN", "is %q; write acs:ram::<account>:oidc-provider/ack-rrsa-<cluster ID>", arn)
	}
	if ref == nil {
		return
	}
	if slices.ContainsFunc(ref.Audiences, func(a string) bool { return a != tokenAudience }) {
		c.Add(at+".serviceAccountRef.audiences", "is %s; tokens are requested for %s alone: remove it",
			strings.Join(ref.Audiences, ", "), tokenAudience)
	}
	if namespace != "" && ref.Namespace != "" && ref.Namespace != namespace {
		c.Add(at+".serviceAccountRef.namespace", "is %q, and a SecretStore may only name ServiceAccounts of its own; remove it",
			ref.Namespace)
	}
}

func (c *checker) role(at, arn string) {
	if arn != "" && !config.IsRoleARN(arn) {
		c.Add(at, "%q is not the ARN of a RAM role; write acs:ram::<account>:role/<name>", arn)
	}
}

// IsProviderARN reports whether a text is the ARN of an OIDC provider.
func IsProviderARN(arn string) bool {
	rest, prefixed := strings.CutPrefix(arn, "acs:ram::")
	account, name, _ := strings.Cut(rest, ":oidc-provider/")
	return prefixed && config.IsAccount(account) && name != ""
}

// SessionDuration reads roleSessionExpiration: seconds; 0 if it is empty.
func SessionDuration(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < 900 || seconds > 43200 {
		return 0, fmt.Errorf("is %q; write seconds, 900 to 43200, and no more than the role's MaxSessionDuration", text)
	}
	return time.Duration(seconds) * time.Second, nil
}

// CheckConditions returns all mistakes of the conditions of a ClusterSecretStore.
func CheckConditions(conditions []v1alpha1.NamespaceCondition) config.Mistakes {
	var c checker
	for i, condition := range conditions {
		at := fmt.Sprintf("spec.conditions[%d]", i)
		if condition.NamespaceSelector != nil {
			if _, err := metav1.LabelSelectorAsSelector(condition.NamespaceSelector); err != nil {
				c.Add(at+".namespaceSelector", "%v", err)
			}
		}
		for j, expression := range condition.NamespaceRegexes {
			if _, err := pattern.Instructions(expression); err != nil {
				c.Add(fmt.Sprintf("%s.namespaceRegexes[%d]", at, j), "%v", err)
			}
		}
	}
	return c.Mistakes
}

// MatchesNamespace reports whether an expression of namespaceRegexes matches a name, or with parts a part of it. One that is wrong matches
// none.
func MatchesNamespace(expression, name string, parts bool) bool {
	compile := pattern.Whole
	if parts {
		compile = pattern.Compile
	}
	r, err := compile(expression)
	return err == nil && r.MatchString(name)
}
