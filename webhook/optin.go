package webhook

import (
	"context"
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// optedOut says why pods of a namespace with the labels are not injected, "" if they are.
func (j *judge) optedOut(namespace string, labels map[string]string) string {
	value, labelled := labels[config.NamespaceLabel]
	switch {
	case j.metadata.scope.excludes(namespace, labels):
		return fmt.Sprintf("nothing will be injected: namespace %s is excluded, whatever its labels say", namespace)
	case value == config.NamespaceLabelValue:
		return ""
	case labelled:
		return fmt.Sprintf("nothing will be injected: namespace %s has the label %s=%s, which must be %s", namespace, config.NamespaceLabel, value, config.NamespaceLabelValue)
	}
	return fmt.Sprintf("nothing will be injected: namespace %s has not opted in; run kubectl label namespace %s %s=%s",
		namespace, namespace, config.NamespaceLabel, config.NamespaceLabelValue)
}

// bare decides on a pod that somebody makes without a controller where the webhook for pods is not called.
func (j *judge) bare(ctx context.Context, req *review.Request[injector.Pod]) review.Verdict {
	spec, mistakes := config.Parse(req.Object.Metadata.Annotations, j.checks)
	if v, outside := j.outside(ctx, req.Source, req.Namespace, spec, mistakes); outside {
		return v
	}
	return skipped(reasonNotAsked)
}

// outside is the verdict on a pod or template that asks for secrets, by what config.Parse made of its annotations, in a namespace
// that has not opted in. It only warns, also of what would be refused on the day on which the namespace opts in: nobody is held
// up there.
func (j *judge) outside(ctx context.Context, source, namespace string, spec config.Spec, mistakes error) (v review.Verdict, outside bool) {
	if mistakes == nil && !spec.Inject {
		return review.Verdict{}, false
	}
	labels, err := j.metadata.labels(ctx, source, namespace)
	if err != nil {
		return review.Failed(reasonKube, err), true
	}
	why := j.optedOut(namespace, labels)
	if why == "" {
		return review.Verdict{}, false
	}
	v = review.Verdict{Result: review.Skipped, Reason: reasonNotLabelled, Warnings: []string{why}}
	if mistakes != nil {
		v.Warnings = append(v.Warnings, "it would be refused otherwise: "+mistakes.Error())
	}
	return v, true
}
