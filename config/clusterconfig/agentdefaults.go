package clusterconfig

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// AgentDefaults are what injected containers are made of. In an entry of Config.Namespaces, what is left out stays.
type AgentDefaults struct {
	Image string `yaml:"image"` // of kms-agent, of the webhook's own version; required
	// EarlierImages are other images that containers of the agent's may have which are in a pod when it arrives: those of manifests that
	// were injected before, and those that a replica injects which has not seen a change of Image yet. A * stands for any characters.
	// Default all images of Image's repository; [] is none.
	EarlierImages   []string `yaml:"earlierImages"`
	ImagePullPolicy string   `yaml:"imagePullPolicy"` // Always, IfNotPresent, Never; "" leaves it to Kubernetes
	// ImagePullSecrets are names of Secrets that injected pods get among their imagePullSecrets, besides those that they have. Each
	// namespace with such pods needs Secrets of these names.
	ImagePullSecrets []string          `yaml:"imagePullSecrets"`
	Requests         map[string]string `yaml:"requests"`      // default cpu=10m, memory=24Mi
	Limits           map[string]string `yaml:"limits"`        // default memory=64Mi
	MaxLimits        map[string]string `yaml:"maxLimits"`     // a pod's own requests and limits may not exceed these
	VolumeSize       string            `yaml:"volumeSize"`    // sizeLimit of each tmpfs; default 16Mi
	NativeSidecar    NativeSidecar     `yaml:"nativeSidecar"` // always, never, or auto (default): by the cluster's version
	// Mode is that of pods without the annotation mode: sidecar (default), init or single. A pod for which it is not possible, or that asks
	// by another annotation for what it does not give, has sidecar.
	Mode string `yaml:"mode"`
	// LateContainers has containers that other webhooks add after the injection get the files too, unless an annotation excludes them.
	// Default false: only those that the pod's annotations name.
	LateContainers *bool `yaml:"lateContainers"`
	// NarrowSessions has the agents pass STS a policy that narrows their sessions, those of second roles too, to the secrets that their
	// pod declares, so that stolen credentials are good for no more, whatever the role may do. true or required: a pod whose sessions
	// cannot be narrowed is refused, because the policy would exceed 2,048 characters or the identity has no session; preferred: such a
	// pod gets sessions as wide as its roles, with a warning. Default false.
	NarrowSessions NarrowSessions `yaml:"narrowSessions"`
	// MinRefreshInterval is the shortest refresh-interval that a pod may ask for, a Go duration such as 1m. A shorter default is
	// raised to it; 0, which never refreshes, is allowed. Default 10s.
	MinRefreshInterval *config.Duration `yaml:"minRefreshInterval"`
	// MaxSecrets is how many distinct secrets a pod's files and variables may be made of: each is read from KMS at each refresh.
	// Default 0: no limit.
	MaxSecrets *int `yaml:"maxSecrets"`
	// ImageVolume has containers with variables mount the agent's image for its program, instead of an emptyDir into which the agent
	// copies it. Default false: it is for the administrator to know that all nodes can do it, their container runtimes too.
	ImageVolume *bool `yaml:"imageVolume"`
	// MetricsPort is where sidecars serve /metrics and /readyz, 1024 to 65535; default 0: nowhere. Pods with hostNetwork and those
	// with a container that has this port have none.
	MetricsPort *int `yaml:"metricsPort"`
}

// NativeSidecar says whether the sidecar is an init container with restartPolicy: Always, or a plain container.
type NativeSidecar string

// The choices.
const (
	// NativeAuto is NativeAlways where every kubelet that the API server's version allows knows native sidecars.
	NativeAuto   NativeSidecar = "auto"
	NativeAlways NativeSidecar = "always"
	NativeNever  NativeSidecar = "never" // for virtual nodes that do not know them
)

// initial has the defaults of a cluster.
func initial() AgentDefaults {
	return AgentDefaults{
		Requests:      map[string]string{"cpu": "10m", "memory": "24Mi"},
		Limits:        map[string]string{"memory": "64Mi"},
		VolumeSize:    "16Mi",
		NativeSidecar: NativeAuto,
		Mode:          config.Modes[0],

		LateContainers:     new(false),
		NarrowSessions:     "false",
		MinRefreshInterval: new(config.Duration(config.ShortestRefresh)),
		MaxSecrets:         new(0),
		ImageVolume:        new(false),
		MetricsPort:        new(0),
	}
}

// inherit returns own with the fields that it leaves out from base.
func inherit[T any](own, base T) T {
	to, from := reflect.ValueOf(&own).Elem(), reflect.ValueOf(base)
	for i := range to.NumField() {
		if to.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	return own
}

// over returns an entry's defaults with what they leave out from base, also within requests and limits.
func (a AgentDefaults) over(base AgentDefaults) AgentDefaults {
	merge := func(own, base map[string]string) map[string]string {
		if len(own) == 0 {
			return base
		}
		merged := map[string]string{}
		maps.Copy(merged, base)
		maps.Copy(merged, own)
		return merged
	}
	a.Requests, a.Limits, a.MaxLimits = merge(a.Requests, base.Requests), merge(a.Limits, base.Limits), merge(a.MaxLimits, base.MaxLimits)
	return inherit(a, base)
}

// AllowsImage reports whether a container of the agent's that is in a pod may have an image.
func (a AgentDefaults) AllowsImage(image string) bool {
	if a.EarlierImages == nil {
		return repository(image) == repository(a.Image)
	}
	return image == a.Image || config.AnyMatches(a.EarlierImages, image)
}

// repository returns a reference to an image without its tag and digest. A colon before a slash is a registry's port.
func repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		return image[:colon]
	}
	return image
}

// check finds what is wrong with what is there.
func (a AgentDefaults) check(m *config.Mistakes, where string) {
	oneOf := func(field, value string, choices ...string) {
		if value != "" && !slices.Contains(choices, value) {
			m.Add(where+field, "%s", config.NotOneOf(value, choices))
		}
	}
	oneOf(".imagePullPolicy", a.ImagePullPolicy, "Always", "IfNotPresent", "Never")
	for i, name := range a.ImagePullSecrets {
		if !config.IsHostName(name) {
			m.Add(fmt.Sprintf("%s.imagePullSecrets[%d]", where, i), "%q does not name a Kubernetes Secret; write for example registry-credentials",
				name)
		}
	}
	for i, image := range a.EarlierImages {
		if image == "" || strings.ContainsAny(image, " \t\r\n\"',[]{}") {
			m.Add(fmt.Sprintf("%s.earlierImages[%d]", where, i), "%q is not an image; write for example registry.example.com/kms-agent:v1.*", image)
		}
	}
	oneOf(".nativeSidecar", string(a.NativeSidecar), string(NativeAuto), string(NativeAlways), string(NativeNever))
	oneOf(".mode", a.Mode, config.Modes...)
	oneOf(".narrowSessions", string(a.NarrowSessions), "true", "false", string(NarrowRequired), string(NarrowPreferred))
	if a.MinRefreshInterval != nil && time.Duration(*a.MinRefreshInterval) < config.ShortestRefresh {
		m.Add(where+".minRefreshInterval", "%s is shorter than %s, the shortest that any pod may have; write for example 1m",
			time.Duration(*a.MinRefreshInterval), config.ShortestRefresh)
	}
	if a.MaxSecrets != nil && *a.MaxSecrets < 0 {
		m.Add(where+".maxSecrets", "%d is not a number of secrets, nor 0 for no limit", *a.MaxSecrets)
	}
	if a.VolumeSize != "" && !config.IsQuantity(a.VolumeSize) {
		m.Add(where+".volumeSize", "%q is not a quantity; write for example 16Mi", a.VolumeSize)
	}
	for _, list := range []struct {
		field string
		of    map[string]string
	}{{".requests.", a.Requests}, {".limits.", a.Limits}, {".maxLimits.", a.MaxLimits}} {
		for _, name := range slices.Sorted(maps.Keys(list.of)) {
			if !slices.Contains(config.Resources, name) {
				m.Add(where+list.field+name, "%s", config.NotOneOf(name, config.Resources))
			} else if !config.IsQuantity(list.of[name]) {
				m.Add(where+list.field+name, "%q is not a quantity; write for example 10m or 16Mi", list.of[name])
			}
		}
	}
	if a.MetricsPort == nil || *a.MetricsPort == 0 {
		return
	}
	if port := *a.MetricsPort; port < 1024 || port > 65535 {
		m.Add(where+".metricsPort", "%d is not a port from 1024 to 65535, nor 0 for none", port)
	} else if port == config.DefaultAPIPort {
		m.Add(where+".metricsPort", "%d is the port of the agents' API; choose another", port)
	}
}

// NarrowSessions says whether the agents' STS sessions are narrowed to the secrets that their pods declare. "true" is required.
type NarrowSessions string

// The choices, besides "true" and "false".
const (
	NarrowRequired  NarrowSessions = "required"  // a pod whose sessions cannot be narrowed is refused
	NarrowPreferred NarrowSessions = "preferred" // it gets sessions that are as wide as its roles
)

// Wanted reports whether sessions are narrowed where that is possible.
func (n NarrowSessions) Wanted() bool { return n.Required() || n == NarrowPreferred }

// Required reports whether sessions that cannot be narrowed are refused.
func (n NarrowSessions) Required() bool { return n == NarrowRequired || n == "true" }
