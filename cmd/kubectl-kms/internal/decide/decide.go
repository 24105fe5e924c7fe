// Package decide comes to the webhook's decision on a pod, outside the webhook.
package decide

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// A World is what a decision needs besides the pod.
type World struct {
	Injector *injector.Injector
	// ServiceAccount has a ServiceAccount's annotations, and Namespace a namespace's labels. Their errors are cluster.ErrAbsent for
	// what does not exist, ErrUnknown for what nobody can be asked about, or an outage.
	ServiceAccount func(ctx context.Context, namespace, name string) (map[string]string, error)
	Namespace      func(ctx context.Context, name string) (map[string]string, error)
	// RoleARN is the role of ServiceAccounts that exist neither in manifests nor in a cluster; "": they have none.
	RoleARN string
}

// ErrUnknown is about an object that is in no manifest, when no cluster may be asked.
var ErrUnknown = errors.New("is not among the manifests, and no cluster is asked; add it to the files of -f, or name its role: " +
	"--role-arn acs:ram::<account>:role/<name>")

// Nowhere asks nobody.
func Nowhere(in *injector.Injector) World {
	return World{
		Injector:       in,
		ServiceAccount: func(context.Context, string, string) (map[string]string, error) { return nil, ErrUnknown },
		Namespace:      func(context.Context, string) (map[string]string, error) { return nil, ErrUnknown },
	}
}

// In asks a cluster.
func In(c cluster.Client, in *injector.Injector) World {
	return World{Injector: in, ServiceAccount: c.ServiceAccount, Namespace: c.Namespace}
}

// A Verdict is what becomes of a pod.
type Verdict struct {
	Spec     config.Spec
	Asked    bool            // it asks to be injected; if not, and without Mistakes, it stays as it is
	RoleARN  string          // that it assumes
	Patch    []byte          // RFC 6902; nil: there is nothing to add
	Mistakes config.Mistakes // for which the webhook refuses the pod
	Warnings []string
	// Unmet is why the webhook would refuse the pod today for something that is not in it: its ServiceAccount.
	Unmet error
}

// Refused is everything for which the webhook refuses the pod.
func (v Verdict) Refused() error {
	if len(v.Mistakes) > 0 {
		return errors.Join(v.Mistakes, v.Unmet)
	}
	return v.Unmet
}

// Pod decides on a pod, or on a pod template; claims are the names of the StatefulSet's volumeClaimTemplates beside it. The error is an
// outage, not the pod's.
func (w World) Pod(ctx context.Context, namespace string, document []byte, claims ...string) (Verdict, error) {
	r := rawjson.NewReader(string(document))
	pod := injector.ReadPod(r)
	if err := r.End(); err != nil {
		return Verdict{Asked: true, Mistakes: unreadable(document, err)}, nil
	}
	var v Verdict
	var err error
	v.Spec, err = config.Parse(pod.Metadata.Annotations, checks)
	if err != nil {
		v.Asked = true
		return v, v.mistaken(err)
	}
	if !v.Spec.Inject {
		return v, nil
	}
	v.Asked = true
	in, err := w.injector(ctx, namespace)
	if err != nil {
		return v, err
	}
	if err := v.mistaken(in.Allowed(v.Spec, namespace)); err != nil {
		return v, err
	}
	if err := w.role(ctx, &v, in.Policy(), namespace, injector.ServiceAccountOf(pod)); err != nil {
		return v, err
	}
	plan, err := in.Plan(injector.Request{Pod: pod, Namespace: namespace, Spec: v.Spec, RoleARN: v.RoleARN, Claims: claims})
	v.Patch, v.Warnings = plan.Patch, append(v.Warnings, plan.Warnings...)
	return v, v.mistaken(err)
}

// unreadable is what is wrong with a pod that Kubernetes would not read either: most often values of annotations without quotes, or
// without the | that makes a YAML mapping text.
func unreadable(document []byte, err error) config.Mistakes {
	var pod struct {
		Metadata struct {
			Annotations map[string]any `json:"annotations"`
		} `json:"metadata"`
	}
	var mistakes config.Mistakes
	if json.Unmarshal(document, &pod) == nil {
		for _, key := range slices.Sorted(maps.Keys(pod.Metadata.Annotations)) {
			switch value := pod.Metadata.Annotations[key].(type) {
			case string:
			case map[string]any, []any:
				mistakes = append(mistakes, config.Mistake{Where: key, Problem: "values of annotations are strings; write | after the colon, which makes what follows text"})
			default:
				mistakes = append(mistakes, config.Mistake{Where: key, Problem: fmt.Sprintf("values of annotations are strings, and YAML takes this one for %v; write it in quotes", value)})
			}
		}
	}
	if mistakes == nil {
		return config.Mistakes{{Where: "pod", Problem: fmt.Sprintf("Kubernetes would not read it: %v", err)}}
	}
	return mistakes
}

// mistaken keeps an error of the pod's and returns any other.
func (v *Verdict) mistaken(err error) error {
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		v.Mistakes = append(v.Mistakes, mistakes...)
		return nil
	}
	return err
}

// injector is what the operator's document says about a namespace; one that nobody knows has no labels.
func (w World) injector(ctx context.Context, namespace string) (*injector.Injector, error) {
	if !w.Injector.ByLabels(namespace) {
		return w.Injector.In(namespace, nil), nil
	}
	labels, err := w.Namespace(ctx, namespace)
	if err != nil && !errors.Is(err, cluster.ErrAbsent) && !errors.Is(err, ErrUnknown) {
		return nil, fmt.Errorf("read namespace %s: %w", namespace, err)
	}
	return w.Injector.In(namespace, labels), nil
}

func (w World) role(ctx context.Context, v *Verdict, policy config.Injector, namespace, name string) error {
	if v.Spec.Identity.Kind != config.RRSA {
		return nil
	}
	account := rrsa.ServiceAccount{Namespace: namespace, Name: name}
	if !rrsa.FromPod(v.Spec) {
		var err error
		switch account.Annotations, err = w.ServiceAccount(ctx, namespace, name); {
		case errors.Is(err, cluster.ErrAbsent), errors.Is(err, ErrUnknown):
			v.Unmet = fmt.Errorf("ServiceAccount %s/%s, with which the pod runs, %w", namespace, name, err)
			return nil
		case err != nil:
			return fmt.Errorf("read ServiceAccount %s/%s: %w", namespace, name, err)
		}
	}
	v.RoleARN, v.Unmet = rrsa.Role(v.Spec, policy, account)
	return nil
}
