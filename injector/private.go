package injector

import (
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// private reports mounts of volumes that only the agent's containers may have. The one with the ServiceAccount's token is the pod's
// own where the pod brings it, as ack-pod-identity-webhook has it do, and where the agent is there already, another webhook may have
// mounted it since.
func private(r *request) config.Mistakes {
	var m config.Mistakes
	refuse := func(c *Container, volume, what string) {
		m = append(m, config.Mistake{Where: "container " + c.Name, Problem: "mounts the volume " + volume + ", " + what})
	}
	_, brought := r.Pod.Spec.volume(agentconfig.TokenVolume)
	for c := range r.Pod.Spec.each {
		if ours(c.Name) {
			continue
		}
		if c.mounts(agentconfig.StateVolume) {
			refuse(c, agentconfig.StateVolume, "in which the agent keeps all values of the pod for itself, also those that this container is not "+
				"to have; remove the mount: the files are in "+agentconfig.SecretsVolume)
		}
		if c.mounts(agentconfig.ClientKeyVolume) && r.Spec.Identity.Kind == config.ClientKey {
			refuse(c, agentconfig.ClientKeyVolume, "which has the client key of the agent; remove the mount, or mount the Secret by a volume of "+
				"another name")
		}
		if c.mounts(agentconfig.TokenVolume) && r.Spec.Identity.Kind == config.RRSA && !r.Spec.AppIdentity && !brought && !injected(&r.Pod.Spec) {
			refuse(c, agentconfig.TokenVolume, "which the webhook makes for the agent alone: its token is good for the role of the pod; to have "+
				"the application use the role too, add "+podconfig.Prefix+"app-identity: \"true\"")
		}
	}
	return m
}
