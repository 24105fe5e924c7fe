package injector

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/go-json-experiment/json"
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
	NodeSelector     map[string]string             `json:"nodeSelector"`
	Resources        *Resources                    `json:"resources"` // of all containers together
	ImagePullSecrets []corev1.LocalObjectReference `json:"imagePullSecrets"`
	Volumes          kubejson.List[Volume]         `json:"volumes"`
	InitContainers   kubejson.List[Container]      `json:"initContainers"`
	Containers       kubejson.List[Container]      `json:"containers"`
}

// Resources are the resources of the pod as a whole.
type Resources struct {
	Requests map[string]jsontext.Value `json:"requests"`
	Limits   map[string]jsontext.Value `json:"limits"`
}

// SecurityContext says which user the processes of a pod or a container run as.
type SecurityContext struct {
	RunAsUser    *int64              `json:"runAsUser"`
	RunAsGroup   *int64              `json:"runAsGroup"`
	FSGroup      *int64              `json:"fsGroup"`      // of a pod only
	Capabilities corev1.Capabilities `json:"capabilities"` // of a container only
	Windows      *struct{}           `json:"windowsOptions"`
	AppArmor     struct {
		Type    string `json:"type"`
		Profile string `json:"localhostProfile"`
	} `json:"appArmorProfile"`
}

// override reports whether root keeps the capability of reading any file.
func (s *SecurityContext) override() bool {
	has := func(list []corev1.Capability) bool {
		return slices.ContainsFunc(list, func(c corev1.Capability) bool {
			name := strings.TrimPrefix(strings.ToUpper(string(c)), "CAP_")
			return name == "ALL" || name == "DAC_OVERRIDE"
		})
	}
	return has(s.Capabilities.Add) || !has(s.Capabilities.Drop)
}

// Volume is a volume's name and as much of its source as tells whether a name of ours is used for something else, and whether
// a directory can be made in it.
type Volume struct {
	Name     string `json:"name"`
	EmptyDir *struct {
		Medium string `json:"medium"`
	} `json:"emptyDir"`
	ConfigMap *struct{} `json:"configMap"`
	Secret    *struct {
		SecretName string `json:"secretName"`
	} `json:"secret"`
	DownwardAPI *struct{} `json:"downwardAPI"`
	Projected   *struct {
		Sources []Projection `json:"sources"`
	} `json:"projected"`
	Image *struct {
		Reference string `json:"reference"`
	} `json:"image"`

	// Others are the other sources, and what else there is.
	Others map[string]jsontext.Value `json:",embed"`
}

// Projection is one of the sources of a volume: a token of the pod's ServiceAccount, or some keys of a ConfigMap.
type Projection struct {
	Token *struct {
		Audience string `json:"audience"`
		Path     string `json:"path"`
	} `json:"serviceAccountToken"`
	ConfigMap *struct {
		Name  string             `json:"name"`
		Items []corev1.KeyToPath `json:"items"`
	} `json:"configMap"`
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
			slices.EqualFunc(got.ConfigMap.Items, want.ConfigMap.Items, func(got, want corev1.KeyToPath) bool {
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
	Ports           []struct {
		ContainerPort int `json:"containerPort"`
	} `json:"ports"`
	VolumeMounts  []Mount `json:"volumeMounts"`
	VolumeDevices []struct {
		DevicePath string `json:"devicePath"`
	} `json:"volumeDevices"`
	TerminationMessagePath string `json:"terminationMessagePath"`

	start, end int64  // in the document
	text       []byte // all of it, where it has a name of the agent's containers
}

// Setting is an environment variable that has a value in the pod's spec, or "".
type Setting struct {
	Name  string  `json:"name"`
	Value string  `json:"value"`
	From  skipped `json:"valueFrom"` // long, in many variables
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
	for _, p := range c.Ports {
		if p.ContainerPort == port {
			return true
		}
	}
	return false
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

// DecodePod decodes a pod, or a pod template.
func DecodePod(document []byte) (p Pod, err error) {
	err = kubejson.Unmarshal(document, &p)
	p.KeepTexts(document)
	return p, err
}

// KeepTexts has a pod that was decoded, as a part of the document, keep the text of the agent's containers: parts of the document.
func (p *Pod) KeepTexts(document []byte) {
	for c := range p.Spec.each {
		if ours(c.Name) {
			c.text = bytes.TrimLeft(document[c.start:c.end], ", \t\r\n")
		}
	}
}

// UnmarshalJSONFrom implements json.UnmarshalerFrom.
func (c *Container) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	type plain Container
	start := dec.InputOffset() // behind the element before
	err := json.UnmarshalDecode(dec, (*plain)(c))
	c.start, c.end = start, dec.InputOffset()
	return err
}

// skipped is a value that is not decoded.
type skipped struct{}

// UnmarshalJSONFrom reads the value at once. It takes half the time in which the library skips a member that no field is for.
func (*skipped) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	_, err := dec.ReadValue()
	return err
}
