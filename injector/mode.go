package injector

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

const (
	warnStuck = "restartPolicy is Never and " + podconfig.Prefix + "mode single, but a native sidecar alone can never fail a pod; " +
		agentconfig.InitContainerName + " runs before it, as with mode: sidecar"

	warnEndless = "this cluster runs the sidecar " + agentconfig.ContainerName +
		" as a plain container, which never ends, and this pod is to end; it has " + agentconfig.InitContainerName +
		" alone, as with " + podconfig.Prefix + "mode: init, and its files are not refreshed"
)

// adaptMode gives a pod that is to end, as those of Jobs, a mode in which it does.
func (in *Injector) adaptMode(r *request) (warnings []string) {
	switch {
	case r.hangsOnFailure():
		r.Spec.Mode = podconfig.ModeSidecar
		return []string{warnStuck}
	case r.completes() && in.neverCompletes(r):
		r.Spec.Mode = podconfig.ModeInit
		if !in.native(r) {
			return []string{warnEndless}
		}
	}
	return nil
}

// completes reports whether the pod's containers are not started again when all is well.
func (r *request) completes() bool {
	return r.Pod.Spec.RestartPolicy == "Never" || r.Pod.Spec.RestartPolicy == "OnFailure"
}

// hangsOnFailure reports whether a permanent fetch error would leave the pod pending instead of failed: the kubelet restarts native
// sidecars whatever the pod's restartPolicy is.
func (r *request) hangsOnFailure() bool {
	return r.Spec.Mode == podconfig.ModeSingle && r.Pod.Spec.RestartPolicy == "Never" && fetches(&r.Spec)
}

// neverCompletes reports whether the sidecar would keep the pod from completing and is not needed, since the pod does not ask for the
// API. An injected pod keeps its form, even if another replica already knows of native sidecars.
func (in *Injector) neverCompletes(r *request) bool {
	pod := &r.Pod.Spec
	return r.Spec.Mode == podconfig.ModeSidecar && r.Spec.API == nil && !pod.has(agentconfig.ContainerName) &&
		(!in.native(r) || pod.has(agentconfig.InitContainerName))
}

// mode is a pod's own mode, or the administrator's where that is possible and gives what the pod asks for. A pod with the agent in it keeps
// the mode that it was injected with.
func (in *Injector) mode(req *Request, spec *podconfig.Spec) podconfig.Mode {
	annotated := func(key string) bool {
		_, found := req.Pod.Metadata.Annotations[podconfig.Prefix+key]
		return found
	}
	mode := cmp.Or(podconfig.Mode(in.policy.Agent.Mode), podconfig.ModeSidecar)
	if mode == podconfig.ModeSidecar || annotated("mode") {
		return spec.Mode
	}
	switch once, forever := req.Pod.Spec.has(agentconfig.InitContainerName), req.Pod.Spec.has(agentconfig.ContainerName); {
	case once && forever:
		return podconfig.ModeSidecar
	case once:
		return podconfig.ModeInit
	case forever:
		return podconfig.ModeSingle
	}
	r := &request{Request: *req, Spec: *spec}
	r.Spec.Mode = mode
	told := spec.OnChange != "" || slices.ContainsFunc(spec.Secrets, func(s podconfig.Secret) bool { return s.OnChange != "" })
	switch {
	case mode == podconfig.ModeInit && (spec.API != nil || told || annotated("refresh-interval")),
		mode == podconfig.ModeSingle && (!in.native(r) || annotated("init-position") || r.hangsOnFailure()):
		return podconfig.ModeSidecar
	}
	return mode
}

const positionAnnotation = podconfig.Prefix + "init-position"

// early reports whether the init container at an index runs before the agent, so that it gets no files.
func early(r *request, i int) bool {
	agent := slices.IndexFunc(r.Pod.Spec.InitContainers, func(c Container) bool { return ours(c.Name) })
	if agent < 0 {
		return r.Spec.InitLast
	}
	return i < agent
}

// native reports whether an init container is a native sidecar.
func (c *Container) native() bool { return c.RestartPolicy == "Always" }

// fileless reports the init containers that get files and end before the agent has written them. A mesh's own need none. With variables,
// unwrappable reports the same.
func fileless(r *request) (mistakes config.Mistakes, warnings []string) {
	if len(r.Spec.Secrets) == 0 || len(r.Spec.Env) > 0 {
		return nil, nil
	}
	for i := range r.Pod.Spec.InitContainers {
		c := &r.Pod.Spec.InitContainers[i]
		if !r.reads(c) || !early(r, i) || c.native() || ofMesh(c.Name) {
			continue
		}
		r.refuse(&mistakes, &warnings, positionAnnotation, fmt.Sprintf("container %s runs before the agent has written the files; move it after "+
			"%s (remove %s: last), or leave the container out with %s", short(c.Name), agentconfig.InitContainerName, positionAnnotation,
			r.choice()))
	}
	return mistakes, warnings
}

// choice returns the annotation by which containers are left out.
func (r *request) choice() string {
	if len(r.Spec.Containers) > 0 {
		return podconfig.Prefix + "containers"
	}
	return podconfig.Prefix + "skip-containers"
}

// A mesh redirects a pod's traffic to a proxy in the pod: from the start on, if its CNI plugin does it, else from one of its init
// containers on. What runs between that and the proxy's start has no network.
type mesh struct {
	proxy    string   // container
	redirect string   // init container that redirects the traffic
	validate string   // init container by which the CNI plugin's work is known
	native   string   // annotation that makes the proxy a native sidecar
	exclude  string   // annotation with the ports that are not redirected
	others   []string // annotations with which something is not redirected
}

// The containers and annotations of
// https://istio.io/latest/docs/setup/additional-setup/cni/ and https://linkerd.io/2/reference/proxy-configuration/
var meshes = []mesh{
	{
		proxy: "istio-proxy", redirect: "istio-init", validate: "istio-validation",
		native: "sidecar.istio.io/nativeSidecar", exclude: "traffic.sidecar.istio.io/excludeOutboundPorts",
		others: []string{
			"traffic.sidecar.istio.io/excludeOutboundIPRanges", "traffic.sidecar.istio.io/includeOutboundIPRanges",
			"traffic.sidecar.istio.io/includeOutboundPorts",
		},
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
func warnMesh(r *request, a *permissions) []string {
	inits := r.Pod.Spec.InitContainers
	agent := slices.IndexFunc(inits, func(c Container) bool { return ours(c.Name) })
	switch {
	case !fetches(&r.Spec) || agent < 0 && injected(&r.Pod.Spec):
		return nil
	case agent < 0 && r.Spec.InitLast:
		agent = len(inits)
	}
	for _, m := range meshes {
		redirect, native, plain := index(inits, m.redirect), index(inits, m.proxy), index(r.Pod.Spec.Containers, m.proxy)
		redirected := index(inits, m.validate) >= 0 || redirect >= 0 && redirect < agent
		const lost = "so that the agent reaches nothing and the pod does not start; "
		switch {
		case !redirected || native < 0 && plain < 0 || native >= 0 && native < agent || m.excludes(r.Pod.Metadata.Annotations):
		case native >= 0:
			return []string{fmt.Sprintf("the mesh redirects the traffic of this pod to %s, which starts after the agent, %sset %s: last", m.proxy,
				lost, positionAnnotation)}
		default:
			user := a.userOf(&r.Pod.Spec.Containers[plain])
			if user != nil && *user == a.uid {
				continue // nothing is redirected that the proxy's own user sends
			}
			as := ""
			if user != nil {
				as = fmt.Sprintf(", or run the containers with the files, and so the agent, as the proxy's user, %d", *user)
			}
			return []string{fmt.Sprintf("the mesh redirects the traffic of this pod to %s, a plain container, which starts after all init "+
				"containers, %srun the proxy as a native sidecar (annotation %s: \"true\") and set %s: last, or keep port 443, at which "+
				"KMS and STS are, out of the mesh (annotation %s: \"443\")%s", m.proxy, lost, m.native, positionAnnotation, m.exclude, as)}
		}
	}
	return nil
}

func (m mesh) excludes(annotations map[string]string) bool {
	return slices.ContainsFunc(slices.Concat(m.others, []string{m.exclude}), func(key string) bool {
		_, found := annotations[key]
		return found
	})
}
