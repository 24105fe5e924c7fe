package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// mirrorAnnotation marks a static pod's image in the API server. The kubelet runs the pod from its own file: nothing that is
// added to the image would ever exist.
const mirrorAnnotation = "kubernetes.io/config.mirror"

// auditSession is the audit annotation about a pod's STS sessions.
const (
	auditSession    = "session"
	sessionNarrowed = "narrowed" // to the pod's secrets
	sessionWide     = "wide"     // as wide as the roles
)

// A judge decides on pods and workloads by the operator's policy of the moment.
type judge struct {
	policy   *policy
	metadata metadata
	checks   config.Checks
}

// pod decides on a pod that is about to be created.
func (j *judge) pod(ctx context.Context, req *review.Request[injector.Pod]) review.Verdict {
	pod := req.Object
	if _, mirror := pod.Metadata.Annotations[mirrorAnnotation]; mirror {
		return skipped(reasonMirror)
	}
	inScope, labels, err := j.metadata.inScope(ctx, req.Source, req.Namespace)
	switch {
	case err != nil:
		return review.Failed(reasonKube, err)
	case !inScope: // and so a stranger's question: it costs nothing and tells nothing
		return skipped(reasonNotLabelled)
	}
	spec, err := config.Parse(pod.Metadata.Annotations, j.checks)
	if err != nil {
		return denied(reasonAnnotations, err)
	}
	if !spec.Inject {
		return notAsked(pod)
	}
	in := j.policy.current().In(req.Namespace, labels)
	var wrong refusals
	wrong.add(reasonPolicy, in.Allowed(spec, req.Namespace))
	role, err := j.metadata.role(ctx, req.Source, spec, in.Policy(), rrsa.ServiceAccount{Namespace: req.Namespace, Name: injector.ServiceAccountOf(pod)})
	if outage := new(outageError); !errors.As(err, &outage) {
		wrong.add(reasonRole, err)
	} else if wrong.reason == "" {
		return review.Failed(reasonKube, err)
	}
	v := plan(in, injector.Request{Pod: pod, Namespace: req.Namespace, Spec: spec, RoleARN: role, Room: req.Room})
	if v.Result == review.Errored {
		return v
	}
	if wrong.add(reasonPod, v.Err); wrong.reason != "" {
		return wrong.verdict()
	}
	session := v.Audit
	v.Audit = audit(spec, role)
	maps.Copy(v.Audit, session)
	v.Audit["result"] = v.Result + "-" + v.Reason
	v.Warnings = append(v.Warnings, misspelt(pod)...)
	return v
}

func notAsked(pod injector.Pod) review.Verdict {
	v := skipped(reasonNotAsked)
	v.Warnings = injector.Unasked(pod)
	return v
}

// audit is what an audit log says about a pod: who it is to Alibaba Cloud and what it may read, lists in JSON. Values of secrets are
// nowhere near here.
func audit(spec config.Spec, role string) map[string]string {
	said := map[string]string{"identity": spec.Identity.String()}
	if role != "" {
		said["role"] = role
	}
	var secrets, roles []string
	for _, s := range spec.Secrets {
		secrets = append(secrets, s.Names()...)
		if s.RoleARN != "" && !slices.Contains(roles, s.RoleARN) {
			roles = append(roles, s.RoleARN)
		}
	}
	for _, v := range spec.Env {
		secrets = append(secrets, v.Secret)
	}
	if secrets != nil {
		said["secrets"] = list(secrets)
	}
	if roles != nil {
		said["second-roles"] = list(roles)
	}
	if spec.API != nil && spec.API.Allow != nil {
		said["api-allow"] = list(spec.API.Allow)
	}
	return said
}

func list(items []string) string {
	text, _ := json.Marshal(items)
	return string(text)
}

func plan(in *injector.Injector, r injector.Request) review.Verdict {
	p, err := in.Plan(r)
	var mistakes config.Mistakes
	switch {
	case errors.As(err, &mistakes):
		return denied(reasonPod, err)
	case err != nil:
		return review.Failed(reasonInternal, err)
	}
	v := review.Verdict{Result: review.Injected, Reason: reasonNew, Patch: p.Patch, Warnings: p.Warnings, Audit: map[string]string{auditSession: sessionWide}}
	if p.Narrowed {
		v.Audit[auditSession] = sessionNarrowed
	}
	switch {
	case p.Again && p.Patch == nil:
		v.Result, v.Reason = review.Skipped, reasonComplete
	case p.Again:
		v.Reason = reasonAgain
	}
	return v
}
