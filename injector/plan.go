package injector

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A Request is a pod and what its own document does not say.
type Request struct {
	Pod       Pod
	Namespace string      // of the pod; its metadata may leave it to the request
	Spec      config.Spec // of its annotations; Inject is true
	RoleARN   string      // that its ServiceAccount, or itself, assumes; "" with other identities than RRSA
	Claims    []string    // names of a StatefulSet's volumeClaimTemplates: a claim takes the place of the template's volume of its name
	Room      []byte      // what the patch is appended to, which may be nil; its bytes are the caller's to use again after the patch

	views  []view         // that Spec asks for
	viewOf map[string]int // which of them a container has; else it has SecretsVolume
	late   bool           // containers that came after the injection get nothing, unless the pod names them
}

func (r *Request) serviceAccount() string { return ServiceAccountOf(r.Pod) }

// ServiceAccountOf is the name of the ServiceAccount that a pod runs with.
func ServiceAccountOf(pod Pod) string {
	return cmp.Or(pod.Spec.ServiceAccountName, pod.Spec.ServiceAccount, "default")
}

// A Plan is what to add to a pod.
type Plan struct {
	Patch    []byte   // RFC 6902; nil: the pod has all that it needs
	Warnings []string // for the person who made the pod
	Again    bool     // the pod had been injected before
	Narrowed bool     // its STS sessions are narrowed to its secrets
}

// memory is what one plan after the other is made in.
type memory struct {
	document, env, mounts []byte
	created               []string
}

var memories = sync.Pool{New: func() any { return new(memory) }}

// Plan says what the pod needs. The error is a config.Mistakes if the pod's author has to change something.
func (in *Injector) Plan(request Request) (Plan, error) {
	r := &request
	if mistakes := tooMany(&r.Pod.Spec); len(mistakes) > 0 {
		return Plan{}, mistakes
	}
	r.views, r.viewOf = views(&r.Spec)
	r.late = injected(&r.Pod.Spec) && !*in.policy.Agent.LateContainers
	readers, warnings, mistakes := readers(r)
	a := accessOf(&r.Pod.Spec, readers)
	resources, more := in.resources(r)
	unwrappable, unwrapped := unwrappable(r)
	unreadable, unread := a.unreadable(r, readers)
	conflicts, unsure := conflicts(r, readers)
	fileless, late := fileless(r)
	memory := memories.Get().(*memory)
	defer memories.Put(memory)
	document := in.document(r, &a)
	wide, widened := in.narrow(&document)
	memory.document = appendDocument(memory.document[:0], document)
	forged, changed := in.verify(r, &a, document, resources, memory)
	if len(forged) > 0 {
		return Plan{}, forged // the rest would be about what is no longer so
	}
	mistakes = slices.Concat(mistakes, more, in.impossible(r), private(r), conflicts, unwrappable, fileless, unreadable, in.claimed(r, &a), in.tooLong(&r.Spec, memory.document), wide)
	if len(mistakes) > 0 {
		return Plan{}, mistakes
	}
	warnings = append(warnings, in.end(r)...)
	agents := in.containers(r, in.shared(r, &a, resources, memory))
	warnings = slices.Concat(warnings, changed, widened, unwrapped, unread, unsure, late, a.warnOpen(&r.Spec, readers), warnOwnMounts(r, readers), warnReferences(r, readers),
		warnRole(r, readers), a.warnSignals(&r.Spec), in.warnSidecar(r), warnMesh(r, &a), warnLate(r, readers, &a), warnProfile(&r.Pod.Spec), warnClass(&r.Pod.Spec, resources))

	b := builder{patch: r.Room[:0], created: memory.created[:0]}
	in.growContainers(&b, r)
	in.addAgents(&b, r, agents)
	for _, v := range in.volumes(r, &a) {
		if _, exists := r.Pod.Spec.volume(v.name); !exists {
			grow(&b, "/spec/volumes", r.Pod.Spec.Volumes, v)
		}
	}
	for _, name := range in.policy.Agent.ImagePullSecrets {
		if secret := (Reference{name}); !slices.Contains(r.Pod.Spec.ImagePullSecrets, secret) {
			grow(&b, "/spec/imagePullSecrets", r.Pod.Spec.ImagePullSecrets, secret)
		}
	}
	// An injected pod keeps the version that injected it; a pod that arrives with the annotation and nothing else does not.
	again := injected(&r.Pod.Spec)
	if _, marked := r.Pod.Metadata.Annotations[config.InjectedAnnotation]; !marked || !b.empty() && !again {
		add(&b, injectedPointer, in.version)
	}
	memory.created = b.created
	return Plan{Patch: b.json(), Warnings: warnings, Again: again, Narrowed: document.SessionPolicy}, nil
}

// fetches reports whether there is anything to fetch before the rest.
func fetches(spec *config.Spec) bool { return len(spec.Secrets) > 0 || len(spec.Env) > 0 }

// volumes are those that the pod needs.
func (in *Injector) volumes(r *Request, a *access) []volume {
	spec := &r.Spec
	volumes := []volume{{SecretsVolume, in.fragments.tmpfs}, {StateVolume, in.fragments.tmpfs}}
	switch spec.Identity.Kind {
	case config.RRSA:
		volumes = append(volumes, tokenVolume(spec.TokenExpiration))
	case config.ClientKey:
		volumes = append(volumes, clientKeyVolume(spec.Identity.Secret, a))
	}
	for _, v := range r.views {
		volumes = append(volumes, volume{v.volume, in.fragments.tmpfs})
	}
	if spec.API != nil {
		volumes = append(volumes, volume{APIVolume, in.fragments.tmpfs})
	}
	if len(spec.Env) > 0 {
		volumes = append(volumes, volume{ProgramVolume, in.fragments.program})
	}
	return volumes
}

// growContainers gives the readers their mounts, the wrapper of their command and, with app-identity, what the RRSA SDKs look for.
func (in *Injector) growContainers(b *builder, r *Request) {
	var identity []variable
	if r.Spec.AppIdentity {
		identity = in.identity(r)
	}
	for _, list := range []struct {
		pointer    string
		containers []Container
		inits      bool
	}{{"/spec/initContainers", r.Pod.Spec.InitContainers, true}, {"/spec/containers", r.Pod.Spec.Containers, false}} {
		for i, c := range list.containers {
			if !r.reads(&c) {
				continue
			}
			pointer := list.pointer + "/" + strconv.Itoa(i)
			if len(r.Spec.Env) > 0 && len(c.Command) > 0 && !c.wrapped() && !(list.inits && early(r, i)) {
				insert(b, pointer+"/command", c.Command, 0, wrapper(&r.Spec)...)
			}
			for _, p := range r.places(c.Name) {
				if !c.mounts(p.Name) {
					grow(b, pointer+"/volumeMounts", c.VolumeMounts, p.Mount)
				}
			}
			for _, e := range identity {
				if !c.hasEnv(e.name) {
					grow(b, pointer+"/env", c.Env, e)
				}
			}
		}
	}
}

// addAgents puts the agent's containers where they are missing: init containers, native sidecars too, one after the other at the
// place that init-position says, or beside the one that is there.
func (in *Injector) addAgents(b *builder, r *Request, agents []agent) {
	existing := r.Pod.Spec.InitContainers
	at, inserted := 0, 0
	if once, forever := index(existing, InitContainerName), index(existing, ContainerName); once >= 0 {
		at = once + 1
	} else if forever >= 0 {
		at = forever
	} else if r.Spec.InitLast {
		at = len(existing)
	}
	for _, agent := range agents {
		if i := index(existing, agent.name); i >= 0 {
			at = i + inserted + 1
			continue
		}
		switch {
		case index(r.Pod.Spec.Containers, agent.name) >= 0: // also where a sidecar of today would be native
		case agent.name == ContainerName && !agent.native:
			grow(b, "/spec/containers", r.Pod.Spec.Containers, agent)
		default:
			insert(b, "/spec/initContainers", existing, at, agent)
			at, inserted = at+1, inserted+1
		}
	}
}

// readers are the containers that get the files.
func readers(r *Request) (found []Container, warnings []string, mistakes config.Mistakes) {
	var names, late []string
	in := map[string]bool{}
	for c := range r.Pod.Spec.each {
		if ours(c.Name) {
			continue
		}
		if c.Name == "" {
			mistakes = config.Mistakes{{Where: "containers", Problem: "one of the pod's containers has no name, by which it is told whether it gets the files, and without which Kubernetes refuses it; give each a name"}}
			continue
		}
		names = append(names, c.Name)
		in[c.Name] = true
		switch {
		case r.reads(c):
			found = append(found, *c)
		case selected(&r.Spec, c.Name):
			late = append(late, c.Name)
		}
	}
	if len(late) > 0 {
		warnings = append(warnings, fmt.Sprintf("container %s came after the agent was injected and gets no files; if it needs them, name it in %scontainers, with all others that do", some(late), config.Prefix))
	}
	unknown := func(asked []string) string {
		asked = slices.DeleteFunc(slices.Clone(asked), func(name string) bool { return in[name] })
		return some(asked)
	}
	if missing := unknown(r.Spec.Containers); missing != "" && (len(found) == 0 || mistyped(r.Spec.Containers, names)) {
		mistakes = append(mistakes, config.Mistake{Where: config.Prefix + "containers", Problem: fmt.Sprintf(
			"there is no container %s in the pod; its containers are %s", missing, some(names))})
	}
	mistakes = append(mistakes, strangers(&r.Spec, names, in)...)
	// Not a mistake: the container may be one that another webhook adds later.
	for _, list := range []struct {
		annotation string
		names      []string
	}{{"containers", r.Spec.Containers}, {"skip-containers", r.Spec.SkipContainers}} {
		if missing := unknown(list.names); missing != "" && len(mistakes) == 0 {
			warnings = append(warnings, fmt.Sprintf("%s%s: there is no container %s in the pod (yet); its containers are %s",
				config.Prefix, list.annotation, missing, some(names)))
		}
	}
	switch {
	case len(found) > 0 || len(mistakes) > 0:
	case len(late) > 0:
		mistakes = append(mistakes, config.Mistake{Where: config.Prefix + "inject", Problem: "the agent is in the pod, but no container mounts its files" + cure})
	default:
		mistakes = append(mistakes, config.Mistake{Where: config.Prefix + "skip-containers", Problem: fmt.Sprintf(
			"leaves no container that gets the files; the pod's containers are %s", some(names))})
	}
	return found, warnings, mistakes
}

// mistyped reports whether one of the names that were asked for is nearly that of a container.
func mistyped(asked, names []string) bool {
	asked = slices.DeleteFunc(slices.Clone(asked), func(name string) bool { return slices.Contains(names, name) })
	return slices.ContainsFunc(asked[:min(len(asked), maxSome)], func(name string) bool { return config.Nearest(name, names) != "" })
}

// reads reports whether a container gets the files, or has them.
func (r *Request) reads(c *Container) bool {
	return selected(&r.Spec, c.Name) && (!r.late || c.mounts(r.secretsVolume(c.Name)) || r.names(c.Name))
}

// names reports whether an annotation names a container as one that gets files.
func (r *Request) names(container string) bool {
	_, named := slices.BinarySearch(r.Spec.Containers, container)
	return named || r.secretsVolume(container) != SecretsVolume
}

// selected reports whether the annotations have a container get the files. One without a name, which Kubernetes will refuse, may be null.
func selected(spec *config.Spec, name string) bool {
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

func ours(name string) bool { return name == InitContainerName || name == ContainerName }

// injected reports whether the pod has a container of the agent's.
func injected(pod *PodSpec) bool { return pod.has(InitContainerName) || pod.has(ContainerName) }
