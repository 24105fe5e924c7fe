// Package migrate says which annotations give workloads what they get from the Secrets of ExternalSecrets.
package migrate

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// A Plan is what becomes of one ExternalSecret.
type Plan struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	Secret    string     `json:"secret"`
	Stays     []string   `json:"stays,omitempty"` // why the Secret has to exist, or cannot be replaced by itself
	Workloads []Workload `json:"workloads,omitempty"`
}

// A Workload is one that the injector can give what the Secret gives it.
type Workload struct {
	Kind           string            `json:"kind"`
	Name           string            `json:"name"`
	ServiceAccount string            `json:"serviceAccount"`
	Path           string            `json:"path"` // of the pod's metadata in the object
	Annotations    map[string]string `json:"annotations"`
	Remove         []string          `json:"remove"` // fields of the pod that read the Secret
}

// Plans returns a plan for each ExternalSecret of the documents, from all that the documents have of its namespace.
func Plans(documents []*manifest.Document, namespace string) ([]Plan, error) {
	var objects []manifest.Object
	for _, d := range documents {
		objects = append(objects, d.Objects()...)
	}
	var plans []Plan
	readers := readers(objects, namespace)
	for _, o := range objects {
		if !o.IsExternalSecret() {
			continue
		}
		es, err := o.ExternalSecret()
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %s: %w", o.Document.File, o.Document.Line, o, err)
		}
		es.Namespace = cmp.Or(o.Namespace, namespace)
		plans = append(plans, planFor(es, readers, namespace))
	}
	contradict(plans)
	return plans, nil
}

// readers returns the objects that may read Secrets. One whose controller has a pod template among them reads what that says.
func readers(objects []manifest.Object, namespace string) []manifest.Object {
	identity := func(o manifest.Object, in string) [4]string {
		group, _, _ := strings.Cut(o.APIVersion, "/")
		return [4]string{cmp.Or(in, namespace), group, o.Kind, o.Name}
	}
	templates := map[[4]string]bool{}
	for _, o := range objects {
		if _, ok := o.Pod(); ok {
			templates[identity(o, o.Namespace)] = true
		}
	}
	return slices.DeleteFunc(slices.Clone(objects), func(o manifest.Object) bool {
		controller, made := o.Controller()
		return o.IsSynced() || o.Kind == "Secret" || made && templates[identity(controller, o.Namespace)]
	})
}

// contradict finds workloads that read several of the Secrets, and cannot have the annotations for both.
func contradict(plans []Plan) {
	for i := range plans {
		for j := range plans {
			for _, w := range plans[i].Workloads {
				for _, other := range plans[j].Workloads {
					if i == j || plans[i].Namespace != plans[j].Namespace || w.Kind != other.Kind || w.Name != other.Name {
						continue
					}
					for _, why := range w.contradictions(other) {
						plans[i].Stays = append(plans[i].Stays, fmt.Sprintf("%s for ExternalSecret %s", why, plans[j].Name))
					}
				}
			}
		}
	}
}

// contradictions are the annotations that cannot be for both. Without containers they are for all containers.
func (w Workload) contradictions(other Workload) (found []string) {
	const containers = podconfig.Prefix + "containers"
	ours, theirs := maps.Clone(w.Annotations), maps.Clone(other.Annotations)
	for _, a := range []map[string]string{ours, theirs} {
		a[containers] = cmp.Or(a[containers], "absent")
	}
	for _, key := range slices.Sorted(maps.Keys(ours)) {
		if value, both := theirs[key]; both && value != ours[key] {
			found = append(found, fmt.Sprintf("%s %s: %s would be %s for it and %s", w.Kind, w.Name, key, ours[key], value))
		}
	}
	return found
}

func planFor(es *v1alpha1.ExternalSecret, objects []manifest.Object, namespace string) Plan {
	p := Plan{Namespace: es.Namespace, Name: es.Name, Secret: cmp.Or(es.Spec.Target.Name, es.Name)}
	keys, reasons := sourcesOf(es)
	p.Stays = reasons
	for _, o := range objects {
		if cmp.Or(o.Namespace, namespace) != p.Namespace {
			continue
		}
		var others []string
		if pod, ok := o.Pod(); ok {
			w, stays := workload(es, p.Secret, keys, pod)
			if others = stays; w != nil {
				others = append(others, unmade(o)...)
				p.Workloads = append(p.Workloads, *w)
			}
		} else {
			others = mentions(o.JSON(), p.Secret)
		}
		for _, why := range others {
			p.Stays = append(p.Stays, fmt.Sprintf("%s %s: %s", o.Kind, o.Name, why))
		}
	}
	return p
}

// unmade is why an object cannot be given annotations.
func unmade(o manifest.Object) []string {
	controller, made := o.Controller()
	if !made {
		return nil
	}
	return []string{fmt.Sprintf("%s %s makes it, and has no pod template among these manifests; add it, or have it make pods without "+
		"the Secret", controller.Kind, controller.Name)}
}

// A source is what one key of the Secret is made of.
type source struct {
	entry *v1alpha1.DataSource
	path  string // JMESPath in it; "": the whole value
}

// sourcesOf returns the sources of the Secret's keys, or why they are not known.
func sourcesOf(es *v1alpha1.ExternalSecret) (keys map[string]source, reasons []string) {
	spec := &es.Spec
	if spec.Provider != "" && spec.Provider != "kms" {
		reasons = append(reasons, "it reads "+spec.Provider+", and the injector reads KMS")
	}
	if len(spec.DataProcess) > 0 {
		reasons = append(reasons, "it has dataProcess, so that only KMS knows its keys; write the files as secret.<file> with format or keys")
	}
	if spec.Target.Template != nil && len(spec.Target.Template.Data) > 0 {
		reasons = append(reasons, "it has target.template.data; write the files as secret.<file> with format: template")
	}
	if spec.Target.CreationPolicy == v1alpha1.CreateMerge {
		reasons = append(reasons, "its keys go into a Secret that others make too (creationPolicy Merge)")
	}
	keys = map[string]source{}
	for i := range spec.Data {
		entry := &spec.Data[i]
		if len(entry.JMESPath) == 0 {
			keys[cmp.Or(entry.Name, entry.Key)] = source{entry, ""}
		}
		for _, o := range entry.JMESPath {
			keys[o.ObjectAlias] = source{entry, o.Path}
		}
	}
	return keys, reasons
}

// workload returns how a pod gets from the injector what it reads of the Secret; nil if it reads nothing of it. Reads that only a Secret
// serves are reasons for it to stay.
func workload(es *v1alpha1.ExternalSecret, secret string, keys map[string]source, pod manifest.Pod) (*Workload, []string) {
	r := reader{secret: secret, keys: keys, annotations: map[string]string{}, in: map[string]bool{}}
	spec, stays := podSpec(pod, secret)
	if spec == nil {
		return nil, stays
	}
	r.volumes(spec)
	containers := slices.Concat(spec.InitContainers, spec.Containers)
	for i := range containers {
		r.environment(&containers[i])
	}
	for i := range containers {
		r.start(&containers[i])
	}
	if stays = append(stays, r.stays...); len(r.remove) == 0 {
		return nil, stays
	}
	r.annotations[podconfig.Prefix+"inject"] = "true"
	if es.Spec.RotationInterval != "" {
		r.annotations[podconfig.Prefix+"refresh-interval"] = es.Spec.RotationInterval
	}
	if len(r.in) < len(containers) {
		r.annotations[podconfig.Prefix+"containers"] = strings.Join(slices.Sorted(maps.Keys(r.in)), ",")
	}
	_, mistakes := injector.Parse(r.annotations)
	for _, m := range mistakes {
		stays = append(stays, "the injector would refuse "+m.Where+": "+m.Problem)
	}
	return &Workload{
		Kind: pod.Object.Kind, Name: pod.Object.Name,
		ServiceAccount: cmp.Or(spec.ServiceAccountName, spec.DeprecatedServiceAccount, "default"),
		Path:           strings.TrimPrefix(pod.Path+".metadata", "."), Annotations: r.annotations, Remove: r.remove,
	}, stays
}

// Text writes plans for people.
func Text(plans []Plan, s screen.Screen) {
	replaced := 0
	for _, p := range plans {
		s.Printf("ExternalSecret %s/%s, Secret %s: ", screen.Line(p.Namespace), screen.Line(p.Name), screen.Line(p.Secret))
		switch {
		case len(p.Stays) > 0:
			s.Printf("stays\n")
			for _, why := range p.Stays {
				s.Printf("  %s\n", screen.Line(why))
			}
		case len(p.Workloads) == 0:
			s.Printf("nothing among these manifests reads it\n")
		default:
			replaced++
			s.Printf("the injector replaces it\n")
			for _, w := range p.Workloads {
				w.text(s)
			}
		}
	}
	s.Printf("%d of %d ExternalSecrets can be replaced\n", replaced, len(plans))
}

func (w Workload) text(s screen.Screen) {
	s.Printf("  %s %s, %s:\n    annotations:\n", screen.Line(w.Kind), screen.Line(w.Name), screen.Line(w.Path))
	for _, key := range slices.Sorted(maps.Keys(w.Annotations)) {
		value := w.Annotations[key]
		if !strings.Contains(value, "\n") {
			s.Printf("      %s: %s\n", screen.Line(key), screen.Line(quoted(value)))
			continue
		}
		s.Printf("      %s: |\n", screen.Line(key))
		for line := range strings.Lines(value) {
			s.Printf("        %s\n", screen.Line(strings.TrimSuffix(line, "\n")))
		}
	}
	s.Printf("    remove: %s\n", screen.Line(strings.Join(w.Remove, ", ")))
	s.Printf("    ServiceAccount %s needs a RAM role that may read these secrets\n", screen.Line(w.ServiceAccount))
}

// quoted is a text as every version of YAML reads it back as one.
func quoted(text string) string {
	scalar, err := yaml.Marshal(text)
	if err != nil {
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSuffix(string(scalar), "\n")
}
