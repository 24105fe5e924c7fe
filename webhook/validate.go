package webhook

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// validateWorkload decides on a workload as the webhook would on its pods. A problem that may be solved before they start is a warning. So
// is every problem of an update that does not change our annotations: a workload that is older than the webhook, or than a change of its
// configuration, can still be scaled, paused and deleted.
func (a *admission) validateWorkload(ctx context.Context, req *review.Request[workload]) review.Verdict {
	pod := req.Object.template()
	v := a.template(ctx, req, pod)
	unchanged := req.Operation == "UPDATE" && maps.Equal(own(pod), own(req.OldObject.template()))
	if v.Err != nil && (unchanged || req.Object.Metadata.DeletionTimestamp != "") {
		v = review.Verdict{Result: review.Skipped, Reason: v.Reason, Warnings: append(v.Warnings, "its pods will be refused: "+v.Err.Error())}
	}
	v.Warnings = slices.Concat(req.Object.misplaced(), misspelt(pod), v.Warnings)
	return v
}

func (a *admission) template(ctx context.Context, req *review.Request[workload], pod injector.Pod) review.Verdict {
	labels, v, outside := a.outside(ctx, req.Source, req.Namespace, pod)
	if outside {
		return v
	}
	d, outage := a.decide(ctx, req.Source, labels, injector.Request{Namespace: req.Namespace, Pod: pod, Claims: req.Object.claims()})
	switch {
	case !d.Asked:
		return review.Verdict{Result: review.Skipped, Reason: reasonNotAsked, Warnings: d.Warnings}
	case d.Reason == injector.WrongAnnotations:
		return denied(d.Reason, d.Refused())
	}
	var warnings []string
	if _, marked := pod.Metadata.Annotations[podconfig.InjectedAnnotation]; marked {
		warnings = append(warnings, podconfig.InjectedAnnotation+" is written by the webhook into pods; remove it from the template")
	}
	switch {
	case outage != nil:
		warnings = append(warnings, fmt.Sprintf("its role was not checked: %s", outage))
	case d.NoRole != nil && d.Spec.RoleARN == "" && d.Spec.RoleName == "": // the ServiceAccount may get its role before the pods come
		warnings = append(warnings, "its pods will be refused until this is put right: "+d.NoRole.Error())
		if d.NoRole = nil; d.Reason == injector.WithoutRole {
			d.Reason = injector.Conflict // if there is one
		}
	}
	v = review.Verdict{Result: review.Skipped, Reason: reasonValid}
	if refused := d.Refused(); refused != nil {
		v = denied(d.Reason, refused)
	}
	v.Warnings = slices.Concat(warnings, d.Warnings)
	return v
}

// validateBarePod decides on a pod without a controller in a namespace that has not opted in.
func (a *admission) validateBarePod(ctx context.Context, req *review.Request[injector.Pod]) review.Verdict {
	if _, v, outside := a.outside(ctx, req.Source, req.Namespace, req.Object); outside {
		return v
	}
	return skipped(reasonNotAsked)
}

// outside returns the labels of a namespace that has opted in, or else the verdict on a pod or template in it. That verdict only warns,
// also of problems for which the pod would be refused once the namespace opts in.
func (a *admission) outside(
	ctx context.Context, source, namespace string, pod injector.Pod,
) (labels map[string]string, v review.Verdict, outside bool) {
	if len(own(pod)) == 0 {
		return nil, review.Verdict{}, false
	}
	labels, err := a.metadata.labels(ctx, source, namespace, func(cached map[string]string) bool {
		return a.optedOut(namespace, cached) == ""
	})
	if err != nil {
		return nil, review.Failed(reasonKube, err), true
	}
	why := a.optedOut(namespace, labels)
	if why == "" {
		return labels, review.Verdict{}, false
	}
	spec, mistakes := injector.Parse(pod.Metadata.Annotations)
	switch {
	case len(mistakes) > 0:
		return nil, review.Verdict{
			Result: review.Skipped, Reason: reasonNotLabelled, Warnings: []string{why, "it would be refused otherwise: " + mistakes.Error()},
		}, true
	case !spec.Inject:
		return nil, review.Verdict{}, false
	}
	return nil, review.Verdict{Result: review.Skipped, Reason: reasonNotLabelled, Warnings: []string{why}}, true
}

// optedOut says why pods of a namespace with the labels are not injected, "" if they are.
func (a *admission) optedOut(namespace string, labels map[string]string) string {
	const nothing = "nothing will be injected: namespace "
	value, labelled := labels[podconfig.NamespaceLabel]
	switch {
	case a.metadata.scope.excludes(namespace, labels):
		return nothing + namespace + " is excluded, whatever its labels say"
	case value == podconfig.NamespaceLabelValue:
		return ""
	case labelled:
		return fmt.Sprintf("%s%s has the label %s=%s, which must be %s", nothing, namespace, podconfig.NamespaceLabel, value,
			podconfig.NamespaceLabelValue)
	}
	return fmt.Sprintf("%s%s has not opted in; run kubectl label namespace %[2]s %s=%s", nothing, namespace, podconfig.NamespaceLabel,
		podconfig.NamespaceLabelValue)
}

// own returns the annotations with config.Prefix.
func own(pod injector.Pod) map[string]string {
	found := map[string]string{}
	for key, value := range pod.Metadata.Annotations {
		if strings.HasPrefix(key, podconfig.Prefix) {
			found[key] = value
		}
	}
	return found
}

// misspelt warns of annotations that have no effect because of a mistake in their prefix.
func misspelt(pod injector.Pod) (warnings []string) {
	meant := podconfig.Misspelt(pod.Metadata.Annotations)
	if len(meant) == 0 {
		return nil
	}
	const most = 50
	for i, key := range slices.Sorted(maps.Keys(meant)) {
		if i == most {
			return append(warnings, fmt.Sprintf("%d more annotations have no effect because of a mistake in their prefix", len(meant)-most))
		}
		warnings = append(warnings, fmt.Sprintf("%s: has no effect; did you mean %s?", key, meant[key]))
	}
	return warnings
}

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
	stray := podconfig.Misplaced(keys, w.template().Metadata.Annotations)
	if len(stray) == 0 {
		return nil
	}
	_, path := w.pod()
	return []string{fmt.Sprintf("%s: has no effect here, only on pods; move it to %s.metadata.annotations", strings.Join(stray, ", "), path)}
}
