package injector

import (
	"path"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// warnChanged is for annotations that changed after the injection where the pod stays as it was.
func (r *request) warnChanged() []string {
	changed := distinct(slices.Concat(r.otherMode(), r.otherPlaces()))
	if len(changed) == 0 {
		return nil
	}
	return []string{podconfig.Prefix + strings.Join(changed, ", "+podconfig.Prefix) +
		": changed after the agent was injected, without any effect" + cureLate}
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// otherFileSets are secrets for containers that have other files already: the views are numbered, so that the agent may have been told
// the same.
func (r *request) otherFileSets() (annotations []string) {
	other := make([]bool, len(r.Spec.Secrets))
	for c := range r.Pod.Spec.each {
		own := r.secretsVolume(c.Name)
		if !selected(&r.Spec, c.Name) || !slices.ContainsFunc(c.VolumeMounts, func(m Mount) bool {
			return strings.HasPrefix(m.Name, agentconfig.SecretsVolume) && m.Name != own && m.path() == r.Spec.MountPath
		}) {
			continue
		}
		for i, s := range r.Spec.Secrets {
			if len(s.Containers) > 0 && !other[i] && (own == agentconfig.SecretsVolume || s.Shows(c.Name)) {
				other[i] = true
				annotations = append(annotations, "secret."+s.File)
			}
		}
	}
	return annotations
}

func (r *request) otherMode() []string {
	if r.Spec.Mode == podconfig.ModeInit && r.Pod.Spec.has(agentconfig.ContainerName) {
		return []string{"mode"}
	}
	return nil // what is missing comes
}

// otherPlaces looks at mounts as they are written here.
func (r *request) otherPlaces() (annotations []string) {
	for c := range r.Pod.Spec.each {
		own := r.secretsVolume(c.Name)
		i := slices.IndexFunc(c.VolumeMounts, func(m Mount) bool { return m.Name == own && m.ReadOnly && !m.part() })
		switch {
		case i < 0 || ours(c.Name):
		case selected(&r.Spec, c.Name) && c.VolumeMounts[i].path() != r.Spec.MountPath:
			annotations = append(annotations, "mount-path")
		case selected(&r.Spec, c.Name):
		case len(r.Spec.Containers) > 0:
			annotations = append(annotations, "containers")
		default:
			annotations = append(annotations, "skip-containers")
		}
	}
	return annotations
}

// unasked warns of the agent in a pod that was injected and does not ask for it any more.
func unasked(pod Pod) []string {
	if _, marked := pod.Metadata.Annotations[podconfig.InjectedAnnotation]; !marked || !injected(&pod.Spec) {
		return nil
	}
	return []string{podconfig.Prefix + "inject: does not ask for the agent any more, which is in this pod already and stays; to be " +
		"without it, remove the containers " + agentconfig.InitContainerName + " and " + agentconfig.ContainerName + " from the " +
		"manifest, or have the webhook that changes the annotation called before this one, by the name of its configuration"}
}

// free are the members of a container that may have any value.
var free = map[string]bool{
	"resources": true, "resizePolicy": true, "imagePullPolicy": true,
	"securityContext.runAsUser": true, "securityContext.runAsGroup": true, "securityContext.seLinuxOptions": true,
	"securityContext.appArmorProfile":     true,
	"securityContext.capabilities.drop[]": true,
	"ports[].protocol":                    true, "env[].valueFrom.fieldRef.apiVersion": true,
}

// mayAdd reports whether something that the webhook does not write may be in a container of the agent's. Variables and mounts may,
// unless they change what program runs, or which certificates it trusts.
func mayAdd(rule, name, value string, mounts []any) bool {
	switch rule {
	case "securityContext.procMount":
		return value == "Default"
	case "env[]":
		return !misleads(name)
	case "volumeMounts[]": // the kubelet takes a relative path as one from the root
		return !hides(path.Clean("/"+name), mounts)
	case "terminationMessagePath": // the kubelet mounts a file there
		return !hides(path.Clean("/"+value), mounts)
	}
	return free[rule]
}

// misleads reports whether a variable changes the code that the agent loads, the certificates it trusts, its output, or its identity.
func misleads(variable string) bool {
	return strings.HasPrefix(variable, "LD_") || strings.HasPrefix(variable, "SSL_CERT_") || strings.HasPrefix(variable, "KMS_AGENT_") ||
		slices.Contains([]string{"GODEBUG", "GOTRACEBACK", "GOCOVERDIR", config.NodeRoleEnv}, variable)
}

// proxies reports whether a variable sends connections through another host. Administrators give all containers of a cluster such
// variables on purpose, and KMS and STS are recognized by their certificates through any proxy.
func proxies(variable string) bool { return strings.HasSuffix(strings.ToUpper(variable), "_PROXY") }

// hides reports whether a mount takes the place of the agent's program, of the certificates that it trusts, of what the kernel says, or
// of something in its own mounts, or is around one of these, where a link could lead it elsewhere.
func hides(at string, mounts []any) bool {
	overlaps := func(mount any) bool {
		own := scalar(mount.(map[string]any)["mountPath"])
		return below(at, own) || below(own, at)
	}
	return below(agentBinary, at) || at == "/etc" || below(at, "/etc/ssl") || below(at, "/etc/pki") || below(at, "/proc") ||
		slices.ContainsFunc(mounts, overlaps)
}
