package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
)

// workloads are asked for when there is no pod of a name.
const workloads = "deployments,statefulsets,daemonsets,jobs,cronjobs,replicasets"

// A subject is what is examined: a pod, or a workload and its newest pod, if it has one.
type subject struct {
	title     string
	namespace string
	template  []byte      // the pod's JSON, or the workload's template
	pod       *corev1.Pod // nil: none could be made
	refusal   string      // what an event says about why no more pods can be made
	workload  bool
	all       []corev1.Pod // of the workload
	missing   int32        // how many pods could not be made, where that is known
}

// find takes a pod's name, type/name, or the name of a pod that was never made.
func (d Doctor) find(ctx context.Context, namespace, target string) (subject, error) {
	if !strings.Contains(target, "/") {
		pods, err := d.get(namespace, "pod/"+target)
		if err == nil {
			return d.ofPod(namespace, pods[0])
		} else if !apierrors.IsNotFound(err) {
			return subject{}, err
		}
		all, err := d.get(namespace, workloads)
		if err != nil {
			return subject{}, err
		}
		owner := longest(all, target)
		if owner == nil {
			return subject{}, fmt.Errorf("there is no pod %s in namespace %s, and no workload whose pods would be called so", target, namespace)
		}
		return d.ofWorkload(ctx, namespace, owner)
	}
	found, err := d.get(namespace, target)
	if err != nil {
		return subject{}, err
	}
	if found[0].GetKind() == "Pod" {
		return d.ofPod(namespace, found[0])
	}
	return d.ofWorkload(ctx, namespace, found[0])
}

// get asks for types or for type/name as kubectl get does, so that every name of a type is known.
func (d Doctor) get(namespace, what string) ([]*unstructured.Unstructured, error) {
	b := resource.NewBuilder(d.Flags).Unstructured().NamespaceParam(namespace).DefaultNamespace().ContinueOnError().Flatten().
		ResourceTypeOrNameArgs(!strings.Contains(what, "/"), what)
	infos, err := b.Do().Infos()
	if err != nil {
		return nil, err
	}
	var out []*unstructured.Unstructured
	for _, info := range infos {
		if o, ok := info.Object.(*unstructured.Unstructured); ok {
			out = append(out, o)
		}
	}
	return out, nil
}

// longest returns the workload with the longest name that is the target or what the target begins with.
func longest(all []*unstructured.Unstructured, target string) (best *unstructured.Unstructured) {
	for _, o := range all {
		name := o.GetName()
		if (name == target || strings.HasPrefix(target, name+"-")) && (best == nil || len(name) > len(best.GetName())) {
			best = o
		}
	}
	return best
}

func (d Doctor) ofPod(namespace string, o *unstructured.Unstructured) (subject, error) {
	text, err := json.Marshal(o.Object)
	if err != nil {
		return subject{}, err
	}
	s := subject{title: "Pod " + namespace + "/" + o.GetName(), namespace: namespace, template: text, pod: &corev1.Pod{}}
	return s, json.Unmarshal(text, s.pod)
}

func (d Doctor) ofWorkload(ctx context.Context, namespace string, o *unstructured.Unstructured) (subject, error) {
	template, ok := manifest.Template(o.Object)
	kind, name := o.GetKind(), o.GetName()
	s := subject{title: kind + " " + namespace + "/" + name, namespace: namespace, template: template, workload: true}
	if !ok {
		return s, fmt.Errorf("%s makes no pods", s.title)
	}
	var err error
	if s.all, err = d.podsOf(ctx, namespace, kind, name, template); err != nil {
		return s, err
	}
	for i := range s.all {
		if s.pod == nil || s.pod.CreationTimestamp.Before(&s.all[i].CreationTimestamp) {
			s.pod = &s.all[i]
		}
	}
	if s.refusal, s.missing, err = d.refused(ctx, namespace, kind, name, s.pod); err != nil {
		return s, err
	}
	if s.pod != nil {
		s.title += ", newest pod " + s.pod.Name
	}
	if s.pod != nil && s.refusal == "" { // else the pod is older than what is wrong
		if s.template, err = json.Marshal(s.pod); err != nil {
			return s, err
		}
	}
	return s, err
}

// podsOf returns the pods of a workload. They have the labels of its template, but for a CronJob's, which may have none: what its pods have
// is the name of their Job.
func (d Doctor) podsOf(ctx context.Context, namespace, kind, name string, template []byte) ([]corev1.Pod, error) {
	var shape struct {
		Metadata struct {
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(template, &shape); err != nil {
		return nil, err
	}
	selector := labels.SelectorFromSet(shape.Metadata.Labels)
	if kind == "CronJob" {
		jobs, err := labels.NewRequirement(batchv1.JobNameLabel, selection.Exists, nil)
		if err != nil {
			return nil, err
		}
		selector = labels.NewSelector().Add(*jobs)
	} else if selector.Empty() {
		return nil, nil
	}
	list, err := d.Client.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(list.Items, func(pod corev1.Pod) bool {
		ours := kind != "CronJob" || makes(kind, name, "Job", pod.Labels[batchv1.JobNameLabel])
		return !ours || pod.DeletionTimestamp != nil || !selector.Matches(labels.Set(pod.Labels))
	}), nil
}

// refused returns the last event about a pod that could not be made, if no pod was made since, and how many there are of them; 0 if that is
// not known.
func (d Doctor) refused(ctx context.Context, namespace, kind, name string, newest *corev1.Pod) (string, int32, error) {
	all, err := check.Refusals(ctx, d.Client.Kube, namespace)
	if err != nil {
		return "", 0, err
	}
	var last check.Refusal
	for _, r := range all {
		if (r.Kind == kind && r.Name == name || makes(kind, name, r.Kind, r.Name)) && !r.At.Before(&last.At) {
			last = r
		}
	}
	if last.Message == "" || newest != nil && last.At.Before(&newest.CreationTimestamp) {
		return "", 0, nil
	}
	missing, err := last.Missing(ctx, d.Client.Kube)
	if err == nil && missing == 0 && newest != nil { // it is over
		return "", 0, nil
	}
	return last.Message, missing, nil
}

// makes reports whether a workload makes an object of this kind and name to make its pods: a CronJob Jobs, any other ReplicaSets,
// which it gives its own name and one more word.
func makes(kind, name, madeKind, madeName string) bool {
	made := "ReplicaSet"
	if kind == "CronJob" {
		made = "Job"
	}
	word, ours := strings.CutPrefix(madeName, name+"-")
	return madeKind == made && ours && !strings.Contains(word, "-")
}
