// Package rrsa decides which RAM role a pod assumes with its ServiceAccount's token.
package rrsa

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// The annotations by which a ServiceAccount names its role, in the order in which they count. The first is that of Alibaba
// Cloud's CSI provider and ack-secret-manager, the second that of ack-pod-identity-webhook.
const (
	RoleARNAnnotation  = "ack.alibabacloud.com/role-arn"
	RoleNameAnnotation = "pod-identity.alibabacloud.com/role-name"
)

// ServiceAccount is a ServiceAccount's identity and its annotations.
type ServiceAccount struct {
	Namespace, Name string
	Annotations     map[string]string
}

// Role is the ARN of the role, by what the webhook's configuration says for the pod's namespace: the pod's own annotation's, where
// pods may choose, else its ServiceAccount's. The error is for the pod's author and says what to change.
func Role(spec podconfig.Spec, policy clusterconfig.Config, sa ServiceAccount) (string, error) {
	arn, from, err := name(spec, policy, sa)
	if err != nil {
		return "", err
	}
	if !policy.Allow.Role(arn) {
		if !FromPod(spec) {
			from = sa.annotation(from)
		}
		return "", fmt.Errorf("%s: the administrator of this cluster does not allow the role %s in namespace %s; allowed: %s",
			from, arn, sa.Namespace, cmp.Or(strings.Join(policy.Allow.Roles, ", "), "none"))
	}
	return arn, nil
}

// FromPod reports whether the pod itself, not its ServiceAccount, names its role.
func FromPod(spec podconfig.Spec) bool { return spec.RoleARN != "" || spec.RoleName != "" }

// name is the role's ARN and the annotation that it is from.
func name(spec podconfig.Spec, policy clusterconfig.Config, sa ServiceAccount) (arn, annotation string, err error) {
	ofAccount := func(role string) string { return "acs:ram::" + policy.AccountID + ":role/" + role }
	if FromPod(spec) {
		annotation, arn = podconfig.Prefix+"role-arn", spec.RoleARN
		if arn == "" {
			annotation, arn = podconfig.Prefix+"role-name", ofAccount(spec.RoleName)
		}
		if !*policy.Allow.PodRoles {
			return "", "", fmt.Errorf("%s: the administrator of this cluster does not let pods name their role; remove the annotation and give the "+
				"role to the ServiceAccount:\n  %s",
				annotation, sa.annotate(arn))
		}
		return arn, annotation, nil
	}
	if arn := sa.Annotations[RoleARNAnnotation]; arn != "" {
		if !config.IsRoleARN(arn) {
			return "", "", fmt.Errorf("%s: %q is not the ARN of a RAM role; write acs:ram::<account>:role/<name>", sa.annotation(RoleARNAnnotation),
				arn)
		}
		return arn, RoleARNAnnotation, nil
	}
	if role := sa.Annotations[RoleNameAnnotation]; role != "" {
		if !config.IsRoleName(role) {
			return "", "", fmt.Errorf("%s: %q is not the name of a RAM role; an ARN goes into %s", sa.annotation(RoleNameAnnotation), role,
				RoleARNAnnotation)
		}
		return ofAccount(role), RoleNameAnnotation, nil
	}
	return "", "", fmt.Errorf("no RAM role is set for ServiceAccount %s/%s, with which the pod runs; name one that trusts this cluster's "+
		"OIDC provider:\n  %s",
		sa.Namespace, sa.Name, sa.annotate(ofAccount("<role>")))
}

// annotation says where an annotation is.
func (sa ServiceAccount) annotation(key string) string {
	return "ServiceAccount " + sa.Namespace + "/" + sa.Name + ", annotation " + key
}

// annotate is the command that gives a role to the ServiceAccount.
func (sa ServiceAccount) annotate(arn string) string {
	return fmt.Sprintf("kubectl annotate serviceaccount --namespace %s %s --overwrite %s=%s", sa.Namespace, sa.Name, RoleARNAnnotation, arn)
}
