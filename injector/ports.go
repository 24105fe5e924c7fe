package injector

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// metricsPortName is the name by which a PodMonitor selects the port.
const metricsPortName = "kms-metrics"

// apiTokenEnv tells a command in the agent's container, and users of Alibaba Cloud's KMS Agent know it by that name.
var apiTokenEnv = corev1.EnvVar{Name: "KMS_TOKEN", Value: "file://" + config.APITokenFile}

func apiMount(readOnly bool) corev1.VolumeMount {
	return corev1.VolumeMount{Name: agentconfig.APIVolume, MountPath: config.APITokenDir, ReadOnly: readOnly}
}

// metricsPort is where the pod's agent serves its metrics. In a pod on the node's network every agent of the node would want the
// same port, and in one with a container that has it already one of the two would fail; such pods have no metrics.
func (in *Injector) metricsPort(r *request) int {
	port := *in.policy.Agent.MetricsPort
	if port == 0 || r.Spec.Mode == podconfig.ModeInit || r.Pod.Spec.HostNetwork || r.listener(port) != "" {
		return 0
	}
	return port
}

// listener returns the container of the pod's own that says it listens on a port: all of them share one network.
func (r *request) listener(port int) string {
	for c := range r.Pod.Spec.each {
		if !ours(c.Name) && c.listens(port) {
			return c.Name
		}
	}
	return ""
}

// apiConflicts reports the reasons why the local API cannot be where the pod wants it.
func (in *Injector) apiConflicts(r *request) config.Mistakes {
	api := r.Spec.API
	if api == nil || api.Port == 0 {
		return nil
	}
	var problem string
	switch {
	case r.Pod.Spec.HostNetwork:
		return config.Mistakes{{Where: podconfig.Prefix + "api", Problem: fmt.Sprintf(
			"the pod is on the node's network (hostNetwork), where every process of the node reaches 127.0.0.1:%d; add %sapi-socket: api.sock",
			api.Port, podconfig.Prefix)}}
	case api.Port == *in.policy.Agent.MetricsPort:
		problem = fmt.Sprintf("%d is the port of the agents' metrics in this cluster", api.Port)
	case r.listener(api.Port) != "":
		problem = fmt.Sprintf("container %s listens on %d too", r.listener(api.Port), api.Port)
	default:
		return nil
	}
	return config.Mistakes{{Where: podconfig.Prefix + "api-port", Problem: problem + "; choose another port"}}
}
