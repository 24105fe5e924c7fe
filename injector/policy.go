package injector

import (
	"fmt"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Allowed holds what a pod asks for to what the operator allows; the namespace is for the message. The error is a config.Mistakes.
// The role is not looked at: it may come from the ServiceAccount (package rrsa).
func (in *Injector) Allowed(spec config.Spec, namespace string) error {
	var m config.Mistakes
	allow := in.policy.Allow
	refuse := func(annotation, what string, allowed []string) {
		problem := fmt.Sprintf("the operator of this cluster does not allow %s in namespace %s", what, namespace)
		if len(allowed) > 0 {
			problem += "; allowed: " + strings.Join(allowed, ", ")
		} else {
			problem += "; remove it"
		}
		m = append(m, config.Mistake{Where: config.Prefix + annotation, Problem: problem})
	}
	for _, s := range spec.Secrets {
		for _, name := range s.Names() {
			if !allow.Secret(name) {
				refuse("secret."+s.File, fmt.Sprintf("the secret %q", name), allow.Secrets)
			}
		}
		switch {
		case s.RoleARN == "":
		case allow.PodRoles != nil && !*allow.PodRoles:
			refuse("secret."+s.File, "pods to name a role with roleArn", nil)
		case !allow.Role(s.RoleARN):
			refuse("secret."+s.File, fmt.Sprintf("the role %q", s.RoleARN), allow.Roles)
		}
	}
	for _, v := range spec.Env {
		if !allow.Secret(v.Secret) {
			refuse("env."+v.Name, fmt.Sprintf("the secret %q", v.Secret), allow.Secrets)
		}
	}
	if spec.API != nil {
		for _, pattern := range spec.API.Allow {
			if !allow.SecretsOf(pattern) {
				refuse("api-allow", fmt.Sprintf("all that %q matches", pattern), allow.Secrets)
			}
		}
	}
	if !allow.Identity(spec.Identity) {
		refuse("identity", fmt.Sprintf("the identity %q", spec.Identity), append([]string{"rrsa"}, allow.Identities...))
	}
	if spec.Region != "" && spec.Region != in.policy.Region && !allow.Region(spec.Region) {
		refuse("region", fmt.Sprintf("the region %q", spec.Region), allow.Regions)
	}
	if spec.Endpoint != "" && spec.Endpoint != in.policy.KMS.Endpoint && !allow.Endpoint(spec.Endpoint) {
		refuse("endpoint", fmt.Sprintf("the endpoint %q", spec.Endpoint), allow.Endpoints)
	}
	if len(m) == 0 {
		return nil
	}
	return m
}
