package webhook

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// A workload makes pods: a Deployment, StatefulSet, DaemonSet, ReplicaSet or Job by its template, a CronJob by its Jobs' template.
type workload struct {
	template injector.Pod
	claims   []string // names of a StatefulSet's volumeClaimTemplates
	deleted  bool     // it waits for finalizers

	path  string   // of the template
	above []string // the annotations with config.Prefix that the workload itself, or a CronJob's template of Jobs, has
}

// workloadJSON is what a decision needs of a workload.
type workloadJSON struct {
	Metadata struct {
		Annotations       map[string]string `json:"annotations"`
		DeletionTimestamp string            `json:"deletionTimestamp"`
	} `json:"metadata"`
	Spec struct {
		Template             jsontext.Value `json:"template"`
		JobTemplate          *workloadJSON  `json:"jobTemplate"`
		VolumeClaimTemplates []struct {
			Metadata struct {
				Name string `json:"name"`
			} `json:"metadata"`
		} `json:"volumeClaimTemplates"`
	} `json:"spec"`
}

// decodeWorkload decodes any workload: their kinds differ in where the template is.
func decodeWorkload(document []byte) (w workload, err error) {
	var decoded workloadJSON
	if len(document) > 0 { // as oldObject of a CREATE is not
		err = kubejson.Unmarshal(document, &decoded)
	}
	w.path = "spec.template"
	of := &decoded
	for {
		for key := range of.Metadata.Annotations {
			if strings.HasPrefix(key, config.Prefix) {
				w.above = append(w.above, key)
			}
		}
		if of.Spec.JobTemplate == nil {
			break
		}
		of, w.path = of.Spec.JobTemplate, "spec.jobTemplate."+w.path
	}
	slices.Sort(w.above)
	for _, claim := range of.Spec.VolumeClaimTemplates {
		if claim.Metadata.Name != "" {
			w.claims = append(w.claims, claim.Metadata.Name)
		}
	}
	w.deleted = decoded.Metadata.DeletionTimestamp != ""
	if template := of.Spec.Template; err == nil && len(template) > 0 {
		w.template, err = injector.DecodePod(template)
	}
	return w, err
}

// misplaced warns of annotations that have no effect where they are.
func (w *workload) misplaced() []string {
	stray := config.Misplaced(w.above, w.template.Metadata.Annotations)
	if len(stray) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: has no effect here, only on pods; move it to %s.metadata.annotations", strings.Join(stray, ", "), w.path)}
}
