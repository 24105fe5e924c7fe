package injector

import "github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"

// How many of them a pod may have at the most, besides rawjson.MaxElements: each takes more memory than others for its text. More
// containers and volumes than are possible are still read, so that tooMany says it to the author of the pod.
const (
	maxOwners     = 100
	maxContainers = 1001
	maxVolumes    = mostVolumes + 1
)

// ReadPod reads a pod, or a pod template, as Kubernetes does: names in the case in which they are written, and null as nothing at
// all. What the decisions do not need is skipped. Of members with the same name the last counts. The text's own errors are in
// the Reader's End.
func ReadPod(r *rawjson.Reader) (p Pod) {
	for name := range r.Members {
		switch name {
		case "metadata":
			p.Metadata = readMetadata(r)
		case "spec":
			p.Spec = readPodSpec(r)
		}
	}
	return p
}

func readMetadata(r *rawjson.Reader) (m Metadata) {
	for name := range r.Members {
		switch name {
		case "annotations":
			m.Annotations = readMap(r, (*rawjson.Reader).Text)
		case "ownerReferences":
			m.Owners = appendAll([]Owner{}, r, readOwner, maxOwners, "owners")
		}
	}
	return m
}

func readOwner(r *rawjson.Reader) (o Owner) {
	for name := range r.Members {
		switch name {
		case "apiVersion":
			o.APIVersion = r.Text()
		case "kind":
			o.Kind = r.Text()
		case "name":
			o.Name = r.Text()
		case "uid":
			o.UID = r.Text()
		case "controller":
			o.Controller = r.Bool()
		}
	}
	return o
}

func readPodSpec(r *rawjson.Reader) (s PodSpec) {
	for name := range r.Members {
		switch name {
		case "serviceAccountName":
			s.ServiceAccountName = r.Text()
		case "serviceAccount":
			s.ServiceAccount = r.Text()
		case "restartPolicy":
			s.RestartPolicy = r.Text()
		case "securityContext":
			s.SecurityContext = readSecurityContext(r)
		case "hostNetwork":
			s.HostNetwork = r.Bool()
		case "hostPID":
			s.HostPIDs = r.Bool()
		case "shareProcessNamespace":
			s.SharePIDs = r.Bool()
		case "os":
			s.OS.Name = readName(r)
		case "nodeSelector":
			s.NodeSelector = readMap(r, (*rawjson.Reader).Text)
		case "resources":
			s.Resources = readPointer(r, readResources)
		case "imagePullSecrets":
			s.ImagePullSecrets = readAll(r, readReference)
		case "volumes":
			s.Volumes = appendAll([]Volume{}, r, readVolume, maxVolumes, "volumes")
		case "initContainers":
			s.InitContainers = appendAll([]Container{}, r, readContainer, maxContainers, "init containers")
		case "containers":
			s.Containers = appendAll([]Container{}, r, readContainer, maxContainers, "containers")
		}
	}
	return s
}

func readSecurityContext(r *rawjson.Reader) (s SecurityContext) {
	for name := range r.Members {
		switch name {
		case "runAsUser":
			s.RunAsUser = readPointer(r, (*rawjson.Reader).Int)
		case "runAsGroup":
			s.RunAsGroup = readPointer(r, (*rawjson.Reader).Int)
		case "fsGroup":
			s.FSGroup = readPointer(r, (*rawjson.Reader).Int)
		case "capabilities":
			s.Capabilities = readCapabilities(r)
		case "windowsOptions":
			s.Windows = readPointer(r, readNothing)
		case "appArmorProfile":
			s.AppArmor = readAppArmor(r)
		}
	}
	return s
}

func readAppArmor(r *rawjson.Reader) (a AppArmor) {
	for name := range r.Members {
		switch name {
		case "type":
			a.Type = r.Text()
		case "localhostProfile":
			a.Profile = r.Text()
		}
	}
	return a
}

func readCapabilities(r *rawjson.Reader) (c Capabilities) {
	for name := range r.Members {
		switch name {
		case "add":
			c.Add = readAll(r, (*rawjson.Reader).Text)
		case "drop":
			c.Drop = readAll(r, (*rawjson.Reader).Text)
		}
	}
	return c
}

func readResources(resources *rawjson.Reader) (all Resources) {
	amount := func(r *rawjson.Reader) (ignored Amount) {
		r.Skip()
		return ignored
	}
	for name := range resources.Members {
		switch name {
		case "requests":
			all.Requests = readMap(resources, amount)
		case "limits":
			all.Limits = readMap(resources, amount)
		}
	}
	return all
}

func readVolume(r *rawjson.Reader) (v Volume) {
	for name := range r.Members {
		switch name {
		case "name":
			v.Name = r.Text()
		case "emptyDir":
			v.EmptyDir = readPointer(r, readEmptyDir)
		case "configMap":
			v.ConfigMap = readPointer(r, readNothing)
		case "secret":
			v.Secret = readPointer(r, readSecret)
		case "downwardAPI":
			v.DownwardAPI = readPointer(r, readNothing)
		case "projected":
			v.Projected = readPointer(r, readProjected)
		case "image":
			v.Image = readPointer(r, readImage)
		case "awsElasticBlockStore", "azureDisk", "azureFile", "cephfs", "cinder", "csi", "fc", "flexVolume", "gcePersistentDisk", "glusterfs",
			"iscsi", "nfs", "persistentVolumeClaim", "portworxVolume", "quobyte", "rbd", "scaleIO", "storageos":
			v.ReadOnly = readReadOnly(r)
		}
	}
	return v
}

func readReadOnly(r *rawjson.Reader) (readOnly bool) {
	for name := range r.Members {
		if name == "readOnly" {
			readOnly = r.Bool()
		}
	}
	return readOnly
}

func readEmptyDir(r *rawjson.Reader) (d EmptyDir) {
	for name := range r.Members {
		if name == "medium" {
			d.Medium = r.Text()
		}
	}
	return d
}

func readImage(r *rawjson.Reader) (i ImageSource) {
	for name := range r.Members {
		if name == "reference" {
			i.Reference = r.Text()
		}
	}
	return i
}

func readSecret(r *rawjson.Reader) (s SecretSource) {
	for name := range r.Members {
		if name == "secretName" {
			s.SecretName = r.Text()
		}
	}
	return s
}

func readProjected(r *rawjson.Reader) (p ProjectedSource) {
	for name := range r.Members {
		if name == "sources" {
			p.Sources = readAll(r, readProjection)
		}
	}
	return p
}

func readProjection(r *rawjson.Reader) (p Projection) {
	for name := range r.Members {
		if name == "serviceAccountToken" {
			p.Token = readPointer(r, readToken)
		}
	}
	return p
}

func readToken(r *rawjson.Reader) (t TokenSource) {
	for name := range r.Members {
		switch name {
		case "audience":
			t.Audience = r.Text()
		case "path":
			t.Path = r.Text()
		}
	}
	return t
}

func readContainer(r *rawjson.Reader) (c Container) {
	start := r.At()
	for name := range r.Members {
		switch name {
		case "name":
			c.Name = r.Text()
		case "command":
			c.Command = readAll(r, (*rawjson.Reader).Text)
		case "args":
			c.Args = readAll(r, (*rawjson.Reader).Text)
		case "restartPolicy":
			c.RestartPolicy = r.Text()
		case "securityContext":
			c.SecurityContext = readSecurityContext(r)
		case "resources":
			c.Guaranteed = readGuarantee(r)
		case "env":
			c.Env = readMany(r, readSetting)
		case "ports":
			c.Ports = readAll(r, readPort)
		case "volumeMounts":
			c.VolumeMounts = readAll(r, readMount)
		}
	}
	if ours(c.Name) {
		c.Text = r.Since(start)
	}
	return c
}

func readName(r *rawjson.Reader) (n string) {
	for name := range r.Members {
		if name == "name" {
			n = r.Text()
		}
	}
	return n
}

func readReference(r *rawjson.Reader) Reference { return Reference{readName(r)} }

func readSetting(r *rawjson.Reader) (s Setting) {
	for name := range r.Members {
		switch name {
		case "name":
			s.Name = r.Text()
		case "value":
			s.Value = r.Text()
		}
	}
	return s
}

func readPort(r *rawjson.Reader) (p Port) {
	for name := range r.Members {
		if name == "containerPort" {
			p.ContainerPort = int(r.Int())
		}
	}
	return p
}

func readMount(r *rawjson.Reader) (m Mount) {
	for name := range r.Members {
		switch name {
		case "name":
			m.Name = r.Text()
		case "mountPath":
			m.MountPath = r.Text()
		case "readOnly":
			m.ReadOnly = r.Bool()
		case "subPath":
			m.SubPath = r.Text()
		case "subPathExpr":
			m.Expr = r.Text()
		case "mountPropagation":
			m.Propagation = r.Text()
		}
	}
	return m
}

// readAll reads an array: nil for null, which a patch must replace, and else not nil.
func readAll[T any](r *rawjson.Reader, read func(*rawjson.Reader) T) []T {
	return appendAll([]T{}, r, read, rawjson.MaxElements, "elements")
}

// readMany is readAll for what there are often many of.
func readMany[T any](r *rawjson.Reader, read func(*rawjson.Reader) T) []T {
	return appendAll(make([]T, 0, 16), r, read, rawjson.MaxElements, "elements")
}

func appendAll[T any](all []T, r *rawjson.Reader, read func(*rawjson.Reader) T, limit int, what string) []T {
	if r.Null() {
		return nil
	}
	for range r.Elements {
		r.Count(len(all), limit, what)
		all = append(all, read(r))
	}
	return all
}

func readMap[T any](r *rawjson.Reader, read func(*rawjson.Reader) T) map[string]T {
	if r.Null() {
		return nil
	}
	all := map[string]T{}
	for name := range r.Members {
		r.Count(len(all), rawjson.MaxElements, "entries")
		all[name] = read(r)
	}
	return all
}

// readPointer is nil for null.
func readPointer[T any](r *rawjson.Reader, read func(*rawjson.Reader) T) *T {
	if r.Null() {
		return nil
	}
	return new(read(r))
}

// readNothing is for what matters by being there.
func readNothing(r *rawjson.Reader) (nothing struct{}) {
	r.Members(nil)
	return nothing
}
