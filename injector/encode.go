package injector

import (
	"maps"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// What follows appends, as JSON, the Kubernetes types that a patch is made of: those of their fields that the injector sets,
// which a test holds to encoding/json. encoding/json itself would take longer than everything else that a plan needs.

// A value is what a patch adds.
type value interface {
	string | corev1.Container | corev1.EnvVar | corev1.Volume | corev1.VolumeMount
}

func appendValue[V value](b []byte, v V) []byte {
	switch v := any(v).(type) {
	case string:
		return rawjson.AppendString(b, v)
	case corev1.Container:
		return appendContainer(b, v)
	case corev1.EnvVar:
		return appendEnvVar(b, v)
	case corev1.Volume:
		return appendVolume(b, v)
	case corev1.VolumeMount:
		return appendVolumeMount(b, v)
	}
	panic("unreachable: a value is one of the above")
}

func appendContainer(b []byte, c corev1.Container) []byte {
	b = appendText(append(b, '{'), "name", c.Name)
	b = appendText(b, "image", c.Image)
	b = appendList(b, "command", c.Command, rawjson.AppendString)
	b = appendList(b, "args", c.Args, rawjson.AppendString)
	b = appendList(b, "ports", c.Ports, appendPort)
	b = appendList(b, "env", c.Env, appendEnvVar)
	b = appendResources(rawjson.AppendName(b, "resources"), c.Resources)
	if c.RestartPolicy != nil {
		b = appendText(b, "restartPolicy", *c.RestartPolicy)
	}
	b = appendList(b, "volumeMounts", c.VolumeMounts, appendVolumeMount)
	if c.StartupProbe != nil {
		b = appendProbe(rawjson.AppendName(b, "startupProbe"), c.StartupProbe)
	}
	b = appendText(b, "terminationMessagePolicy", c.TerminationMessagePolicy)
	b = appendText(b, "imagePullPolicy", c.ImagePullPolicy)
	if c.SecurityContext != nil {
		b = appendSecurityContext(rawjson.AppendName(b, "securityContext"), c.SecurityContext)
	}
	return append(b, '}')
}

func appendPort(b []byte, p corev1.ContainerPort) []byte {
	b = appendText(append(b, '{'), "name", p.Name)
	return append(appendInt(b, "containerPort", new(p.ContainerPort)), '}')
}

func appendEnvVar(b []byte, e corev1.EnvVar) []byte {
	b = appendText(append(b, '{'), "name", e.Name)
	b = appendText(b, "value", e.Value)
	if e.ValueFrom == nil {
		return append(b, '}')
	}
	b = append(rawjson.AppendName(b, "valueFrom"), '{')
	if field := e.ValueFrom.FieldRef; field != nil {
		b = append(rawjson.AppendName(b, "fieldRef"), '{')
		b = append(appendText(b, "fieldPath", field.FieldPath), '}')
	}
	if secret := e.ValueFrom.SecretKeyRef; secret != nil {
		b = append(rawjson.AppendName(b, "secretKeyRef"), '{')
		b = appendText(b, "name", secret.Name)
		b = appendText(b, "key", secret.Key)
		b = append(appendBool(b, "optional", secret.Optional), '}')
	}
	return append(b, '}', '}')
}

func appendResources(b []byte, r corev1.ResourceRequirements) []byte {
	b = append(b, '{')
	for _, list := range []struct {
		name string
		of   corev1.ResourceList
	}{{"limits", r.Limits}, {"requests", r.Requests}} {
		if len(list.of) == 0 {
			continue
		}
		b = append(rawjson.AppendName(b, list.name), '{')
		for _, name := range slices.Sorted(maps.Keys(list.of)) {
			amount := list.of[name]
			b = appendText(b, string(name), amount.String())
		}
		b = append(b, '}')
	}
	return append(b, '}')
}

func appendVolumeMount(b []byte, m corev1.VolumeMount) []byte {
	b = appendText(append(b, '{'), "name", m.Name)
	if m.ReadOnly {
		b = appendBool(b, "readOnly", &m.ReadOnly)
	}
	return append(appendText(b, "mountPath", m.MountPath), '}')
}

func appendProbe(b []byte, p *corev1.Probe) []byte {
	b = append(b, '{')
	if p.Exec != nil {
		b = append(rawjson.AppendName(b, "exec"), '{')
		b = append(appendList(b, "command", p.Exec.Command, rawjson.AppendString), '}')
	}
	b = appendInt(b, "timeoutSeconds", &p.TimeoutSeconds)
	b = appendInt(b, "periodSeconds", &p.PeriodSeconds)
	return append(appendInt(b, "failureThreshold", &p.FailureThreshold), '}')
}

func appendSecurityContext(b []byte, s *corev1.SecurityContext) []byte {
	b = append(b, '{')
	if s.Capabilities != nil {
		b = append(rawjson.AppendName(b, "capabilities"), '{')
		b = append(appendList(b, "drop", s.Capabilities.Drop, rawjson.AppendString), '}')
	}
	b = appendInt(b, "runAsUser", s.RunAsUser)
	b = appendInt(b, "runAsGroup", s.RunAsGroup)
	b = appendBool(b, "runAsNonRoot", s.RunAsNonRoot)
	b = appendBool(b, "readOnlyRootFilesystem", s.ReadOnlyRootFilesystem)
	b = appendBool(b, "allowPrivilegeEscalation", s.AllowPrivilegeEscalation)
	if s.SeccompProfile != nil {
		b = append(rawjson.AppendName(b, "seccompProfile"), '{')
		b = append(appendText(b, "type", s.SeccompProfile.Type), '}')
	}
	return append(b, '}')
}

func appendVolume(b []byte, v corev1.Volume) []byte {
	b = appendText(append(b, '{'), "name", v.Name)
	if dir := v.EmptyDir; dir != nil {
		b = appendText(append(rawjson.AppendName(b, "emptyDir"), '{'), "medium", dir.Medium)
		if dir.SizeLimit != nil {
			b = appendText(b, "sizeLimit", dir.SizeLimit.String())
		}
		b = append(b, '}')
	}
	if image := v.Image; image != nil {
		b = appendText(append(rawjson.AppendName(b, "image"), '{'), "reference", image.Reference)
		b = append(appendText(b, "pullPolicy", image.PullPolicy), '}')
	}
	if secret := v.Secret; secret != nil {
		b = appendText(append(rawjson.AppendName(b, "secret"), '{'), "secretName", secret.SecretName)
		b = appendList(b, "items", secret.Items, func(b []byte, item corev1.KeyToPath) []byte {
			b = appendText(append(b, '{'), "key", item.Key)
			return append(appendText(b, "path", item.Path), '}')
		})
		b = append(appendInt(b, "defaultMode", secret.DefaultMode), '}')
	}
	if projected := v.Projected; projected != nil {
		b = append(rawjson.AppendName(b, "projected"), '{')
		b = appendList(b, "sources", projected.Sources, appendProjection)
		b = append(appendInt(b, "defaultMode", projected.DefaultMode), '}')
	}
	return append(b, '}')
}

func appendProjection(b []byte, p corev1.VolumeProjection) []byte {
	b = append(b, '{')
	if token := p.ServiceAccountToken; token != nil {
		b = appendText(append(rawjson.AppendName(b, "serviceAccountToken"), '{'), "audience", token.Audience)
		b = appendInt(b, "expirationSeconds", token.ExpirationSeconds)
		b = append(appendText(b, "path", token.Path), '}')
	}
	return append(b, '}')
}

// A member that is empty, or nil, is left out.

func appendText[S ~string](b []byte, name string, s S) []byte {
	if s == "" {
		return b
	}
	return rawjson.AppendString(rawjson.AppendName(b, name), s)
}

func appendBool(b []byte, name string, v *bool) []byte {
	if v == nil {
		return b
	}
	return strconv.AppendBool(rawjson.AppendName(b, name), *v)
}

func appendInt[I int32 | int64](b []byte, name string, n *I) []byte {
	if n == nil {
		return b
	}
	return strconv.AppendInt(rawjson.AppendName(b, name), int64(*n), 10)
}

func appendList[T any](b []byte, name string, list []T, appendItem func([]byte, T) []byte) []byte {
	if len(list) == 0 {
		return b
	}
	b = append(rawjson.AppendName(b, name), '[')
	for i, item := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendItem(b, item)
	}
	return append(b, ']')
}
