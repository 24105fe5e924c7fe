package webhook

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
)

// mirrorAnnotation marks the mirror of a static pod in the API server. The kubelet runs the pod from its own file, so that additions to
// the mirror have no effect.
const mirrorAnnotation = "kubernetes.io/config.mirror"

// auditSession is the audit annotation about a pod's STS sessions.
const (
	auditSession    = "session"
	sessionNarrowed = "narrowed" // to the pod's secrets
	sessionWide     = "wide"     // as wide as the roles
)

// An admission answers the API server by the present configuration.
type admission struct {
	policy   *policy
	metadata metadata
	events   *events
	own      types.NamespacedName // the ConfigMap of the configuration
	checking sync.Mutex           // of a configuration
}

// mutatePod decides on a pod that is about to be created.
func (a *admission) mutatePod(ctx context.Context, req *review.Request[injector.Pod]) review.Verdict {
	v := a.pod(ctx, req)
	a.events.pod(req, v)
	if v.Err != nil && slices.ContainsFunc(req.Object.Metadata.Owners, func(o injector.Owner) bool { return o.Controller }) {
		v.Err = errors.New(review.OneLine(v.Err.Error())) // it becomes an event, which kubectl get events shows to its first line's end
	}
	return v
}

func (a *admission) pod(ctx context.Context, req *review.Request[injector.Pod]) review.Verdict {
	pod := req.Object
	if _, mirror := pod.Metadata.Annotations[mirrorAnnotation]; mirror {
		return skipped(reasonMirror)
	}
	inScope, labels, err := a.metadata.inScope(ctx, req.Source, req.Namespace)
	switch {
	case err != nil:
		return review.Failed(reasonKube, err)
	case !inScope: // and so a stranger's question: it costs nothing and tells nothing
		return skipped(reasonNotLabelled)
	}
	d, err := a.decide(ctx, req.Source, labels, injector.Request{Namespace: req.Namespace, Pod: pod})
	if refused := d.Refused(); refused != nil {
		return denied(d.Reason, refused)
	}
	if err != nil {
		return review.Failed(reasonKube, err)
	}
	v := review.Verdict{Result: review.Injected, Reason: reasonNew, Patch: d.Patch, Warnings: d.Warnings}
	switch {
	case !d.Asked:
		v.Result, v.Reason = review.Skipped, reasonNotAsked
		return v
	case d.Again && d.Patch == nil:
		v.Result, v.Reason = review.Skipped, reasonComplete
	case d.Again:
		v.Reason = reasonAgain
	}
	v.Audit = audit(&d)
	v.Audit["result"] = v.Result + "-" + v.Reason
	v.Warnings = append(v.Warnings, misspelt(pod)...)
	return v
}

// decide returns the injector's decision in a namespace with the labels.
func (a *admission) decide(ctx context.Context, source string, labels map[string]string, req injector.Request) (injector.Decision, error) {
	in, plain := a.policy.current()
	req.PlainSidecars = plain
	return in.Decide(ctx, req, lookup{metadata: a.metadata, source: source, labels: labels})
}

// audit returns the audit annotations of a pod: its identity towards Alibaba Cloud, and the secrets it may read, as lists in JSON. They
// contain no value of a secret.
func audit(d *injector.Decision) map[string]string {
	said := map[string]string{"identity": d.Spec.Identity.String(), auditSession: sessionWide}
	if d.Narrowed {
		said[auditSession] = sessionNarrowed
	}
	if d.RoleARN != "" {
		said["role"] = d.RoleARN
	}
	var secrets, roles []string
	for _, s := range d.Spec.Secrets {
		secrets = append(secrets, s.Names()...)
		if s.RoleARN != "" && !slices.Contains(roles, s.RoleARN) {
			roles = append(roles, s.RoleARN)
		}
	}
	for _, v := range d.Spec.Env {
		secrets = append(secrets, v.Secret)
	}
	add := func(key string, list []string) {
		if text, err := json.Marshal(list); err == nil && list != nil {
			said[key] = string(text)
		}
	}
	add("secrets", secrets)
	add("second-roles", roles)
	if d.Spec.API != nil {
		add("api-allow", d.Spec.API.Allow)
	}
	return said
}

// Reasons, by result, besides those of packages review and, of denials, injector.
const (
	reasonNew         = "new"       // injected: for the first time
	reasonAgain       = "again"     // injected: what another webhook added since got its share
	reasonNotAsked    = "not-asked" // skipped: inject is "false", or there is no annotation of ours
	reasonMirror      = "mirror-pod"
	reasonComplete    = "already-injected" // skipped: the pod has all that it needs
	reasonValid       = "valid"            // of a workload
	reasonNotLabelled = "not-labelled"     // in a namespace that has not opted in, or is excluded

	reasonConfiguration = "configuration" // denied, or not checked: the webhook's own configuration

	reasonKube = "kubernetes" // error: the API server could not be asked
)

func skipped(reason string) review.Verdict {
	return review.Verdict{Result: review.Skipped, Reason: reason}
}

func denied(reason injector.Reason, err error) review.Verdict {
	code := int32(http.StatusForbidden)
	if reason == injector.WrongAnnotations || reason == injector.Conflict {
		code = http.StatusBadRequest
	}
	return review.Verdict{Result: review.Denied, Reason: string(reason), Err: err, Code: code}
}
