package injector

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// A request is a Request with what the annotations and the cluster say.
type request struct {
	Request
	Spec    podconfig.Spec // Inject is true
	RoleARN string         // that the ServiceAccount, or the pod itself, assumes; "" with other identities than RRSA

	fileSets  []fileSet               // that Spec asks for
	fileSetOf map[string]int          // which of them a container has; else it has agentconfig.SecretsVolume
	points    map[string][]mountPoint // by the volume with the files; see mountPoints
	late      bool                    // containers that came after the injection get nothing, unless the pod names them
}

func (r *request) serviceAccount() string {
	return cmp.Or(r.Pod.Spec.ServiceAccountName, r.Pod.Spec.ServiceAccount, "default")
}

// plan decides what the pod needs, or what its author has to change.
func (in *Injector) plan(r *request, d *Decision) config.Mistakes {
	if mistakes := tooMany(&r.Pod.Spec); len(mistakes) > 0 {
		return mistakes
	}
	if n := shortestDocument(&r.Spec); n > maxDocument {
		return in.documentTooLong(&r.Spec, fmt.Sprintf("more than %d", n))
	}
	r.fileSets, r.fileSetOf = fileSets(&r.Spec)
	r.late = injected(&r.Pod.Spec) && !*in.policy.Agent.LateContainers
	readers, warnings, mistakes := readers(r)
	a := permissionsOf(&r.Pod.Spec, readers)
	resources, more := in.resources(r)
	unwrappable, unwrapped := unwrappable(r)
	unreadable, unread := a.unreadable(r, readers)
	conflicts, unsure := conflicts(r, readers)
	fileless, late := fileless(r)
	document := in.document(r, &a)
	wide, widened := in.narrow(&document)
	text := encode(document)
	forged, changed := in.verify(r, &a, document, resources)
	if len(forged) > 0 {
		return forged // the rest would be about what is no longer so
	}
	if len(text) > maxDocument {
		mistakes = append(mistakes, in.documentTooLong(&r.Spec, strconv.Itoa(len(text)))...)
	}
	mistakes = slices.Concat(mistakes, more, in.invalid(r), private(r), conflicts, unwrappable, fileless, unreadable,
		in.claimed(r, &a), wide)
	if len(mistakes) > 0 {
		return mistakes
	}
	warnings = append(warnings, in.adaptMode(r)...)
	d.Warnings = slices.Concat(warnings, changed, widened, unwrapped, unread, unsure, late, a.warnOpen(&r.Spec, readers),
		warnOwnMounts(r, readers), warnReferences(r, readers), warnRole(r, readers), a.warnSignals(&r.Spec), in.warnSidecar(r), warnOfficial(r),
		warnMesh(r, &a), warnLate(r, readers, &a), warnProfile(&r.Pod.Spec), warnClass(&r.Pod.Spec, resources))
	d.Again, d.Narrowed = injected(&r.Pod.Spec), document.SessionPolicy
	d.Patch = in.patch(r, in.encoded(r, &a, resources), text)
	return nil
}

func (in *Injector) patch(r *request, gets *encoded, document string) []byte {
	pod := &r.Pod.Spec
	p := patch{text: make([]byte, 0, 4<<10+3*len(document))} // as long as most patches
	in.growContainers(&p, r)
	addAgents(&p, r, gets.agents, document)
	for _, v := range gets.volumes {
		if _, exists := pod.volume(v.name); !exists {
			p.grow("/spec/volumes", pod.Volumes != nil, v.text)
		}
	}
	for _, name := range in.policy.Agent.ImagePullSecrets {
		if secret := (corev1.LocalObjectReference{Name: name}); !slices.Contains(pod.ImagePullSecrets, secret) {
			p.grow("/spec/imagePullSecrets", pod.ImagePullSecrets != nil, encodeValue(secret))
		}
	}
	// An injected pod keeps the version that injected it; a pod that arrives with the annotation and nothing else does not.
	if _, marked := r.Pod.Metadata.Annotations[podconfig.InjectedAnnotation]; !marked || len(p.text) > 0 && !injected(pod) {
		p.add(injectedPointer, quoted(in.version))
	}
	return p.encode()
}

// fetches reports whether there is anything to fetch before the rest.
func fetches(spec *podconfig.Spec) bool { return len(spec.Secrets) > 0 || len(spec.Env) > 0 }

// growContainers gives the readers their mounts, the wrapper of their command and, with app-identity, what the RRSA SDKs look for.
func (in *Injector) growContainers(p *patch, r *request) {
	var identity []named
	if r.Spec.AppIdentity {
		for _, e := range in.identity(r) {
			identity = append(identity, named{e.Name, encodeValue(e)})
		}
	}
	var words [][]byte // of the wrapper
	if len(r.Spec.Env) > 0 {
		for _, word := range wrapper(&r.Spec) {
			words = append(words, quoted(word))
		}
	}
	for _, list := range []struct {
		pointer    string
		containers []Container
		inits      bool
	}{{"/spec/initContainers", r.Pod.Spec.InitContainers, true}, {"/spec/containers", r.Pod.Spec.Containers, false}} {
		for i := range list.containers {
			c := &list.containers[i]
			if !r.reads(c) {
				continue
			}
			pointer := list.pointer + "/" + strconv.Itoa(i)
			if len(r.Spec.Env) > 0 && len(c.Command) > 0 && !c.wrapped() && !(list.inits && early(r, i)) {
				for i, word := range words {
					p.add(pointer+"/command/"+strconv.Itoa(i), word)
				}
			}
			for _, place := range r.mountPoints(c.Name) {
				if !c.mounts(place.Name) {
					p.grow(pointer+"/volumeMounts", c.VolumeMounts != nil, place.text)
				}
			}
			for _, e := range identity {
				if !c.hasEnv(e.name) {
					p.grow(pointer+"/env", c.Env != nil, e.text)
				}
			}
		}
	}
}

// addAgents puts the agent's containers where they are missing: init containers, native sidecars too, one after the other at the
// place that init-position says, or beside the one that is there.
func addAgents(p *patch, r *request, agents []encodedAgent, document string) {
	existing := r.Pod.Spec.InitContainers
	at, inserted := 0, 0
	if once, forever := index(existing, agentconfig.InitContainerName), index(existing, agentconfig.ContainerName); once >= 0 {
		at = once + 1
	} else if forever >= 0 {
		at = forever
	} else if r.Spec.InitLast {
		at = len(existing)
	}
	quotedDocument, role := quoted(document), quoted(r.RoleARN)
	for _, agent := range agents {
		if i := index(existing, agent.name); i >= 0 {
			at = i + inserted + 1
			continue
		}
		switch {
		case index(r.Pod.Spec.Containers, agent.name) >= 0: // also where a sidecar of today would be native
		case agent.plain:
			p.grow("/spec/containers", r.Pod.Spec.Containers != nil, agent.text(quotedDocument, role)...)
		case existing == nil:
			p.grow("/spec/initContainers", false, agent.text(quotedDocument, role)...)
		default:
			p.add("/spec/initContainers/"+strconv.Itoa(at), agent.text(quotedDocument, role)...)
			at, inserted = at+1, inserted+1
		}
	}
}

// readers returns the containers that get the files.
func readers(r *request) (found []*Container, warnings []string, mistakes config.Mistakes) {
	var names, late []string
	in := map[string]bool{}
	for c := range r.Pod.Spec.each {
		if ours(c.Name) {
			continue
		}
		if c.Name == "" {
			mistakes = config.Mistakes{{Where: "containers", Problem: "one of the pod's containers has no name, by which it is told " +
				"whether it gets the files, and without which Kubernetes refuses it; give each a name"}}
			continue
		}
		names = append(names, c.Name)
		in[c.Name] = true
		switch {
		case r.reads(c):
			found = append(found, c)
		case selected(&r.Spec, c.Name):
			late = append(late, c.Name)
		}
	}
	if len(late) > 0 {
		warnings = append(warnings, fmt.Sprintf("container %s came after the agent was injected and gets no files; if it needs them, name it "+
			"in %scontainers, with all others that do", some(late), podconfig.Prefix))
	}
	unknown := func(asked []string) string {
		asked = slices.DeleteFunc(slices.Clone(asked), func(name string) bool { return in[name] })
		return some(asked)
	}
	if missing := unknown(r.Spec.Containers); missing != "" && (len(found) == 0 || mistyped(r.Spec.Containers, names)) {
		mistakes.Add(podconfig.Prefix+"containers", "there is no container %s in the pod; its containers are %s", missing, some(names))
	}
	mistakes = append(mistakes, foreignContainers(&r.Spec, names, in)...)
	// Not a mistake: the container may be one that another webhook adds later.
	for _, list := range []struct {
		annotation string
		names      []string
	}{{"containers", r.Spec.Containers}, {"skip-containers", r.Spec.SkipContainers}} {
		if missing := unknown(list.names); missing != "" && len(mistakes) == 0 {
			warnings = append(warnings, fmt.Sprintf("%s%s: there is no container %s in the pod (yet); its containers are %s",
				podconfig.Prefix, list.annotation, missing, some(names)))
		}
	}
	switch {
	case len(found) > 0 || len(mistakes) > 0:
	case len(late) > 0:
		mistakes.Add(podconfig.Prefix+"inject", "the agent is in the pod, but no container mounts its files"+cure)
	default:
		mistakes.Add(podconfig.Prefix+"skip-containers", "leaves no container that gets the files; the pod's containers are %s", some(names))
	}
	return found, warnings, mistakes
}

// mistyped reports whether one of the names that were asked for is nearly that of a container.
func mistyped(asked, names []string) bool {
	asked = slices.DeleteFunc(slices.Clone(asked), func(name string) bool { return slices.Contains(names, name) })
	return slices.ContainsFunc(asked[:min(len(asked), maxSome)], func(name string) bool { return config.Nearest(name, names) != "" })
}

// reads reports whether a container gets the files, or has them.
func (r *request) reads(c *Container) bool {
	return selected(&r.Spec, c.Name) && (!r.late || c.mounts(r.secretsVolume(c.Name)) || r.names(c.Name))
}

// names reports whether an annotation names a container as one that gets files.
func (r *request) names(container string) bool {
	_, named := slices.BinarySearch(r.Spec.Containers, container)
	return named || r.secretsVolume(container) != agentconfig.SecretsVolume
}

// selected reports whether the annotations have a container get the files. One without a name, which Kubernetes will refuse, may be null.
func selected(spec *podconfig.Spec, name string) bool {
	if name == "" || ours(name) {
		return false
	}
	if len(spec.Containers) > 0 {
		_, found := slices.BinarySearch(spec.Containers, name)
		return found
	}
	_, found := slices.BinarySearch(spec.SkipContainers, name)
	return !found
}

func ours(name string) bool {
	return name == agentconfig.InitContainerName || name == agentconfig.ContainerName
}

// injected reports whether the pod has a container of the agent's.
func injected(pod *PodSpec) bool {
	return pod.has(agentconfig.InitContainerName) || pod.has(agentconfig.ContainerName)
}
