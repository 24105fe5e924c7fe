package migrate

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// start finds what the pod's variables change in a container that gets them: the agent sets all of them, over the container's own, when it
// starts the container's command, and for nothing else.
func (r *reader) start(c *corev1.Container) {
	set := map[string]bool{}
	for key := range r.annotations {
		if name, is := strings.CutPrefix(key, podconfig.Prefix+"env."); is {
			set[name] = true
		}
	}
	if len(set) == 0 || !r.in[c.Name] {
		return
	}
	if len(c.Command) == 0 {
		r.stay("container %s gets variables and has no command; the injector's variables need it: write the image's entry point there", c.Name)
	}
	r.overridden(c, set)
	r.references(c, set)
	r.executed(c)
}

// overridden finds the variables of a container that may have their value from elsewhere.
func (r *reader) overridden(c *corev1.Container, set map[string]bool) {
	same := map[string]bool{} // variables whose value is the Secret's already
	others := ""
	for _, from := range c.EnvFrom {
		switch {
		case from.SecretRef != nil && from.SecretRef.Name == r.secret:
			for key := range r.keys {
				same[from.Prefix+key] = true
			}
			continue
		case from.SecretRef != nil:
			others = "Secret " + from.SecretRef.Name
		case from.ConfigMapRef != nil:
			others = "ConfigMap " + from.ConfigMapRef.Name
		}
		clear(same) // the last one wins
	}
	for _, e := range c.Env {
		if set[e.Name] && !r.gives(e) {
			r.stay("container %s has a variable %s of its own, which the injector's would override; remove it, or give one another name", c.Name,
				e.Name)
		}
		same[e.Name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if others != "" && !same[name] {
			r.stay("container %s may have the variable %s of %s, which the injector's would override; "+
				"put its envFrom before that of %s, or give the variable another name", c.Name, name, others, r.secret)
		}
	}
}

// references finds $(NAME), which Kubernetes replaces by variables of the pod's spec.
func (r *reader) references(c *corev1.Container, set map[string]bool) {
	look := func(place string, texts ...string) {
		for _, text := range texts {
			for name := range injector.References(text) {
				if set[name] {
					r.stay("container %s has $(%s) in %s, which Kubernetes would not replace by the injector's; have a shell replace it, as in "+
						"command: [sh, -c, 'exec … $%[2]s']", c.Name, name, place)
				}
			}
		}
	}
	look("command", c.Command...)
	look("args", c.Args...)
	for _, e := range c.Env {
		look("the variable "+e.Name, e.Value)
	}
	for _, m := range c.VolumeMounts {
		look("a subPathExpr", m.SubPathExpr)
	}
}

// executed finds what else runs in a container: the kubelet starts it, without the agent.
func (r *reader) executed(c *corev1.Container) {
	actions := map[string]*corev1.ExecAction{}
	for place, probe := range map[string]*corev1.Probe{
		"livenessProbe": c.LivenessProbe, "readinessProbe": c.ReadinessProbe, "startupProbe": c.StartupProbe,
	} {
		if probe != nil {
			actions[place] = probe.Exec
		}
	}
	if hooks := c.Lifecycle; hooks != nil {
		for place, hook := range map[string]*corev1.LifecycleHandler{"lifecycle.postStart": hooks.PostStart, "lifecycle.preStop": hooks.PreStop} {
			if hook != nil {
				actions[place] = hook.Exec
			}
		}
	}
	for _, place := range slices.Sorted(maps.Keys(actions)) {
		if actions[place] != nil {
			r.stay("container %s has %s.exec, which does not get the injector's variables; have it do without them: httpGet, or a file", c.Name,
				place)
		}
	}
}
