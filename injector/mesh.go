package injector

import (
	"cmp"
	"fmt"
	"slices"
)

// A mesh redirects a pod's traffic to a proxy in the pod: from the start on, if its CNI plugin does it, else from one of its init
// containers on. What runs between that and the proxy's start has no network.
type mesh struct {
	proxy    string // container
	redirect string // init container that redirects the traffic
	validate string // init container by which the CNI plugin's work is known
	native   string // annotation that makes the proxy a native sidecar
	exclude  string // annotation with the ports that are not redirected
	others   []string
}

// The containers and annotations of
// https://istio.io/latest/docs/setup/additional-setup/cni/ and https://linkerd.io/2/reference/proxy-configuration/
var meshes = []mesh{
	{
		proxy: "istio-proxy", redirect: "istio-init", validate: "istio-validation",
		native: "sidecar.istio.io/nativeSidecar", exclude: "traffic.sidecar.istio.io/excludeOutboundPorts",
		others: []string{"traffic.sidecar.istio.io/excludeOutboundIPRanges", "traffic.sidecar.istio.io/includeOutboundIPRanges", "traffic.sidecar.istio.io/includeOutboundPorts"},
	},
	{
		proxy: "linkerd-proxy", redirect: "linkerd-init", validate: "linkerd-network-validator",
		native: "config.beta.linkerd.io/proxy-enable-native-sidecar", exclude: "config.linkerd.io/skip-outbound-ports",
		others: []string{"config.linkerd.io/skip-subnets"},
	},
}

// ofMesh reports whether a container is a mesh's own init container.
func ofMesh(name string) bool {
	return slices.ContainsFunc(meshes, func(m mesh) bool { return name == m.redirect || name == m.validate })
}

// warnMesh is for a pod whose agent fetches while there is no network: it would wait in vain, and the pod would not start. A pod that
// keeps anything out of the mesh is taken to have thought of that.
func warnMesh(r *Request, a *access) []string {
	inits := r.Pod.Spec.InitContainers
	agent := slices.IndexFunc(inits, func(c Container) bool { return ours(c.Name) })
	switch {
	case !fetches(&r.Spec) || agent < 0 && injected(&r.Pod.Spec):
		return nil
	case agent < 0 && r.Spec.InitLast:
		agent = len(inits)
	}
	for _, m := range meshes {
		redirect, proxy := index(inits, m.redirect), index(inits, m.proxy)
		plain := index(r.Pod.Spec.Containers, m.proxy)
		switch redirected := index(inits, m.validate) >= 0 || redirect >= 0 && redirect < max(agent, 0); {
		case !redirected || proxy < 0 && plain < 0 || m.excludes(r.Pod.Metadata.Annotations):
		case proxy >= 0 && proxy < agent: // it is there already
		case proxy >= 0:
			return []string{fmt.Sprintf("the mesh redirects the traffic of this pod to %s, which starts after the agent, so that the agent reaches nothing and the pod does not start; set %s: last",
				m.proxy, positionAnnotation)}
		case a.uid == *cmp.Or(r.Pod.Spec.Containers[plain].SecurityContext.RunAsUser, r.Pod.Spec.SecurityContext.RunAsUser, new(int64(-1))): // as which nothing is redirected
		default:
			return []string{fmt.Sprintf("the mesh redirects the traffic of this pod to %s, a plain container, which starts after all init containers, so that the agent reaches nothing and the pod does not start; "+
				"run the proxy as a native sidecar (annotation %s: \"true\") and set %s: last, or keep port 443, at which KMS and STS are, out of the mesh (annotation %s: \"443\")",
				m.proxy, m.native, positionAnnotation, m.exclude)}
		}
	}
	return nil
}

func (m mesh) excludes(annotations map[string]string) bool {
	return annotations[m.exclude] != "" || slices.ContainsFunc(m.others, func(key string) bool { _, found := annotations[key]; return found })
}
