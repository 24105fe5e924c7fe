package injector

import (
	"fmt"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

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
	if limit, limited := in.defaults.Limits[corev1.ResourceMemory]; limited && limit.Cmp(leastMemory) < 0 {
		return fmt.Errorf("agent.limits.memory: %s is less than the agent needs; write %s or more", limit.String(), config.LeastMemory)
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
