package injector

import (
	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"
)

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
