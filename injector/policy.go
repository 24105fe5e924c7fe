package injector

import (
	"fmt"
	"strings"
	"time"

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
	m = append(m, in.outOfBounds(spec, namespace)...)
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

// outOfBounds holds a pod to the administrator's floor of refresh-interval and ceiling of secrets.
func (in *Injector) outOfBounds(spec config.Spec, namespace string) (m config.Mistakes) {
	floor := time.Duration(*in.policy.Agent.MinRefreshInterval)
	if spec.RefreshInterval != 0 && in.refreshInterval(&spec) < floor {
		m = append(m, config.Mistake{Where: config.Prefix + "refresh-interval", Problem: fmt.Sprintf(
			"%s is shorter than the administrator of this cluster allows in namespace %s, %s (agent.minRefreshInterval); write %s or more, or 0 for never",
			spec.RefreshInterval, namespace, floor, floor)})
	}
	most := *in.policy.Agent.MaxSecrets
	if most == 0 {
		return m
	}
	type version struct{ name, id, stage, role string }
	asked := map[version]struct{}{}
	for _, s := range spec.Secrets {
		for _, name := range s.Names() {
			asked[version{name, s.VersionID, s.VersionStage, s.RoleARN}] = struct{}{}
		}
	}
	for _, v := range spec.Env {
		asked[version{name: v.Secret}] = struct{}{}
	}
	if len(asked) > most {
		m = append(m, config.Mistake{Where: config.Prefix + "*", Problem: fmt.Sprintf(
			"the pod asks for %d secrets; the administrator of this cluster allows %d in namespace %s (agent.maxSecrets); put values that belong together into one secret, or ask for a higher limit",
			len(asked), most, namespace)})
	}
	return m
}

// refreshInterval is a pod's own, or the default, which the administrator's floor raises.
func (in *Injector) refreshInterval(spec *config.Spec) time.Duration {
	if spec.RefreshInterval == config.DefaultRefreshInterval {
		return max(spec.RefreshInterval, time.Duration(*in.policy.Agent.MinRefreshInterval))
	}
	return spec.RefreshInterval
}
