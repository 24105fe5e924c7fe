package injector

import (
	"fmt"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// allowed returns what a pod asks for and the webhook's configuration does not allow; the namespace is for the message. The role is
// not looked at: it may come from the ServiceAccount (package rrsa).
func (in *Injector) allowed(spec *podconfig.Spec, namespace string) (m config.Mistakes) {
	allow := in.policy.Allow
	refuse := func(annotation string, allowed []string, format string, args ...any) {
		cure := "; remove it"
		if len(allowed) > 0 {
			cure = "; allowed: " + strings.Join(allowed, ", ")
		}
		m.Add(podconfig.Prefix+annotation, "the administrator of this cluster does not allow %s in namespace %s%s", fmt.Sprintf(format, args...),
			namespace, cure)
	}
	secret := func(annotation, name string) {
		switch {
		case allow.Secret(name):
		case len(allow.Secrets) > 0 && strings.HasPrefix(name, "acs:"):
			refuse(annotation, allow.Secrets, "the secret %q, an ARN, for which a pattern must begin with acs:,", name)
		default:
			refuse(annotation, allow.Secrets, "the secret %q", name)
		}
	}
	for _, s := range spec.Secrets {
		for _, name := range s.Names() {
			secret("secret."+s.File, name)
		}
		switch {
		case s.RoleARN == "":
		case allow.PodRoles != nil && !*allow.PodRoles:
			refuse("secret."+s.File, nil, "pods to name a role with roleArn")
		case !allow.Role(s.RoleARN):
			refuse("secret."+s.File, allow.Roles, "the role %q", s.RoleARN)
		}
	}
	for _, v := range spec.Env {
		secret(v.Annotation, v.Secret)
	}
	m = append(m, in.outOfBounds(spec, namespace)...)
	if spec.API != nil {
		for _, pattern := range spec.API.Allow {
			if !allow.SecretsOf(pattern) {
				refuse("api-allow", allow.Secrets, "all that %q matches", pattern)
			}
		}
	}
	if !allow.Identity(spec.Identity) {
		refuse("identity", append([]string{"rrsa"}, allow.Identities...), "the identity %q", spec.Identity)
	}
	if spec.Region != "" && spec.Region != in.policy.Region && !allow.Region(spec.Region) {
		refuse("region", allow.Regions, "the region %q", spec.Region)
	}
	if spec.Endpoint != "" && spec.Endpoint != in.policy.KMS.Endpoint && !allow.Endpoint(spec.Endpoint) {
		refuse("endpoint", allow.Endpoints, "the endpoint %q", spec.Endpoint)
	}
	return m
}

// outOfBounds holds a pod to the administrator's floor of refresh-interval and ceiling of secrets.
func (in *Injector) outOfBounds(spec *podconfig.Spec, namespace string) (m config.Mistakes) {
	floor := time.Duration(*in.policy.Agent.MinRefreshInterval)
	if spec.RefreshInterval != 0 && in.refreshInterval(spec) < floor {
		m.Add(podconfig.Prefix+"refresh-interval", "%s is shorter than the administrator of this cluster allows in namespace %s, %s "+
			"(agent.minRefreshInterval); write %s or more, or 0 for never", spec.RefreshInterval, namespace, floor, floor)
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
		m.Add(podconfig.Prefix+"*", "the pod asks for %d secrets; the administrator of this cluster allows %d in namespace %s "+
			"(agent.maxSecrets); put values that belong together into one secret, or ask for a higher limit", len(asked), most, namespace)
	}
	return m
}

// refreshInterval returns a pod's own, or the default, which the administrator's floor raises.
func (in *Injector) refreshInterval(spec *podconfig.Spec) time.Duration {
	if spec.RefreshInterval == config.DefaultRefreshInterval {
		return max(spec.RefreshInterval, time.Duration(*in.policy.Agent.MinRefreshInterval))
	}
	return spec.RefreshInterval
}

// narrow has the agent narrow its STS sessions if the administrator wants that. Sessions that cannot be narrowed are a mistake where
// they must be, and else a warning: the agent itself never takes a wider session than it was told to.
func (in *Injector) narrow(document *agentconfig.Config) (config.Mistakes, []string) {
	want := in.policy.Agent.NarrowSessions
	if !want.Wanted() {
		return nil, nil
	}
	_, err := document.SessionPolicies()
	switch kind := document.Identity.Kind; {
	case kind == config.NodeRole || kind == config.ClientKey:
		err = fmt.Errorf("the identity %s has no STS session of the pod's own", kind)
	case kind == config.AccessKey && !want.Required(): // the agent, which knows, would refuse to start without a role
		err = fmt.Errorf("whether the identity %s has an STS session is known only in the pod", kind)
	}
	if document.SessionPolicy = err == nil; err == nil {
		return nil, nil
	}
	if want.Required() {
		return config.Mistakes{{Where: podconfig.Prefix + "*",
			Problem: fmt.Sprintf("the administrator of this cluster requires that STS sessions are narrowed "+
				"to the pod's secrets (agent.narrowSessions), and %s; use the identity rrsa, declare fewer secrets or ones with shorter names, "+
				"put values that belong together into one secret, or ask the administrator for narrowSessions: preferred", err)}}, nil
	}
	return nil, []string{fmt.Sprintf("the pod's STS sessions are as wide as its roles: %s", err)}
}
