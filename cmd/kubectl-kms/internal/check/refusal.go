package check

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// A Refusal is a controller whose last attempt to make a pod failed.
type Refusal struct {
	Namespace, Kind, Name string
	Message               string
	At                    metav1.Time
}

// Ours reports whether the webhook refused the pod, or could not be asked, or its guard refused it.
func (r Refusal) Ours() bool {
	return strings.Contains(r.Message, "kms.alibabacloud.com") || strings.Contains(r.Message, "'kms-agent-injector'")
}

// Refusals returns the refusals in events; some may be over.
func Refusals(ctx context.Context, kube kubernetes.Interface, namespace string) ([]Refusal, error) {
	events, err := kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=FailedCreate"})
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	var all []Refusal
	for _, e := range events.Items {
		of := e.InvolvedObject
		if e.Reason != "FailedCreate" {
			continue
		}
		r := Refusal{cmp.Or(of.Namespace, e.Namespace), of.Kind, of.Name, e.Message, latest(e)}
		i := slices.IndexFunc(all, func(o Refusal) bool { return o.Namespace == r.Namespace && o.Kind == r.Kind && o.Name == r.Name })
		switch {
		case i < 0:
			all = append(all, r)
		case !r.At.Before(&all[i].At):
			all[i] = r
		}
	}
	return all, nil
}

// Missing returns how many pods the controller lacks now; 0 if the controller is gone.
func (r Refusal) Missing(ctx context.Context, kube kubernetes.Interface) (int32, error) {
	missing, err := r.missing(ctx, kube)
	if apierrors.IsNotFound(err) {
		return 0, nil
	}
	return max(0, missing), err
}

func (r Refusal) missing(ctx context.Context, kube kubernetes.Interface) (int32, error) {
	one := func(n *int32) int32 {
		if n == nil {
			return 1
		}
		return *n
	}
	var get metav1.GetOptions
	switch r.Kind {
	case "ReplicaSet":
		o, err := kube.AppsV1().ReplicaSets(r.Namespace).Get(ctx, r.Name, get)
		if err != nil {
			return 0, err
		}
		return one(o.Spec.Replicas) - o.Status.Replicas, nil
	case "StatefulSet":
		o, err := kube.AppsV1().StatefulSets(r.Namespace).Get(ctx, r.Name, get)
		if err != nil {
			return 0, err
		}
		return one(o.Spec.Replicas) - o.Status.Replicas, nil
	case "DaemonSet":
		o, err := kube.AppsV1().DaemonSets(r.Namespace).Get(ctx, r.Name, get)
		if err != nil {
			return 0, err
		}
		return o.Status.DesiredNumberScheduled - o.Status.CurrentNumberScheduled, nil
	case "Job":
		o, err := kube.BatchV1().Jobs(r.Namespace).Get(ctx, r.Name, get)
		if err != nil || ended(o) {
			return 0, err
		}
		return one(o.Spec.Parallelism) - o.Status.Active, nil
	}
	return 1, nil
}

func ended(job *batchv1.Job) bool {
	return slices.ContainsFunc(job.Status.Conditions, func(c batchv1.JobCondition) bool {
		return (c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed) && c.Status == corev1.ConditionTrue
	})
}
