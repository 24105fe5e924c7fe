package injector

import (
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// Pod has the fields of a pod or pod template that the decision needs. It is never encoded, since that would lose all other fields.
type Pod struct {
	Metadata Metadata `json:"metadata"`
	Spec     PodSpec  `json:"spec"`
}

// Metadata is the part of an object's metadata that matters here.
type Metadata struct {
	Annotations map[string]string    `json:"annotations"`
	Owners      kubejson.List[Owner] `json:"ownerReferences"`
	Managed     skipped              `json:"managedFields"` // as long as all the rest, or longer
}

// Owner is an object that the pod belongs to.
type Owner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
	Controller bool   `json:"controller"`
}

// PodSpec is the part of a pod's spec that matters here.
type PodSpec struct {
	ServiceAccountName string          `json:"serviceAccountName"`
	ServiceAccount     string          `json:"serviceAccount"` // its old name, in manifests that no API server has seen
	RestartPolicy      string          `json:"restartPolicy"`  // "" is Always
	SecurityContext    SecurityContext `json:"securityContext"`
	HostNetwork        bool            `json:"hostNetwork"`
	HostPIDs           bool            `json:"hostPID"`
	SharePIDs          bool            `json:"shareProcessNamespace"`
	OS                 struct {
		Name string `json:"name"`
	} `json:"os"`
	NodeSelector     map[string]string        `json:"nodeSelector"`
	Resources        *Resources               `json:"resources"` // of all containers together
	ImagePullSecrets []Reference              `json:"imagePullSecrets"`
	Volumes          kubejson.List[Volume]    `json:"volumes"`
	InitContainers   kubejson.List[Container] `json:"initContainers"`
	Containers       kubejson.List[Container] `json:"containers"`
}

// Reference names an object of the pod's namespace.
type Reference struct {
	Name string `json:"name"`
}

// Resources are the resources of the pod as a whole.
type Resources struct {
	Requests map[string]jsontext.Value `json:"requests"`
	Limits   map[string]jsontext.Value `json:"limits"`
}

// bounds reports whether the pod as a whole has an amount of a resource, which those of its containers must fit into.
func (r Resources) bounds(name string) bool {
	_, request := r.Requests[name]
	_, limit := r.Limits[name]
	return request || limit
}

// SecurityContext says which user the processes of a pod or a container run as.
type SecurityContext struct {
	RunAsUser    *int64       `json:"runAsUser"`
	RunAsGroup   *int64       `json:"runAsGroup"`
	FSGroup      *int64       `json:"fsGroup"`      // of a pod only
	Capabilities Capabilities `json:"capabilities"` // of a container only
	Windows      *struct{}    `json:"windowsOptions"`
	AppArmor     AppArmor     `json:"appArmorProfile"`
}

// AppArmor is the profile that a pod's or a container's processes are confined by.
type AppArmor struct {
	Type    string `json:"type"`
	Profile string `json:"localhostProfile"`
}

// Capabilities are the changes to a container's default capabilities.
type Capabilities struct {
	Add  []string `json:"add"`
	Drop []string `json:"drop"`
}

// override reports whether root keeps the capability of reading any file.
func (c Capabilities) override() bool {
	has := func(list []string) bool {
		return slices.ContainsFunc(list, func(name string) bool {
			name = strings.TrimPrefix(strings.ToUpper(name), "CAP_")
			return name == "ALL" || name == "DAC_OVERRIDE"
		})
	}
	return has(c.Add) || !has(c.Drop)
}

// Volume is a volume's name and as much of its source as tells whether a name of ours is used for something else, and whether
// a directory can be made in it.
type Volume struct {
	Name        string           `json:"name"`
	EmptyDir    *EmptyDir        `json:"emptyDir"`
	ConfigMap   *struct{}        `json:"configMap"`
	Secret      *SecretSource    `json:"secret"`
	DownwardAPI *struct{}        `json:"downwardAPI"`
	Projected   *ProjectedSource `json:"projected"`
	Image       *ImageSource     `json:"image"`

	// Others are the other sources, and what else there is.
	Others map[string]jsontext.Value `json:",embed"`
}

// ImageSource is a volume with the files of an image.
type ImageSource struct {
	Reference string `json:"reference"`
}

// EmptyDir is a volume of the pod's own.
type EmptyDir struct {
	Medium string `json:"medium"`
}

// SecretSource is a volume with a Secret's values.
type SecretSource struct {
	SecretName string `json:"secretName"`
}

// ProjectedSource is a volume that is made of several sources.
type ProjectedSource struct {
	Sources []Projection `json:"sources"`
}

// Projection is one of the sources.
type Projection struct {
	Token     *TokenSource     `json:"serviceAccountToken"`
	ConfigMap *ConfigMapSource `json:"configMap"`
}

// ConfigMapSource is some keys of a ConfigMap.
type ConfigMapSource struct {
	Name  string      `json:"name"`
	Items []KeyToPath `json:"items"`
}

// KeyToPath is a key and the file that it becomes.
type KeyToPath struct {
	Key  string `json:"key"`
	Path string `json:"path"`
}

// TokenSource is a token of the pod's ServiceAccount.
type TokenSource struct {
	Audience string `json:"audience"`
	Path     string `json:"path"`
}

// projects reports whether the volume has a ServiceAccount's token for an audience in a file.
func (v Volume) projects(audience, file string) bool {
	if v.Projected == nil {
		return false
	}
	for _, s := range v.Projected.Sources {
		if s.Token != nil && s.Token.Audience == audience && path.Clean(s.Token.Path) == file {
			return true
		}
	}
	return false
}

// has reports whether the volume is made of nothing but these ConfigMaps.
func (v Volume) has(configMaps []corev1.VolumeProjection) bool {
	return v.Projected != nil && slices.EqualFunc(v.Projected.Sources, configMaps, func(got Projection, want corev1.VolumeProjection) bool {
		return got.Token == nil && got.ConfigMap != nil && got.ConfigMap.Name == want.ConfigMap.Name &&
			slices.EqualFunc(got.ConfigMap.Items, want.ConfigMap.Items, func(got KeyToPath, want corev1.KeyToPath) bool {
				return got.Key == want.Key && got.Path == want.Path
			})
	})
}

// nests reports whether the kubelet makes directories in the volume for the mounts that a container has inside it. It does so in the
// volumes whose files it writes itself, which are read-only in containers:
// https://github.com/kubernetes/kubernetes/blob/v1.36.3/pkg/volume/util/nested_volumes.go
func (v Volume) nests() bool {
	return v.ConfigMap != nil || v.Secret != nil || v.DownwardAPI != nil || v.Projected != nil
}

// readOnly reports whether the volume is read-only by its source, whatever its mounts say.
func (v Volume) readOnly() bool {
	for _, source := range v.Others {
		var states struct {
			ReadOnly bool `json:"readOnly"`
		}
		if kubejson.Unmarshal(source, &states) == nil && states.ReadOnly {
			return true
		}
	}
	return v.Image != nil
}

// Container is the part of an app or init container that matters here.
type Container struct {
	Name            string          `json:"name"`
	Command         []string        `json:"command"`
	Args            []string        `json:"args"`
	RestartPolicy   string          `json:"restartPolicy"` // of an init container: Always makes it a native sidecar
	SecurityContext SecurityContext `json:"securityContext"`
	Resources       Amounts         `json:"resources"`
	Env             []Setting       `json:"env"`
	Ports           []Port          `json:"ports"`
	VolumeMounts    []Mount         `json:"volumeMounts"`

	start, end int64  // in the document
	text       []byte // all of it, where it has a name of the agent's containers
}

// Setting is an environment variable that has a value in the pod's spec, or "".
type Setting struct {
	Name  string  `json:"name"`
	Value string  `json:"value"`
	From  skipped `json:"valueFrom"` // long, in many variables
}

// Port is one that a container says it listens on.
type Port struct {
	ContainerPort int `json:"containerPort"`
}

// Mount is a volume's place in a container.
type Mount struct {
	Name        string `json:"name"`
	MountPath   string `json:"mountPath"`
	ReadOnly    bool   `json:"readOnly"`
	SubPath     string `json:"subPath"`
	Expr        string `json:"subPathExpr"`
	Propagation string `json:"mountPropagation"`
}

func (c *Container) hasEnv(name string) bool {
	return slices.ContainsFunc(c.Env, func(e Setting) bool { return e.Name == name })
}

func (c *Container) listens(port int) bool {
	return slices.ContainsFunc(c.Ports, func(p Port) bool { return p.ContainerPort == port })
}

func (c *Container) mounts(volume string) bool {
	return slices.ContainsFunc(c.VolumeMounts, func(m Mount) bool { return m.Name == volume })
}

// path returns the mount's place without a closing slash. The kubelet puts a relative one into the root directory.
func (m Mount) path() string { return path.Clean("/" + m.MountPath) }

// part reports whether the mount shows a part of its volume, not all of it.
func (m Mount) part() bool { return m.SubPath != "" || m.Expr != "" }

// each is for range, over the containers, init containers first.
func (s *PodSpec) each(yield func(*Container) bool) {
	for _, list := range [...][]Container{s.InitContainers, s.Containers} {
		for i := range list {
			if !yield(&list[i]) {
				return
			}
		}
	}
}

// has reports whether there is a container of a name, init containers too.
func (s *PodSpec) has(container string) bool {
	return index(s.InitContainers, container) >= 0 || index(s.Containers, container) >= 0
}

func (s *PodSpec) volume(name string) (Volume, bool) {
	i := slices.IndexFunc(s.Volumes, func(v Volume) bool { return v.Name == name })
	if i < 0 {
		return Volume{}, false
	}
	return s.Volumes[i], true
}

func (s *PodSpec) windows() bool {
	for c := range s.each {
		if c.SecurityContext.Windows != nil {
			return true
		}
	}
	return s.OS.Name == "windows" || s.SecurityContext.Windows != nil ||
		s.NodeSelector["kubernetes.io/os"] == "windows" || s.NodeSelector["beta.kubernetes.io/os"] == "windows"
}

func index(containers []Container, name string) int {
	for i := range containers {
		if containers[i].Name == name {
			return i
		}
	}
	return -1
}
