package injector

import (
	"bytes"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// Here annotations are found, one kind after the other, that ask for something else than an agent was told, or that say something else
// of an injected pod than it has.

func otherFiles(spec *config.Spec, was, now config.Agent) (annotations []string) {
	before := by(was.Files, func(f config.File) string { return f.Path })
	for i, want := range now.Files {
		f, found := before[want.Path]
		if spec.Secrets[i].Mode == nil {
			want.Mode = f.Mode // who reads the files may have changed
		}
		if !found || !bytes.Equal(appendFile(nil, want), appendFile(nil, f)) {
			annotations = append(annotations, "secret."+spec.Secrets[i].File)
		}
	}
	return annotations
}

// by is a list by the names of its items. What is written in a pod may be long.
func by[T any](list []T, name func(T) string) map[string]T {
	items := make(map[string]T, len(list))
	for _, item := range list {
		items[name(item)] = item
	}
	return items
}

// otherViews are secrets for containers that have other files already: the views are numbered, so that the agent may have been told
// the same.
func (r *Request) otherViews() (annotations []string) {
	for c := range r.Pod.Spec.each {
		own := r.secretsVolume(c.Name)
		if !selected(&r.Spec, c.Name) || !slices.ContainsFunc(c.VolumeMounts, func(m Mount) bool {
			return strings.HasPrefix(m.Name, SecretsVolume) && m.Name != own && m.path() == r.Spec.MountPath
		}) {
			continue
		}
		for _, s := range r.Spec.Secrets {
			if slices.Contains(s.Containers, c.Name) || own == SecretsVolume && len(s.Containers) > 0 {
				annotations = append(annotations, "secret."+s.File)
			}
		}
	}
	return annotations
}

func otherVariables(was, now config.Agent) (annotations []string) {
	before := by(was.Env, func(v config.Variable) string { return v.Name })
	for _, v := range now.Env {
		if before[v.Name] != v {
			annotations = append(annotations, "env."+v.Name)
		}
	}
	return annotations
}

func otherAPI(was, now *config.LocalAPI) (annotations []string) {
	switch {
	case now == nil:
		return nil
	case was == nil:
		return []string{"api"}
	case was.Socket != now.Socket && now.Socket != "":
		annotations = append(annotations, "api-socket")
	case was.Port != now.Port:
		annotations = append(annotations, "api-port")
	}
	if !slices.Equal(was.Allow, now.Allow) {
		annotations = append(annotations, "api-allow")
	}
	return annotations
}

func otherServer(spec *config.Spec, was config.Agent) (annotations []string) {
	if spec.Identity.Kind != was.Identity.Kind {
		annotations = append(annotations, "identity")
	}
	if spec.Endpoint != "" && spec.Endpoint != was.KMS.Host {
		annotations = append(annotations, "endpoint")
	}
	return annotations
}

// otherRole looks at the pod's own annotations only: the ServiceAccount's may be others by now.
func (r *Request) otherRole() []string {
	role := r.Pod.Spec.told(config.AccessKeyRoleEnv)
	switch {
	case role == "" || role == r.RoleARN:
		return nil
	case r.Spec.RoleARN != "":
		return []string{"role-arn"}
	case r.Spec.RoleName != "":
		return []string{"role-name"}
	}
	return nil
}

func (r *Request) otherMode() []string {
	if r.Spec.Mode == config.ModeInit && r.Pod.Spec.has(ContainerName) {
		return []string{"mode"}
	}
	return nil // what is missing comes
}

// otherPlaces looks at mounts as they are written here.
func (r *Request) otherPlaces() (annotations []string) {
	for c := range r.Pod.Spec.each {
		own := r.secretsVolume(c.Name)
		i := slices.IndexFunc(c.VolumeMounts, func(m Mount) bool { return m.Name == own && m.ReadOnly && !m.part() })
		switch {
		case i < 0 || ours(c.Name):
		case selected(&r.Spec, c.Name) && c.VolumeMounts[i].path() != r.Spec.MountPath:
			annotations = append(annotations, "mount-path")
		case selected(&r.Spec, c.Name):
		case len(r.Spec.Containers) > 0:
			annotations = append(annotations, "containers")
		default:
			annotations = append(annotations, "skip-containers")
		}
	}
	return annotations
}

func (in *Injector) otherSettings(spec *config.Spec, was config.Agent) (annotations []string) {
	for _, s := range []struct {
		annotation string
		other      bool
	}{
		{"log-format", spec.LogFormat != was.LogFormat},
		{"log-level", spec.LogLevel != was.LogLevel},
		{"on-change", spec.OnChange != was.OnChange},
		{"refresh-interval", config.Duration(spec.RefreshInterval) != was.RefreshInterval && config.Duration(in.refreshInterval(spec)) != was.RefreshInterval},
		{"region", spec.Region != "" && spec.Endpoint == "" && in.kmsHost(spec) != was.KMS.Host},
	} {
		if s.other {
			annotations = append(annotations, s.annotation)
		}
	}
	return annotations
}

// surplus is what the agent was told and nobody asks for any more.
func surplus(was, now config.Agent) (what []string) {
	files := by(now.Files, func(f config.File) string { return f.Path })
	for _, f := range was.Files {
		if _, wanted := files[f.Path]; !wanted {
			what = append(what, "the file "+f.Path)
		}
	}
	variables := by(now.Env, func(v config.Variable) string { return v.Name })
	for _, v := range was.Env {
		if _, wanted := variables[v.Name]; !wanted {
			what = append(what, "the variable "+v.Name)
		}
	}
	if was.API != nil && now.API == nil {
		what = append(what, "the local API")
	}
	return what
}
