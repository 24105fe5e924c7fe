package webhook

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/workload"
)

// workload decides on a workload by what would happen to its pods. What may be put right before they start is a warning. So is
// everything about an update that leaves our annotations as they were: a workload that was made before us, or before the
// operator's policy, must still be scaled, paused and deleted.
func (j *judge) workload(ctx context.Context, req *review.Request[workload.Workload]) review.Verdict {
	pod := req.Object.Template
	spec, mistakes := config.Parse(pod.Metadata.Annotations, j.checks)
	v, outside := j.outside(ctx, req.Source, req.Namespace, spec, mistakes)
	if !outside {
		v = j.template(ctx, req.Source, req.Namespace, req.Object, spec, mistakes)
	}
	unchanged := req.Operation == "UPDATE" && maps.Equal(own(pod), own(req.OldObject.Template))
	if v.Err != nil && (unchanged || req.Object.Deleted) {
		v = review.Verdict{Result: review.Skipped, Reason: v.Reason, Warnings: append(v.Warnings, "its pods will be refused: "+v.Err.Error())}
	}
	v.Warnings = slices.Concat(req.Object.Misplaced(), misspelt(pod), v.Warnings)
	return v
}

func (j *judge) template(ctx context.Context, source, namespace string, of workload.Workload, spec config.Spec, mistakes error) review.Verdict {
	pod := of.Template
	if mistakes != nil {
		return denied(reasonAnnotations, mistakes)
	}
	if !spec.Inject {
		return notAsked(pod)
	}
	labels, err := j.metadata.labels(ctx, source, namespace)
	if err != nil {
		return review.Failed(reasonKube, err)
	}
	in := j.policy.current().In(namespace, labels)
	var wrong refusals
	wrong.add(reasonPolicy, in.Allowed(spec, namespace))
	var warnings []string
	if _, marked := pod.Metadata.Annotations[config.InjectedAnnotation]; marked {
		warnings = append(warnings, config.InjectedAnnotation+" is written by the webhook into pods; remove it from the template")
	}
	role, err := j.metadata.role(ctx, source, spec, in.Policy(), rrsa.ServiceAccount{Namespace: namespace, Name: injector.ServiceAccountOf(pod)})
	outage := new(outageError)
	switch {
	case errors.As(err, &outage):
		warnings = append(warnings, fmt.Sprintf("its role was not checked: %s", err))
	case err != nil && rrsa.FromPod(spec):
		wrong.add(reasonRole, err)
	case err != nil:
		warnings = append(warnings, "its pods will be refused until this is put right: "+err.Error())
	}
	v := plan(in, injector.Request{Pod: pod, Namespace: namespace, Spec: spec, RoleARN: role, Claims: of.Claims})
	warnings = append(warnings, v.Warnings...)
	if v.Result == review.Errored {
		return v
	}
	if wrong.add(reasonPod, v.Err); wrong.reason != "" {
		v = wrong.verdict()
	} else {
		v = review.Verdict{Result: review.Skipped, Reason: reasonValid}
	}
	v.Warnings = warnings
	return v
}

// own are the annotations that are our business.
func own(pod injector.Pod) map[string]string {
	found := map[string]string{}
	for key, value := range pod.Metadata.Annotations {
		if strings.HasPrefix(key, config.Prefix) {
			found[key] = value
		}
	}
	return found
}

// misspelt warns of annotations that nobody reads for a mistake in their prefix.
func misspelt(pod injector.Pod) (warnings []string) {
	meant := config.Misspelt(pod.Metadata.Annotations)
	if len(meant) == 0 {
		return nil
	}
	const most = 50
	for i, key := range slices.Sorted(maps.Keys(meant)) {
		if i == most {
			return append(warnings, fmt.Sprintf("%d more annotations with a mistake in their prefix are not read by anybody", len(meant)-most))
		}
		warnings = append(warnings, fmt.Sprintf("%s: is not read by anybody; did you mean %s?", key, meant[key]))
	}
	return warnings
}
