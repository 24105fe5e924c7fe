package content

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
)

func typeOf(es *v1alpha1.ExternalSecret) corev1.SecretType {
	if t := es.Spec.Target.Template; t != nil && t.Type != "" {
		return t.Type
	}
	return cmp.Or(es.Spec.Type, corev1.SecretTypeOpaque)
}

// required are the keys without which the API server refuses a Secret of a type: of each list, one.
var required = map[corev1.SecretType][][]string{
	corev1.SecretTypeTLS:              {{corev1.TLSCertKey}, {corev1.TLSPrivateKeyKey}},
	corev1.SecretTypeDockercfg:        {{corev1.DockerConfigKey}},
	corev1.SecretTypeDockerConfigJson: {{corev1.DockerConfigJsonKey}},
	corev1.SecretTypeSSHAuth:          {{corev1.SSHAuthPrivateKey}},
	corev1.SecretTypeBasicAuth:        {{corev1.BasicAuthUsernameKey, corev1.BasicAuthPasswordKey}},
}

// typeProblem says why no Secret of a type is made; "" means nothing.
func typeProblem(t corev1.SecretType) string {
	switch t {
	case corev1.SecretTypeServiceAccountToken:
		return "kms-sync makes no Secret of this type: Kubernetes puts a token of a ServiceAccount into it; use a projected token or " +
			"kubectl create token"
	case corev1.SecretTypeBootstrapToken:
		return "kms-sync makes no Secret of this type: the API server takes its value for a credential of a node; use kubeadm token create"
	}
	return ""
}

// domain is that of the labels and annotations that kms-sync marks Secrets with.
const domain = "kms.alibabacloud.com"

// Reserved says why no template may give a Secret the label or annotation of a name; "" means it may.
func Reserved(name string) string {
	prefix, _, _ := strings.Cut(strings.ToLower(name), "/")
	switch {
	case name == corev1.ServiceAccountNameKey || name == corev1.ServiceAccountUIDKey:
		return "Kubernetes gives a Secret with it a ServiceAccount's token; remove it"
	case prefix == domain || strings.HasSuffix(prefix, "."+domain):
		return "names of " + domain + " are kms-sync's own; choose another prefix"
	}
	return ""
}

// missing returns the keys that a type needs and has does not report.
func missing(t corev1.SecretType, has func(string) bool) []string {
	var all []string
	for _, oneOf := range required[t] {
		if !slices.ContainsFunc(oneOf, has) {
			all = append(all, strings.Join(oneOf, " or "))
		}
	}
	return all
}

// checkContent holds a finished Secret to what the API server asks of its type and size.
func checkContent(r Result) error {
	if problem := typeProblem(r.Type); problem != "" {
		return fmt.Errorf("type %s: %s", r.Type, problem)
	}
	if len(r.Data) == 0 {
		return errors.New("the Secret would have no keys")
	}
	if keys := missing(r.Type, func(key string) bool { _, ok := r.Data[key]; return ok }); keys != nil {
		return fmt.Errorf("a Secret of type %s has to have the key %s; give an entry that name, or make it by target.template.data", r.Type,
			strings.Join(keys, ", "))
	}
	for _, key := range []string{corev1.DockerConfigKey, corev1.DockerConfigJsonKey} {
		if value, ok := r.Data[key]; ok && required[r.Type] != nil && required[r.Type][0][0] == key && !json.Valid(value) {
			return fmt.Errorf("key %s of a Secret of type %s has to be JSON, and the value is not", key, r.Type)
		}
	}
	size := 0
	for _, value := range r.Data {
		size += len(value)
	}
	if size > MaxSize {
		return fmt.Errorf("the values have %d bytes together; Kubernetes allows %d", size, MaxSize)
	}
	return nil
}
