package migrate

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// replaceable are the places of a pod's spec whose reads the injector can take over.
var replaceable = regexp.MustCompile(`^spec\.(volumes\[\d+\]\.secret\.secretName|(initC|c)ontainers\[\d+\]\.` +
	`(env\[\d+\]\.valueFrom\.secretKeyRef|envFrom\[\d+\]\.secretRef)\.name)$`)

// inside are the places of a pod's spec that name a key or a file of a Secret.
var inside = regexp.MustCompile(`\.(secretKeyRef\.key|secret\.items\[\d+\]\.(key|path))$`)

// podSpec returns the spec of a pod that reads the Secret; nil if none does. Other reads are reasons.
func podSpec(pod manifest.Pod, secret string) (spec *corev1.PodSpec, reasons []string) {
	var decoded corev1.Pod
	if err := json.Unmarshal(pod.JSON, &decoded); err != nil {
		return nil, []string{"Kubernetes would not read its pod: " + err.Error()}
	}
	for _, place := range mentions(pod.JSON, secret) {
		switch {
		case replaceable.MatchString(place):
			spec = &decoded.Spec
		case !inside.MatchString(place):
			reasons = append(reasons, place)
		}
	}
	return spec, reasons
}

// mentions returns the places in an object that name a Secret.
func mentions(object []byte, secret string) []string {
	var root any
	if json.Unmarshal(object, &root) != nil {
		return nil
	}
	var found []string
	var look func(value any, at string)
	look = func(value any, at string) {
		switch value := value.(type) {
		case string:
			if value == secret && strings.Contains(strings.ToLower(at), "secret") {
				found = append(found, at)
			}
		case []any:
			for i, item := range value {
				look(item, fmt.Sprintf("%s[%d]", at, i))
			}
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(value)) {
				look(value[key], strings.TrimPrefix(at+"."+key, "."))
			}
		}
	}
	look(root, "")
	return found
}

// A reader gathers what one pod reads of one Secret.
type reader struct {
	secret      string
	keys        map[string]source
	annotations map[string]string
	in          map[string]bool // names of the containers that read
	remove      []string
	stays       []string
	mountPath   string
}

func (r *reader) stay(format string, a ...any) { r.stays = append(r.stays, fmt.Sprintf(format, a...)) }

// set writes an annotation, of which the pod can have one only.
func (r *reader) set(key, value string) {
	key = podconfig.Prefix + key
	if before, written := r.annotations[key]; written && before != value {
		r.stay("%s would be %s and %s; give one of the two another name", key, strings.TrimSpace(before), strings.TrimSpace(value))
		return
	}
	r.annotations[key] = value
}

// optional is for what Kubernetes starts a pod without.
func (r *reader) optional(what string, optional *bool) {
	if optional != nil && *optional {
		r.stay("%s is optional, and without the secret in KMS the injector starts no pod; remove optional: true if it is always there", what)
	}
}

func (r *reader) volumes(spec *corev1.PodSpec) {
	for _, v := range spec.Volumes {
		if v.Secret == nil || v.Secret.SecretName != r.secret {
			continue
		}
		r.remove = append(r.remove, "volume "+v.Name+" and its volumeMounts")
		r.optional("volume "+v.Name, v.Secret.Optional)
		for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
			for _, m := range c.VolumeMounts {
				if m.Name == v.Name {
					r.mount(c.Name, m)
				}
			}
		}
		r.files(v.Secret)
	}
}

func (r *reader) mount(container string, m corev1.VolumeMount) {
	r.in[container] = true
	switch at := path.Clean(m.MountPath); {
	case m.SubPath != "" || m.SubPathExpr != "":
		r.stay("container %s mounts one file of it by subPath, which the injector does not; mount the folder first", container)
	case r.mountPath != "" && r.mountPath != at:
		r.stay("it is mounted at %s and at %s; mount-path is one for the whole pod", r.mountPath, at)
	default:
		r.mountPath = at
		r.set("mount-path", at)
	}
}

// files writes an annotation for each file of a volume.
func (r *reader) files(v *corev1.SecretVolumeSource) {
	items := v.Items
	if items == nil {
		for _, key := range slices.Sorted(maps.Keys(r.keys)) {
			items = append(items, corev1.KeyToPath{Key: key, Path: key})
		}
	}
	for _, item := range items {
		from, ok := r.keys[item.Key]
		if !ok {
			r.stay("the file %s is of the key %s, which no entry of data makes", item.Path, item.Key)
			continue
		}
		mode := item.Mode
		if mode == nil {
			mode = v.DefaultMode
		}
		r.file(item.Path, from, mode)
	}
}

// longForm is that of the annotation secret.<file>.
type longForm struct {
	Name         string            `yaml:"name"`
	VersionID    string            `yaml:"versionId,omitempty"`
	VersionStage string            `yaml:"versionStage,omitempty"`
	Keys         map[string]string `yaml:"keys,omitempty"`
	Path         string            `yaml:"path,omitempty"`
	Mode         string            `yaml:"mode,omitempty"`
}

var fileName = regexp.MustCompile(`^[-._a-zA-Z0-9]{0,55}[a-zA-Z0-9]$`)

func (r *reader) file(at string, from source, mode *int32) {
	name := at
	if !fileName.MatchString(at) {
		name = strings.Trim(regexp.MustCompile(`[^a-zA-Z0-9]+`).ReplaceAllString(at, "-"), "-")
		name = name[:min(len(name), 50)]
	}
	long := longForm{Name: from.entry.Key, VersionID: from.entry.VersionID, VersionStage: stage(from.entry)}
	if from.path != "" {
		long.Keys = map[string]string{"value": from.path}
	}
	if name != at {
		long.Path = at
	}
	if mode != nil {
		long.Mode = fmt.Sprintf("%04o", *mode)
	}
	value := long.Name
	if long.VersionID+long.VersionStage+long.Path+long.Mode != "" || long.Keys != nil {
		text, err := yaml.Marshal(long)
		if err != nil {
			r.stay("the file %s has no long form: %v", at, err)
			return
		}
		value = string(text)
	}
	r.set("secret."+name, value)
}

// stage is the version stage that has to be said.
func stage(entry *v1alpha1.DataSource) string {
	if entry.VersionStage == "ACSCurrent" {
		return ""
	}
	return entry.VersionStage
}

func (r *reader) environment(c *corev1.Container) {
	for _, e := range c.Env {
		if !r.gives(e) {
			continue
		}
		r.remove = append(r.remove, fmt.Sprintf("env %s of container %s", e.Name, c.Name))
		r.optional("the variable "+e.Name, e.ValueFrom.SecretKeyRef.Optional)
		r.variable(c, e.Name, e.ValueFrom.SecretKeyRef.Key)
	}
	for _, e := range c.EnvFrom {
		if e.SecretRef == nil || e.SecretRef.Name != r.secret {
			continue
		}
		r.remove = append(r.remove, fmt.Sprintf("envFrom %s of container %s", r.secret, c.Name))
		r.optional("envFrom "+r.secret, e.SecretRef.Optional)
		for _, key := range slices.Sorted(maps.Keys(r.keys)) {
			r.variable(c, e.Prefix+key, key)
		}
	}
}

// gives reports whether the Secret gives a container a variable.
func (r *reader) gives(e corev1.EnvVar) bool {
	return e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil && e.ValueFrom.SecretKeyRef.Name == r.secret
}

// variable writes the annotation of an environment variable.
func (r *reader) variable(c *corev1.Container, name, key string) {
	r.in[c.Name] = true
	from, ok := r.keys[key]
	switch {
	case !ok:
		r.stay("the variable %s is of the key %s, which no entry of data makes", name, key)
	case !config.Identifier(name):
		r.stay("the variable %s has a name that the injector does not set: letters, digits and _, no digit first", name)
	case from.entry.VersionID+stage(from.entry) != "":
		r.stay("the variable %s is of one version; the injector's variables are of the current one", name)
	case from.path != "":
		r.set("env."+name, from.entry.Key+"#"+from.path)
	default:
		r.set("env."+name, from.entry.Key)
	}
}
