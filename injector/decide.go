package injector

import (
	"context"
	"errors"
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// A Request asks what becomes of a pod, or of the pods of a template.
type Request struct {
	Namespace     string // of the pod; its metadata may leave it to the request
	Pod           Pod
	Claims        []string // names of a StatefulSet's volumeClaimTemplates: a claim takes the place of the template's volume of its name
	PlainSidecars bool     // agent.nativeSidecar: auto means never: there may be kubelets that run no native sidecars
}

// A Cluster answers what a decision needs besides the pod. An error that is config.ErrNotFound says why there is no such object; any
// other is an outage, and says what was asked.
type Cluster interface {
	// NamespaceLabels returns the labels of a namespace.
	NamespaceLabels(ctx context.Context, namespace string) (map[string]string, error)

	// ServiceAccountAnnotations returns the annotations of a ServiceAccount. Fresh asks for an answer that is newer than the question:
	// by the one before, the pod has no role.
	ServiceAccountAnnotations(ctx context.Context, namespace, name string, fresh bool) (map[string]string, error)
}

// A Decision is what becomes of a pod. It is refused if there is a Reason.
type Decision struct {
	Asked    bool           // whether the pod asks for the agent; if not, it stays as it is
	Spec     podconfig.Spec // of its annotations
	RoleARN  string         // that its ServiceAccount, or itself, assumes; "" with other identities than RRSA
	Patch    []byte         // RFC 6902; nil: the pod has all that it needs
	Again    bool           // the pod had been injected before
	Narrowed bool           // its STS sessions are narrowed to its secrets
	Warnings []string       // for the author of the pod

	Reason   Reason          // of the first refusal
	Mistakes config.Mistakes // for which the pod is refused, but for its role
	NoRole   error           // why the pod has no role; with RRSA
}

// A Reason is why a pod is refused.
type Reason string

// The reasons.
const (
	WrongAnnotations Reason = "annotations" // an annotation is wrong
	NotAllowed       Reason = "policy"      // the webhook's configuration does not allow it
	WithoutRole      Reason = "role"        // no role, or none that is allowed
	Conflict         Reason = "pod"         // it conflicts with the pod's own spec
)

// Refused returns everything for which the pod is refused, nil if it is not.
func (d *Decision) Refused() error {
	switch {
	case len(d.Mistakes) == 0:
		return d.NoRole
	case d.NoRole == nil:
		return d.Mistakes
	}
	return errors.Join(d.Mistakes, d.NoRole)
}

func (d *Decision) refuse(reason Reason, mistakes config.Mistakes) {
	d.Mistakes = append(d.Mistakes, mistakes...)
	if d.Reason == "" && len(mistakes) > 0 {
		d.Reason = reason
	}
}

// Decide decides what becomes of a pod. The error is an outage; the decision beside it is about what can be told without the answer.
func (in *Injector) Decide(ctx context.Context, req Request, cluster Cluster) (d Decision, err error) {
	var mistakes config.Mistakes
	if d.Spec, mistakes = Parse(req.Pod.Metadata.Annotations); len(mistakes) > 0 {
		d.Asked = true
		d.refuse(WrongAnnotations, mistakes)
		return d, nil
	}
	if d.Asked = d.Spec.Inject; !d.Asked {
		d.Warnings = unasked(req.Pod)
		return d, nil
	}
	if in, err = in.of(ctx, req.Namespace, cluster); err != nil {
		return d, err
	}
	d.Spec.Mode = in.mode(&req, &d.Spec)
	r := &request{Request: req, Spec: d.Spec}
	d.refuse(NotAllowed, in.allowed(&r.Spec, r.Namespace))
	r.RoleARN, d.NoRole, err = in.role(ctx, r, cluster)
	if d.RoleARN = r.RoleARN; d.NoRole != nil && d.Reason == "" {
		d.Reason = WithoutRole
	}
	d.refuse(Conflict, in.plan(r, &d))
	return d, err
}

// role returns the ARN that the pod assumes, "" for an identity that has its role from elsewhere, or why there is none.
func (in *Injector) role(ctx context.Context, r *request, cluster Cluster) (arn string, none, outage error) {
	if r.Spec.Identity.Kind != config.RRSA {
		return "", nil, nil
	}
	account := rrsa.ServiceAccount{Namespace: r.Namespace, Name: r.serviceAccount()}
	policy := rrsa.Policy{AccountID: in.policy.AccountID, PodRoles: *in.policy.Allow.PodRoles, Roles: in.policy.Allow.Roles}
	if named, annotation := r.Spec.Role(policy.AccountID); named != "" {
		arn, none = rrsa.Role(rrsa.Named{ARN: named, Annotation: annotation}, policy, account)
		return arn, none, nil
	}
	if err := possible(account); err != nil {
		return "", err, nil
	}
	for _, fresh := range []bool{false, true} {
		annotations, err := cluster.ServiceAccountAnnotations(ctx, account.Namespace, account.Name, fresh)
		switch {
		case errors.Is(err, config.ErrNotFound):
			none = fmt.Errorf("ServiceAccount %s/%s, with which the pod runs, %w", account.Namespace, account.Name, err)
		case err != nil && fresh:
			return "", nil, err
		case err == nil:
			account.Annotations = annotations
			if arn, none = rrsa.Role(rrsa.Named{}, policy, account); none == nil {
				return arn, nil, nil
			}
		}
	}
	return "", none, nil
}

// possible returns an error for a name that no ServiceAccount can have: the API server looks at a pod's only after the webhook.
func possible(account rrsa.ServiceAccount) error {
	const most = 253
	if len(account.Name) <= most {
		return nil
	}
	return fmt.Errorf("ServiceAccount %s…, with which the pod runs, does not exist: a name has at most %d characters",
		account.Name[:20], most)
}

// maxExpressions is how many bytes of JMESPath, besides plain names, the annotations of a pod may have: the parser takes up to two
// hundred times as much memory.
const maxExpressions = 16 << 10

// Parse returns what a pod's annotations ask for, or all that is wrong with them. JMESPath expressions and templates are parsed as the
// agent will parse them.
func Parse(annotations map[string]string) (podconfig.Spec, config.Mistakes) {
	spec, mistakes := podconfig.Parse(annotations)
	check := func(annotation, field string, err error) {
		if err != nil {
			mistakes.Add(podconfig.Prefix+annotation, "%s%s", field, err)
		}
	}
	var p expressions
	for _, s := range spec.Secrets {
		for _, key := range s.Keys {
			check("secret."+s.File, "keys: "+key.Name+": ", p.key(key.Path))
		}
		if s.Template != "" {
			check("secret."+s.File, "", p.template(s.Template))
		}
	}
	for _, v := range spec.Env {
		field := ""
		if v.Annotation == "env" {
			field = v.Name + ": "
		}
		if v.Key != "" {
			check(v.Annotation, field, p.key(v.Key))
		}
	}
	if len(mistakes) > 0 {
		return podconfig.Spec{}, mistakes
	}
	return spec, nil
}

// expressions counts the bytes that are expensive to parse.
type expressions struct{ keys, actions int }

func (p *expressions) key(expression string) error {
	if !config.Identifier(expression) {
		p.keys += len(expression)
	}
	if p.keys > maxExpressions {
		return fmt.Errorf("the pod's JMESPath expressions have more than %d bytes together", maxExpressions)
	}
	if err := render.CheckKey(expression); err != nil {
		return fmt.Errorf("%q is not a JMESPath expression: %w", expression, err)
	}
	return nil
}

func (p *expressions) template(text string) error {
	n, err := render.Actions(text)
	if err != nil {
		return err
	}
	if p.actions += n; p.actions > render.MaxActions {
		return fmt.Errorf("the pod's templates have %d bytes between {{ and }}; at most %d are allowed", p.actions, render.MaxActions)
	}
	return render.CheckTemplate(text)
}
