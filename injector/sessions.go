package injector

import (
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

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
