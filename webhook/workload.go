package webhook

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// A workload makes pods: a Deployment, StatefulSet, DaemonSet, ReplicaSet or Job by its template, a CronJob by its Jobs' template.
type workload struct {
	Metadata struct {
		Annotations       map[string]string `json:"annotations"`
		DeletionTimestamp string            `json:"deletionTimestamp"` // while it waits for finalizers
	} `json:"metadata"`
	Spec struct {
		Template             *injector.Pod `json:"template"`
		JobTemplate          *workload     `json:"jobTemplate"`
		VolumeClaimTemplates []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"volumeClaimTemplates"`
	} `json:"spec"`
}

// KeepTexts is that of the template.
func (w *workload) KeepTexts(document []byte) {
	of, _ := w.pods()
	if of.Spec.Template != nil {
		of.Spec.Template.KeepTexts(document)
	}
}

// pods returns what has the template of the pods, w itself or a CronJob's template of Jobs, and the path of the template.
func (w *workload) pods() (of *workload, path string) {
	for of, path = w, "spec.template"; of.Spec.JobTemplate != nil; of = of.Spec.JobTemplate {
		path = "spec.jobTemplate." + path
	}
	return of, path
}

func (w *workload) template() injector.Pod {
	if of, _ := w.pods(); of.Spec.Template != nil {
		return *of.Spec.Template
	}
	return injector.Pod{}
}

// claims returns the names of a StatefulSet's volumeClaimTemplates.
func (w *workload) claims() (names []string) {
	of, _ := w.pods()
	for _, claim := range of.Spec.VolumeClaimTemplates {
		if claim.Metadata.Name != "" {
			names = append(names, claim.Metadata.Name)
		}
	}
	return names
}

// misplaced warns of annotations that have no effect where they are.
func (w *workload) misplaced() []string {
	var above []string
	for of := w; of != nil; of = of.Spec.JobTemplate {
		for key := range of.Metadata.Annotations {
			if strings.HasPrefix(key, config.Prefix) {
				above = append(above, key)
			}
		}
	}
	slices.Sort(above)
	stray := config.Misplaced(above, w.template().Metadata.Annotations)
	if len(stray) == 0 {
		return nil
	}
	_, path := w.pods()
	return []string{fmt.Sprintf("%s: has no effect here, only on pods; move it to %s.metadata.annotations", strings.Join(stray, ", "), path)}
}
