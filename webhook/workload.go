package webhook

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// A workload makes pods: a Deployment, StatefulSet, DaemonSet, ReplicaSet or Job by its template, a CronJob by its Jobs' template.
type workload struct {
	Metadata workloadMetadata `json:"metadata"`
	Spec     struct {
		Template    *injector.Pod `json:"template"`
		JobTemplate *struct {
			Metadata workloadMetadata `json:"metadata"`
			Spec     struct {
				Template *injector.Pod `json:"template"`
			} `json:"spec"`
		} `json:"jobTemplate"`
		VolumeClaimTemplates []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"volumeClaimTemplates"`
	} `json:"spec"`
}

type workloadMetadata struct {
	Annotations       map[string]string `json:"annotations"`
	DeletionTimestamp string            `json:"deletionTimestamp"` // while it waits for finalizers
}

// KeepTexts keeps the texts of the template.
func (w *workload) KeepTexts(document []byte) {
	if pod, _ := w.pod(); pod != nil {
		pod.KeepTexts(document)
	}
}

// pod returns the template, nil for none, and its path.
func (w *workload) pod() (*injector.Pod, string) {
	if jobs := w.Spec.JobTemplate; jobs != nil {
		return jobs.Spec.Template, "spec.jobTemplate.spec.template"
	}
	return w.Spec.Template, "spec.template"
}

// template returns the template, an empty one for none.
func (w *workload) template() injector.Pod {
	if pod, _ := w.pod(); pod != nil {
		return *pod
	}
	return injector.Pod{}
}

// claims returns the names of a StatefulSet's volumeClaimTemplates.
func (w *workload) claims() (names []string) {
	for _, claim := range w.Spec.VolumeClaimTemplates {
		if claim.Metadata.Name != "" {
			names = append(names, claim.Metadata.Name)
		}
	}
	return names
}

// misplaced warns of annotations that have no effect where they are.
func (w *workload) misplaced() []string {
	keys := slices.Collect(maps.Keys(w.Metadata.Annotations))
	if jobs := w.Spec.JobTemplate; jobs != nil {
		keys = slices.AppendSeq(keys, maps.Keys(jobs.Metadata.Annotations))
	}
	above := slices.DeleteFunc(keys, func(key string) bool { return !strings.HasPrefix(key, podconfig.Prefix) })
	slices.Sort(above)
	stray := podconfig.Misplaced(above, w.template().Metadata.Annotations)
	if len(stray) == 0 {
		return nil
	}
	_, path := w.pod()
	return []string{fmt.Sprintf("%s: has no effect here, only on pods; move it to %s.metadata.annotations", strings.Join(stray, ", "), path)}
}
