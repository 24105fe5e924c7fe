package injector

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// Limits on a pod's containers and volumes: more than any node can run, and few enough that such a pod does not delay others.
// Each container may get some two kilobytes of patch.
const (
	mostContainers = 150
	mostVolumes    = kubejson.MaxList - 1
)

func tooMany(pod *PodSpec) (m config.Mistakes) {
	for _, list := range []struct {
		what    string
		n, most int
	}{{"containers", len(pod.InitContainers) + len(pod.Containers), mostContainers}, {"volumes", len(pod.Volumes), mostVolumes}} {
		if list.n > list.most {
			m.Add(podconfig.Prefix+"inject", "the pod has %d %s; at most %d are possible", list.n, list.what, list.most)
		}
	}
	return m
}

// invalid reports why a pod cannot be injected at all.
func (in *Injector) invalid(r *request) config.Mistakes {
	var m config.Mistakes
	pod := &r.Pod.Spec
	if pod.windows() {
		m.Add(podconfig.Prefix+"inject", "the pod is for Windows nodes, on which there is no agent, so that it would start without its "+
			"secrets; set it to \"false\", or run the pod on Linux nodes")
	}
	if r.Spec.Mode == podconfig.ModeSingle && !in.native(r) {
		m.Add(podconfig.Prefix+"mode", "single needs native sidecars, which this cluster does not have, or its administrator has "+
			"switched off; use sidecar or init")
	}
	for c := range pod.each {
		if ours(c.Name) && !c.hasEnv(agentconfig.Env) {
			m.Add("container "+c.Name, "has a name that the injector needs for its own container; give it another name")
		}
	}
	if host := in.kmsHost(&r.Spec); r.Spec.Identity.Kind == config.ClientKey && !config.InstanceGateway(host) {
		m.Add(podconfig.Prefix+"identity", "a client key is good for the gateway of its KMS instance only, which %s is not; add "+
			"%sendpoint: <instance id>.cryptoservice.kms.aliyuncs.com", host, podconfig.Prefix)
	}
	return slices.Concat(m, in.apiConflicts(r), notifyConflicts(r), in.namesInUse(r))
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

// namesInUse reports the names of our volumes that the pod uses for other volumes.
func (in *Injector) namesInUse(r *request) config.Mistakes {
	var m config.Mistakes
	pod := &r.Pod.Spec
	inMemory := []string{agentconfig.SecretsVolume, agentconfig.StateVolume}
	for _, v := range r.fileSets {
		inMemory = append(inMemory, v.volume)
	}
	if r.Spec.API != nil {
		inMemory = append(inMemory, agentconfig.APIVolume)
	}
	check := func(name string, right func(Volume) bool, problem string) {
		if v, exists := pod.volume(name); exists && !right(v) {
			m.Add("volume "+name, "%s", problem)
		}
	}
	for _, name := range inMemory {
		check(name, func(v Volume) bool { return v.EmptyDir != nil && v.EmptyDir.Medium == "Memory" },
			"would hold secrets but is not in memory; give it another name, or make it emptyDir: {medium: Memory}")
	}
	if authorities := in.authorities(); len(authorities) > 0 {
		check(agentconfig.CAVolume, func(v Volume) bool { return v.has(authorities) }, "has the name of the volume with the certificate "+
			"authorities of KMS and STS but does not hold them; give it another name, or leave it to the webhook")
	}
	if len(r.Spec.Env) > 0 {
		check(agentconfig.ProgramVolume, func(v Volume) bool { return in.hasProgram(pod, v) },
			"has the name of the volume with the agent's program but does not hold it; give it another name")
	}
	switch identity := r.Spec.Identity; identity.Kind {
	case config.ClientKey:
		check(agentconfig.ClientKeyVolume, func(v Volume) bool { return v.Secret != nil && v.Secret.SecretName == identity.Secret },
			"has the name of the client key's volume but is not the Secret "+identity.Secret+"; give it another name")
	case config.RRSA:
		check(agentconfig.TokenVolume, func(v Volume) bool { return v.projects(tokenAudience, tokenFile) },
			"has the name of the RRSA token's volume but not that token; give it another name, or project serviceAccountToken: {audience: "+
				tokenAudience+", path: "+tokenFile+"}")
	}
	return m
}

// claimed reports our volumes that a StatefulSet would silently replace by a claim, on disk.
func (in *Injector) claimed(r *request, a *permissions) config.Mistakes {
	if len(r.Claims) == 0 {
		return nil
	}
	var m config.Mistakes
	for _, v := range in.volumes(r, a) {
		if slices.Contains(r.Claims, v.Name) {
			m.Add("volumeClaimTemplates "+v.Name, "has the name of a volume that the webhook adds, and the StatefulSet would put its claim "+
				"there instead; give the claim another name")
		}
	}
	return m
}

// warnSidecar says where a sidecar is not what the author may expect.
func (in *Injector) warnSidecar(r *request) []string {
	var warnings []string
	if r.Spec.Mode != podconfig.ModeInit && !in.native(r) && r.completes() {
		warnings = append(warnings, fmt.Sprintf("this cluster runs the sidecar %s as a plain container, which never ends, so that the pod will "+
			"not complete; remove %sapi", agentconfig.ContainerName, podconfig.Prefix))
	}
	if r.Spec.API != nil && !in.native(r) {
		warnings = append(warnings, fmt.Sprintf("this cluster runs the sidecar %s as a plain container, so that its API may come after the "+
			"application's start; wait for %s", agentconfig.ContainerName, config.APITokenFile))
	}
	if r.Spec.Mode == podconfig.ModeSidecar && r.Spec.RefreshInterval == 0 && r.Spec.API == nil {
		warnings = append(warnings, fmt.Sprintf("%srefresh-interval is 0, so that the sidecar %s never does anything; set %smode: init to be "+
			"without it", podconfig.Prefix, agentconfig.ContainerName, podconfig.Prefix))
	}
	return warnings
}

// The annotation by which a pod asks ack-kms-agent-webhook-injector, Alibaba Cloud's own webhook, for the KMS Agent:
// https://www.alibabacloud.com/help/en/kms/key-management-service/developer-reference/ack-rapid-integration-through-components
const officialAnnotation = "kms-agent-webhook-injector/inject"

// warnOfficial is for a pod that asks both webhooks for an agent. It is no mistake: the other webhook may not be installed.
func warnOfficial(r *request) []string {
	if value, asked := r.Pod.Metadata.Annotations[officialAnnotation]; !asked || value == "false" {
		return nil
	}
	problem := "asks ack-kms-agent-webhook-injector for the KMS Agent, a second agent in this pod"
	if api := r.Spec.API; api != nil && api.Port == config.DefaultAPIPort {
		problem += fmt.Sprintf("; both listen on 127.0.0.1:%d, and one of them fails", api.Port)
	}
	return []string{officialAnnotation + ": " + problem + "; remove this annotation or " + podconfig.Prefix + "inject"}
}

// warnRole is for an application with a role of its own beside the token and the OIDC provider that app-identity gives it.
func warnRole(r *request, readers []*Container) []string {
	if !r.Spec.AppIdentity {
		return nil
	}
	var others []string
	for _, c := range readers {
		for _, e := range c.Env {
			if e.Name == config.AccessKeyRoleEnv && e.Value != "" && e.Value != r.RoleARN {
				others = append(others, fmt.Sprintf("%s in %s", e.Value, c.Name))
			}
		}
	}
	if len(others) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s is stated by the containers and stays, %s, but is not the role of the agent, %s; what they get besides "+
		"by %sapp-identity is good for it only if the role's trust policy names the pod's ServiceAccount",
		config.AccessKeyRoleEnv, some(others), r.RoleARN, podconfig.Prefix)}
}

// warnProfile is for a profile that was written for the application and that the agent's containers have too.
func warnProfile(pod *PodSpec) []string {
	if profile := pod.SecurityContext.AppArmor; profile.Type == "Localhost" {
		return []string{fmt.Sprintf("the AppArmor profile %s is stated for the pod, so that the agent has it too and may be kept from the "+
			"network or from writing files; state it in the securityContext of the application's containers", profile.Profile)}
	}
	return nil
}

// warnLate is for containers that another webhook added after the injection, when the agent's user was chosen without them.
func warnLate(r *request, readers []*Container, a *permissions) []string {
	for agent := range r.Pod.Spec.each {
		uid := agent.SecurityContext.RunAsUser
		if !ours(agent.Name) || uid == nil || *uid == agentID || *uid == a.uid {
			continue
		}
		for _, c := range readers {
			if !c.mounts(r.secretsVolume(c.Name)) {
				return []string{fmt.Sprintf("container %s was added after the injection and does not run as user %d, whose files these are; list the "+
					"containers that need them in %scontainers", c.Name, *uid, podconfig.Prefix)}
			}
		}
	}
	return nil
}

// private reports mounts of volumes that only the agent's containers may have. The one with the ServiceAccount's token is the pod's
// own where the pod brings it, as ack-pod-identity-webhook has it do, and where the agent is there already, another webhook may have
// mounted it since.
func private(r *request) config.Mistakes {
	var m config.Mistakes
	refuse := func(c *Container, volume, what string) {
		m.Add("container "+c.Name, "%s", "mounts the volume "+volume+", "+what)
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

// notifiers returns the annotations by which the agent notifies, by signal or else by HTTP.
func notifiers(spec *podconfig.Spec, bySignal bool) []string {
	var found []string
	is := func(onChange string) bool {
		return onChange != "" && strings.HasPrefix(onChange, "signal:") == bySignal
	}
	if is(spec.OnChange) {
		found = append(found, podconfig.Prefix+"on-change")
	}
	for _, s := range spec.Secrets {
		if is(s.OnChange) {
			found = append(found, podconfig.Prefix+"secret."+s.File)
		}
	}
	return found
}

// notifyConflicts reports notifications that would not reach the pod's own processes, or others too.
func notifyConflicts(r *request) config.Mistakes {
	var m config.Mistakes
	refuse := func(annotations []string, problem string) {
		for _, annotation := range annotations {
			m.Add(annotation, "%s", problem)
		}
	}
	pod := &r.Pod.Spec
	if pod.HostNetwork {
		refuse(notifiers(&r.Spec, false), "the pod is on the node's network (hostNetwork), where 127.0.0.1 is the node's and the port may be "+
			"another pod's or the kubelet's; notify by signal:<SIG>:<process> with shareProcessNamespace: true, or have the "+
			"application look at its files")
	}
	if pod.SharePIDs {
		return m
	}
	byHTTP := ", or notify by http://127.0.0.1:<port>/<path>"
	if pod.HostNetwork {
		byHTTP = ""
	}
	if pod.HostPIDs {
		refuse(notifiers(&r.Spec, true), "the pod has all processes of the node (hostPID), among which a signal could reach another pod's of "+
			"the same name; set shareProcessNamespace: true in place of hostPID"+byHTTP)
	} else {
		refuse(notifiers(&r.Spec, true), "a signal reaches another container's process only with shareProcessNamespace: true in the pod's "+
			"spec; set it"+byHTTP)
	}
	return m
}

// warnSignals is for signals that the kernel may not let through.
func (a *permissions) warnSignals(spec *podconfig.Spec) []string {
	if a.sameUser || len(notifiers(spec, true)) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("the agent runs as user %d and can signal the processes of that user only; state the same "+
		"securityContext.runAsUser, not 0, for the containers", a.uid)}
}
