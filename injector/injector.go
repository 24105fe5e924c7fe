// Package injector decides what a pod needs to get its KMS secrets and says it as RFC 6902 add operations over the pod's own
// JSON.
//
// Its rules: it only adds, so that what it does not know survives; what exists under one of its names stays, so that twice is
// once; and equal input gives equal bytes. It reads no clock, no file and no network.
package injector

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
)

// An Injector decides by one document of the administrator. Any number of goroutines may use it.
type Injector struct {
	policy     clusterconfig.Config
	version    string
	defaults   corev1.ResourceRequirements
	ceilings   corev1.ResourceList
	volumeSize resource.Quantity
	overrides  []override

	shapes     sync.Map // of shape to *encoded
	shapeCount atomic.Int64
}

// New prepares a document that clusterconfig.Read has checked, with its CABundle fields filled in. Version goes into the
// pods' annotation config.InjectedAnnotation.
func New(policy clusterconfig.Config, version string) (*Injector, error) {
	in := &Injector{policy: policy, version: version}
	if err := in.parse(); err != nil {
		return nil, err
	}
	for i, ns := range policy.Namespaces {
		s, err := in.override(ns)
		if err != nil {
			return nil, fmt.Errorf("namespaces[%d].%w", i, err)
		}
		in.overrides = append(in.overrides, s)
	}
	return in, nil
}

// parse reads the quantities of the document once.
func (in *Injector) parse() error {
	agent := in.policy.Agent
	var err error
	if in.volumeSize, err = resource.ParseQuantity(agent.VolumeSize); err != nil {
		return fmt.Errorf("agent.volumeSize: %q: %w", agent.VolumeSize, err)
	}
	_ = in.volumeSize.String() // which keeps the text
	for _, list := range []struct {
		where string
		from  map[string]string
		to    *corev1.ResourceList
	}{
		{"agent.requests", agent.Requests, &in.defaults.Requests},
		{"agent.limits", agent.Limits, &in.defaults.Limits},
		{"agent.maxLimits", agent.MaxLimits, &in.ceilings},
	} {
		if *list.to, err = parseResources(list.from); err != nil {
			return fmt.Errorf("%s: %w", list.where, err)
		}
	}
	if limit, limited := in.defaults.Limits[corev1.ResourceMemory]; limited && limit.Cmp(leastMemoryQuantity) < 0 {
		return fmt.Errorf("agent.limits.memory: %s is less than the agent needs; write %s or more", limit.String(), leastMemory)
	}
	for name, limit := range in.defaults.Limits {
		if request, found := in.defaults.Requests[name]; found && request.Cmp(limit) > 0 {
			return fmt.Errorf("agent.requests.%s: %s is more than agent.limits.%s, %s; no pod would be valid", name, request.String(), name,
				limit.String())
		}
	}
	return nil
}

// Policy returns the document that New was given, or after In what it says about the namespace.
func (in *Injector) Policy() clusterconfig.Config { return in.policy }

// An override is an entry of the document's namespaces and the Injector for those that match it.
type override struct {
	clusterconfig.Namespace
	selector labels.Selector // nil: by name alone
	injector *Injector
}

func (in *Injector) override(ns clusterconfig.Namespace) (override, error) {
	s := override{Namespace: ns, injector: &Injector{policy: in.policy.In(ns), version: in.version}}
	if ns.Selector != nil {
		var err error
		if s.selector, err = selector(*ns.Selector); err != nil {
			return override{}, fmt.Errorf("selector: %w", err)
		}
	}
	return s, s.injector.parse()
}

func selector(of clusterconfig.Selector) (labels.Selector, error) {
	same := metav1.LabelSelector{MatchLabels: of.MatchLabels}
	for _, e := range of.MatchExpressions {
		same.MatchExpressions = append(same.MatchExpressions, metav1.LabelSelectorRequirement{
			Key: e.Key, Operator: metav1.LabelSelectorOperator(e.Operator), Values: e.Values,
		})
	}
	return metav1.LabelSelectorAsSelector(&same)
}

// of returns the Injector for a namespace: the document's first entry that matches it says what is different there. A namespace that does
// not exist has no labels.
func (in *Injector) of(ctx context.Context, namespace string, cluster Cluster) (*Injector, error) {
	var has labels.Set
	for _, s := range in.overrides {
		if !s.HasName(namespace) {
			continue
		}
		if s.selector != nil && has == nil {
			found, err := cluster.NamespaceLabels(ctx, namespace)
			if err != nil && !errors.Is(err, config.ErrNotFound) {
				return nil, err
			}
			has = labels.Merge(found, nil)
		}
		if s.selector == nil || s.selector.Matches(has) {
			return s.injector, nil
		}
	}
	return in, nil
}

// nativeSince is the first API server beside which every kubelet must be 1.29 or newer, the first that runs native sidecars
// unasked: https://kubernetes.io/releases/version-skew-policy/#kubelet
var nativeSince = version.MajorMinor(1, 32)

// NativeBeside reports whether every kubelet that an API server may have beside it runs native sidecars.
func NativeBeside(server string) (bool, error) {
	v, err := version.ParseGeneric(server)
	if err != nil {
		return false, err
	}
	return v.AtLeast(nativeSince), nil
}
