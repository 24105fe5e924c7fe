package webhook

import (
	"fmt"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// A workload is what makes pods: a Deployment, StatefulSet, DaemonSet, ReplicaSet or Job by its template, a CronJob by its
// Jobs' template.
type workload struct {
	template injector.Pod
	path     string   // of the template
	above    []string // our annotations that the workload itself, or a CronJob's template of Jobs, has
	deleted  bool     // what is left of it waits for finalizers
}

func readWorkload(r *rawjson.Reader) (w workload) {
	w.read(r, "spec.template")
	return w
}

func (w *workload) read(r *rawjson.Reader, path string) {
	for name := range r.Members {
		switch string(name) {
		case "metadata":
			w.readMetadata(r)
		case "spec":
			w.readSpec(r, path)
		}
	}
}

func (w *workload) readSpec(r *rawjson.Reader, path string) {
	for name := range r.Members {
		switch string(name) {
		case "template":
			w.template, w.path = injector.ReadPod(r), path
		case "jobTemplate":
			w.read(r, "spec.jobTemplate."+path)
		}
	}
}

func (w *workload) readMetadata(r *rawjson.Reader) {
	for name := range r.Members {
		switch string(name) {
		case "deletionTimestamp":
			w.deleted = r.Text() != ""
		case "annotations":
			for key := range r.Members {
				if strings.HasPrefix(string(key), config.Prefix) {
					w.above = append(w.above, string(key))
				}
			}
		}
	}
}

// misplaced says which annotations have no effect where they are.
func (w *workload) misplaced() []string {
	stray := config.Misplaced(w.above, w.template.Metadata.Annotations)
	if len(stray) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: has no effect here, only on pods; move it to %s.metadata.annotations", strings.Join(stray, ", "), w.path)}
}
