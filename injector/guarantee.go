package injector

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// A Guarantee says of a container that it requests all the cpu and memory that it may use. Where each container does, init
// containers too, the pod is of QoS class Guaranteed:
// https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
type Guarantee bool

// readGuarantee reads a container's resources.
func readGuarantee(r *rawjson.Reader) Guarantee {
	var requests, limits amounts
	for name := range r.Members {
		switch name {
		case "requests":
			requests = readAmounts(r)
		case "limits":
			limits = readAmounts(r)
		}
	}
	return Guarantee(guaranteed(requests.cpu, limits.cpu) && guaranteed(requests.memory, limits.memory))
}

// amounts are those that count for the class, "" for none.
type amounts struct{ cpu, memory string }

func readAmounts(r *rawjson.Reader) (a amounts) {
	for name := range r.Members {
		switch corev1.ResourceName(name) {
		case corev1.ResourceCPU:
			a.cpu = r.Scalar()
		case corev1.ResourceMemory:
			a.memory = r.Scalar()
		}
	}
	return a
}

// guaranteed: where a request is missing, as in a template, the limit will be it.
func guaranteed(request, limit string) bool {
	if limit == "" {
		return false
	}
	most, err := quantity(limit)
	if err != nil || most.Sign() <= 0 {
		return false
	}
	if request == "" || request == limit {
		return true
	}
	least, err := quantity(request)
	return err == nil && least.Cmp(most) == 0
}

// warnClass is for a pod of class Guaranteed that is none with the agent, whose resources are given. A pod with resources of its own
// has its class by these alone.
func warnClass(pod *PodSpec, resources string) []string {
	if pod.Resources != nil {
		return nil
	}
	for c := range pod.each {
		if !bool(c.Guaranteed) && !ours(c.Name) {
			return nil
		}
	}
	if readGuarantee(rawjson.NewReader(resources)) {
		return nil
	}
	const amounts = ": cpu=50m,memory=64Mi"
	return []string{"the pod is of QoS class Guaranteed without the agent and Burstable with it: the agent's containers request less cpu or memory than they may use; " +
		"to keep the class, set both to the same amounts, for example " + requestsAnnotation + amounts + " and " + limitsAnnotation + amounts}
}
