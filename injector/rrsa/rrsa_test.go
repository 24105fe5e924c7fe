package rrsa_test

import (
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

func TestRole(t *testing.T) {
	const own, other = "acs:ram::1234567890123456:role/", "acs:ram::42:role/"
	policy, err := clusterconfig.Read([]byte(`
accountID: "1234567890123456"
clusterID: c0ffee
region: cn-hangzhou
agent: {image: agent}
namespaces:
- {names: [strict], allow: {podRoles: false}}
- {names: [no-roles], allow: {roles: []}}
- {names: [partner-*], allow: {roles: ["acs:ram::42:role/shop-*"]}}
`))
	if err != nil {
		t.Fatal(err)
	}
	both := map[string]string{rrsa.RoleARNAnnotation: own + "by-arn", rrsa.RoleNameAnnotation: "by-name"}
	for _, c := range []struct {
		name      string
		namespace string
		spec      podconfig.Spec
		account   map[string]string
		want      string
		errors    []string // what the message must say
	}{
		{"the pod's ARN first", "shop", podconfig.Spec{RoleARN: own + "pod"}, both, own + "pod", nil},
		{"the pod's name first", "shop", podconfig.Spec{RoleName: "pod"}, both, own + "pod", nil},
		{"then the ServiceAccount's ARN", "shop", podconfig.Spec{}, both, own + "by-arn", nil},
		{"then its name", "shop", podconfig.Spec{}, map[string]string{rrsa.RoleNameAnnotation: "by-name"}, own + "by-name", nil},
		{"none", "shop", podconfig.Spec{}, map[string]string{"x": "y"}, "", []string{
			"ServiceAccount shop/web", "kubectl annotate serviceaccount --namespace shop web --overwrite " +
				"ack.alibabacloud.com/role-arn=acs:ram::1234567890123456:role/<role>"}},
		{"a typing error", "shop", podconfig.Spec{}, map[string]string{"ack.alibabacloud.com/rolearn": own + "x"}, "", []string{
			"its annotation ack.alibabacloud.com/rolearn names none: did you mean ack.alibabacloud.com/role-arn?"}},
		{"pods may not choose", "strict", podconfig.Spec{RoleName: "pod"}, both, "", []string{
			"kms.alibabacloud.com/role-name", "kubectl annotate serviceaccount --namespace strict web --overwrite ack.alibabacloud.com/role-arn=" +
				own + "pod"}},
		{"but their ServiceAccounts", "strict", podconfig.Spec{}, both, own + "by-arn", nil},
		{"another account", "shop", podconfig.Spec{RoleARN: other + "shop-a"}, nil, "",
			[]string{"kms.alibabacloud.com/role-arn", other + "shop-a", "allowed: " + own + "*"}},
		{"another account, allowed", "partner-1", podconfig.Spec{RoleARN: other + "shop-a"}, nil, other + "shop-a", nil},
		{"another account, other role", "partner-1", podconfig.Spec{}, map[string]string{rrsa.RoleARNAnnotation: other + "admin"}, "", []string{
			"ServiceAccount partner-1/web, annotation ack.alibabacloud.com/role-arn", "allowed: acs:ram::42:role/shop-*"}},
		{"no role at all", "no-roles", podconfig.Spec{}, both, "", []string{own + "by-arn", "allowed: none"}},
		{"no ARN", "shop", podconfig.Spec{}, map[string]string{rrsa.RoleARNAnnotation: "arn:aws:iam::1:role/x"}, "",
			[]string{`"arn:aws:iam::1:role/x"`, "acs:ram::<account>:role/<name>"}},
		{"an ARN for a name", "shop", podconfig.Spec{}, map[string]string{rrsa.RoleNameAnnotation: own + "x"}, "",
			[]string{rrsa.RoleNameAnnotation, rrsa.RoleARNAnnotation}},
	} {
		t.Run(c.name, func(t *testing.T) {
			there := policy
			for _, ns := range policy.Namespaces {
				if ns.HasName(c.namespace) {
					there = policy.In(ns)
					break
				}
			}
			arn, annotation := c.spec.Role(there.AccountID)
			got, err := rrsa.Role(rrsa.Named{ARN: arn, Annotation: annotation},
				rrsa.Policy{AccountID: there.AccountID, PodRoles: *there.Allow.PodRoles, Roles: there.Allow.Roles},
				rrsa.ServiceAccount{Namespace: c.namespace, Name: "web", Annotations: c.account})
			if got != c.want || (err != nil) != (c.errors != nil) {
				t.Fatalf("got %q, %v", got, err)
			}
			for _, part := range c.errors {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the message lacks %q:\n%s", part, err)
				}
			}
		})
	}
}
