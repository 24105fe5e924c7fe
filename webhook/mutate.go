package webhook

import (
	"context"
	"errors"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// mirrorAnnotation marks a static pod's image in the API server. The kubelet runs the pod from its own file: nothing that is
// added to the image would ever exist.
const mirrorAnnotation = "kubernetes.io/config.mirror"

// A judge decides on pods and workloads by the operator's policy of the moment.
type judge struct {
	policy   *policy
	accounts accounts
	checks   config.Checks
}

// pod decides on a pod that is about to be created.
func (j *judge) pod(ctx context.Context, req *request[injector.Pod]) verdict {
	pod := req.Object
	if _, mirror := pod.Metadata.Annotations[mirrorAnnotation]; mirror {
		return skipped(reasonMirror)
	}
	spec, err := config.Parse(pod.Metadata.Annotations, j.checks)
	if err != nil {
		return denied(reasonAnnotations, err)
	}
	if !spec.Inject {
		return skipped(reasonNotAsked)
	}
	in := j.policy.current()
	if err := in.Allowed(spec, req.Namespace); err != nil {
		return denied(reasonPolicy, err)
	}
	role, err := j.accounts.role(ctx, spec, in.Policy(), req.Namespace, injector.ServiceAccountOf(pod))
	if outage := new(outageError); errors.As(err, &outage) {
		return failed(reasonKube, err)
	} else if err != nil {
		return denied(reasonRole, err)
	}
	v := plan(in, injector.Request{Pod: pod, Namespace: req.Namespace, Spec: spec, RoleARN: role})
	if v.err == nil {
		v.audit = map[string]string{"role": role, "secrets": names(spec.Secrets), "result": v.result + "-" + v.reason}
	}
	return v
}

func plan(in *injector.Injector, r injector.Request) verdict {
	p, err := in.Plan(r)
	var mistakes config.Mistakes
	switch {
	case errors.As(err, &mistakes):
		return denied(reasonPod, err)
	case err != nil:
		return failed(reasonInternal, err)
	}
	v := verdict{result: resultInjected, reason: reasonNew, patch: p.Patch, warnings: p.Warnings}
	if p.Again {
		v.reason = reasonAgain
	}
	return v
}

// names are those of the secrets, which may be seen in an audit log; their values are nowhere near here.
func names(secrets []config.Secret) string {
	var list []string
	for _, s := range secrets {
		list = append(list, s.Name)
	}
	return strings.Join(list, ",")
}
