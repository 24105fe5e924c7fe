package injector

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

const (
	requestsAnnotation = podconfig.Prefix + "agent-requests"
	limitsAnnotation   = podconfig.Prefix + "agent-limits"
)

// leastMemory is the lowest memory limit of an agent: it needs some 10 MB, and kubectl kms status runs a second process beside it.
const leastMemory = "16Mi"

var leastMemoryQuantity = resource.MustParse(leastMemory)

// resources returns the resources of the agent's containers: the pod's annotations over the configured defaults, and mistakes above
// the configured maximum. A request above its limit is a mistake, because the API server would blame a container that the author did
// not write. Defaults leave out what the pod as a whole, where it states resources, might have no room for.
func (in *Injector) resources(r *request) (corev1.ResourceRequirements, config.Mistakes) {
	spec := &r.Spec
	defaults := corev1.ResourceRequirements{
		Requests: r.Pod.Spec.Resources.leave(in.defaults.Requests), Limits: r.Pod.Spec.Resources.leave(in.defaults.Limits),
	}
	if len(spec.AgentRequests) == 0 && len(spec.AgentLimits) == 0 {
		return defaults, nil
	}
	var mistakes config.Mistakes
	merged := corev1.ResourceRequirements{}
	for _, list := range []struct {
		annotation string
		wishes     map[string]string
		defaults   corev1.ResourceList
		to         *corev1.ResourceList
	}{
		{requestsAnnotation, spec.AgentRequests, defaults.Requests, &merged.Requests},
		{limitsAnnotation, spec.AgentLimits, defaults.Limits, &merged.Limits},
	} {
		wished, err := parseResources(list.wishes)
		if err != nil {
			mistakes.Add(list.annotation, "%s", err.Error())
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(wished)) {
			amount, ceiling := wished[name], in.ceilings[name]
			if _, capped := in.ceilings[name]; capped && amount.Cmp(ceiling) > 0 {
				mistakes.Add(list.annotation, "%s=%s is more than the administrator allows, %s", name, amount.String(), ceiling.String())
			}
		}
		*list.to = maps.Clone(list.defaults)
		if *list.to == nil {
			*list.to = corev1.ResourceList{}
		}
		maps.Copy(*list.to, wished)
	}
	for _, name := range slices.Sorted(maps.Keys(merged.Limits)) {
		request, limit := merged.Requests[name], merged.Limits[name]
		if name == corev1.ResourceMemory && limit.Cmp(leastMemoryQuantity) < 0 {
			mistakes.Add(limitsAnnotation, "memory=%s is less than the agent needs, with the second process that kubectl kms status starts "+
				"beside it; write memory=%s or more", limit.String(), leastMemory)
			continue
		}
		if request.Cmp(limit) <= 0 {
			continue
		}
		if _, own := spec.AgentRequests[string(name)]; own {
			mistakes.Add(requestsAnnotation, "%s=%s is more than the limit of the agent's containers, %s; lower it, or raise the limit with %s",
				name, request.String(), limit.String(), limitsAnnotation)
		} else {
			mistakes.Add(limitsAnnotation, "%s=%s is less than the request of the agent's containers, %s; raise it, or lower the request with %s",
				name, limit.String(), request.String(), requestsAnnotation)
		}
	}
	return merged, mistakes
}

func (r *Resources) none() bool { return r == nil || len(r.Requests) == 0 && len(r.Limits) == 0 }

// leave returns the amounts of resources that the pod as a whole does not have its own amounts of.
func (r *Resources) leave(list corev1.ResourceList) corev1.ResourceList {
	if r.none() {
		return list
	}
	rest := maps.Clone(list)
	maps.DeleteFunc(rest, func(name corev1.ResourceName, _ resource.Quantity) bool {
		return r.Requests[string(name)] != nil || r.Limits[string(name)] != nil
	})
	return rest
}

// quantity reads an amount. The library computes ten to the power of any exponent, which for 1e-2147483648 takes hours: what is longer
// or has more digits in its exponent than any real amount is refused here.
func quantity(text string) (resource.Quantity, error) {
	const longest, digits = 32, 2
	exponent := strings.IndexAny(text, "eE")
	if len(text) > longest || exponent >= 0 && len(text)-exponent-1 > len("+")+digits {
		return resource.Quantity{}, resource.ErrFormatWrong
	}
	return resource.ParseQuantity(text)
}

func parseResources(from map[string]string) (corev1.ResourceList, error) {
	if len(from) == 0 {
		return nil, nil
	}
	list := corev1.ResourceList{}
	for _, name := range slices.Sorted(maps.Keys(from)) {
		amount, err := quantity(from[name])
		if err != nil {
			return nil, fmt.Errorf("%s=%s is not a quantity; write for example 10m or 16Mi", name, from[name])
		}
		_ = amount.String() // which keeps the text
		list[corev1.ResourceName(name)] = amount
	}
	return list, nil
}

// Amounts are the requests and limits of a container that count for its pod's QoS class.
type Amounts struct {
	Requests CPUAndMemory `json:"requests"`
	Limits   CPUAndMemory `json:"limits"`
}

// CPUAndMemory are amounts of the two.
type CPUAndMemory struct {
	CPU    Amount `json:"cpu"`
	Memory Amount `json:"memory"`
}

// An Amount is a quantity as it is written, a string or a number; "" for none.
type Amount string

// UnmarshalJSONFrom accepts anything: what is no quantity guarantees nothing.
func (a *Amount) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	if kind := dec.PeekKind(); kind == '{' || kind == '[' {
		return dec.SkipValue()
	}
	token, err := dec.ReadToken()
	if *a = ""; err == nil && token.Kind() != 'n' {
		*a = Amount(token.String())
	}
	return err
}

// guaranteed reports whether a container requests all the cpu and memory that it may use. Where each does, init containers too, the
// pod is of QoS class Guaranteed: https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
func (a Amounts) guaranteed() bool {
	return guaranteed(a.Requests.CPU, a.Limits.CPU) && guaranteed(a.Requests.Memory, a.Limits.Memory)
}

// guaranteed: where a request is missing, as in a template, the limit will be it.
func guaranteed(request, limit Amount) bool {
	if limit == "" {
		return false
	}
	most, err := quantity(string(limit))
	if err != nil || most.Sign() <= 0 {
		return false
	}
	if request == "" || request == limit {
		return true
	}
	least, err := quantity(string(request))
	return err == nil && least.Cmp(most) == 0
}

// warnClass is for a pod of class Guaranteed that is none with the agent, whose resources are given. A pod with resources of its own
// has its class by these alone.
func warnClass(pod *PodSpec, agent corev1.ResourceRequirements) []string {
	if pod.Resources != nil {
		return nil
	}
	for c := range pod.each {
		if !c.Resources.guaranteed() && !ours(c.Name) {
			return nil
		}
	}
	amounts := func(list corev1.ResourceList) (a CPUAndMemory) {
		if cpu, found := list[corev1.ResourceCPU]; found {
			a.CPU = Amount(cpu.String())
		}
		if memory, found := list[corev1.ResourceMemory]; found {
			a.Memory = Amount(memory.String())
		}
		return a
	}
	if (Amounts{amounts(agent.Requests), amounts(agent.Limits)}).guaranteed() {
		return nil
	}
	const advice = ": cpu=50m,memory=64Mi"
	return []string{"the pod is of QoS class Guaranteed without the agent and Burstable with it: the agent's containers request less cpu or " +
		"memory than they may use; to keep the class, set both to the same amounts, for example " + requestsAnnotation + advice + " and " +
		limitsAnnotation + advice}
}
