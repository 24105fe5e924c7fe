// Package rrsa decides which RAM role a pod assumes with its ServiceAccount's token.
package rrsa

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
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
	Use             string // what it is for, a clause of a sentence; empty: "with which the pod runs"
}

// A Policy is what the administrator allows in the pod's namespace.
type Policy struct {
	AccountID string   // of the Alibaba Cloud account that the cluster belongs to
	PodRoles  bool     // may a pod's own annotation name its role?
	Roles     []string // patterns of the ARNs that are allowed
}

// Named is a role that the pod itself names, and the annotation by which it does. The zero value is none.
type Named struct{ ARN, Annotation string }

// Role is the ARN of the role: the one that the pod names, where pods may choose, else its ServiceAccount's. The error is for the pod's
// author and says what to change.
func Role(pod Named, policy Policy, sa ServiceAccount) (string, error) {
	arn, from, err := name(pod, policy, sa)
	if err != nil {
		return "", err
	}
	if !config.AnyMatches(policy.Roles, arn) {
		return "", fmt.Errorf("%s: the administrator of this cluster does not allow the role %s in namespace %s; allowed: %s",
			from, arn, sa.Namespace, cmp.Or(strings.Join(policy.Roles, ", "), "none"))
	}
	return arn, nil
}

// name returns the role's ARN and where it is named.
func name(pod Named, policy Policy, sa ServiceAccount) (arn, from string, err error) {
	ofAccount := func(role string) string { return "acs:ram::" + policy.AccountID + ":role/" + role }
	switch {
	case pod.ARN != "" && !policy.PodRoles:
		return "", "", fmt.Errorf("%s: the administrator of this cluster does not let pods name their role; remove the annotation and give the "+
			"role to the ServiceAccount: %s", pod.Annotation, sa.annotate(pod.ARN))
	case pod.ARN != "":
		return pod.ARN, pod.Annotation, nil
	}
	if arn := sa.Annotations[RoleARNAnnotation]; arn != "" {
		if !config.IsRoleARN(arn) {
			return "", "", fmt.Errorf("%s: %q is not the ARN of a RAM role; write acs:ram::<account>:role/<name>", sa.annotation(RoleARNAnnotation),
				arn)
		}
		return arn, sa.annotation(RoleARNAnnotation), nil
	}
	if role := sa.Annotations[RoleNameAnnotation]; role != "" {
		if !config.IsRoleName(role) {
			return "", "", fmt.Errorf("%s: %q is not the name of a RAM role; an ARN goes into %s", sa.annotation(RoleNameAnnotation), role,
				RoleARNAnnotation)
		}
		return ofAccount(role), sa.annotation(RoleNameAnnotation), nil
	}
	return "", "", fmt.Errorf("no RAM role is set for ServiceAccount %s/%s, %s%s; name one that trusts this cluster's "+
		"OIDC provider: %s", sa.Namespace, sa.Name, cmp.Or(sa.Use, "with which the pod runs"), sa.mistyped(), sa.annotate(ofAccount("<role>")))
}

// mistyped says which of the annotations was meant to be one of ours, "" for none.
func (sa ServiceAccount) mistyped() string {
	names := []string{RoleARNAnnotation, RoleNameAnnotation}
	for _, key := range slices.Sorted(maps.Keys(sa.Annotations)) {
		if near := config.Nearest(key, names); near != "" && !slices.Contains(names, key) {
			return fmt.Sprintf(", and its annotation %s names none: did you mean %s?", key, near)
		}
	}
	return ""
}

// annotation says where an annotation is.
func (sa ServiceAccount) annotation(key string) string {
	return "ServiceAccount " + sa.Namespace + "/" + sa.Name + ", annotation " + key
}

// annotate returns the command that gives a role to the ServiceAccount.
func (sa ServiceAccount) annotate(arn string) string {
	return fmt.Sprintf("kubectl annotate serviceaccount --namespace %s %s --overwrite %s=%s", sa.Namespace, sa.Name, RoleARNAnnotation, arn)
}
