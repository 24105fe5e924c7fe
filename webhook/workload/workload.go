// Package workload reads, of what makes pods, what the decision about it needs: the template of its pods.
package workload

import (
	"fmt"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// A Workload is what makes pods: a Deployment, StatefulSet, DaemonSet, ReplicaSet or Job by its template, a CronJob by its
// Jobs' template.
type Workload struct {
	Template injector.Pod
	Claims   []string // names of a StatefulSet's volumeClaimTemplates
	Deleted  bool     // what is left of it waits for finalizers

	path  string   // of Template
	above []string // our annotations that the workload itself, or a CronJob's template of Jobs, has
}

// Read reads a workload's JSON. The text's own errors are in the Reader's End.
func Read(r *rawjson.Reader) (w Workload) {
	w.read(r, "spec.template")
	return w
}

func (w *Workload) read(r *rawjson.Reader, path string) {
	for name := range r.Members {
		switch name {
		case "metadata":
			w.readMetadata(r)
		case "spec":
			w.readSpec(r, path)
		}
	}
}

func (w *Workload) readSpec(r *rawjson.Reader, path string) {
	for name := range r.Members {
		switch name {
		case "template":
			w.Template, w.path = injector.ReadPod(r), path
		case "jobTemplate":
			w.read(r, "spec.jobTemplate."+path)
		case "volumeClaimTemplates":
			w.Claims = readClaims(r)
		}
	}
}

func readClaims(r *rawjson.Reader) (names []string) {
	if r.Null() {
		return nil
	}
	for range r.Elements {
		for name := range r.Members {
			if name != "metadata" {
				continue
			}
			for name := range r.Members {
				if name == "name" {
					names = append(names, r.Text())
				}
			}
		}
	}
	return names
}

func (w *Workload) readMetadata(r *rawjson.Reader) {
	for name := range r.Members {
		switch name {
		case "deletionTimestamp":
			w.Deleted = r.Text() != ""
		case "annotations":
			for key := range r.Members {
				if strings.HasPrefix(key, config.Prefix) {
					w.above = append(w.above, key)
				}
			}
		}
	}
}

// Misplaced says, for a person, which annotations have no effect where they are.
func (w *Workload) Misplaced() []string {
	stray := config.Misplaced(w.above, w.Template.Metadata.Annotations)
	if len(stray) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s: has no effect here, only on pods; move it to %s.metadata.annotations", strings.Join(stray, ", "), w.path)}
}
