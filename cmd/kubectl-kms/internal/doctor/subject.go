package doctor

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/cli-runtime/pkg/resource"

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
	refusal   string      // what an event says about why
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
	if kind, _ := found[0]["kind"].(string); kind == "Pod" {
		return d.ofPod(namespace, found[0])
	}
	return d.ofWorkload(ctx, namespace, found[0])
}

// get asks for types or for type/name as kubectl get does, so that every name of a type is known.
func (d Doctor) get(namespace, what string) ([]map[string]any, error) {
	b := resource.NewBuilder(d.Flags).Unstructured().NamespaceParam(namespace).DefaultNamespace().ContinueOnError().Flatten().
		ResourceTypeOrNameArgs(!strings.Contains(what, "/"), what)
	infos, err := b.Do().Infos()
	if err != nil {
		return nil, err
	}
	var out []map[string]any
	for _, info := range infos {
		text, err := json.Marshal(info.Object)
		if err != nil {
			return nil, err
		}
		var o map[string]any
		if err := json.Unmarshal(text, &o); err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

func nameOf(o map[string]any) string {
	meta, _ := o["metadata"].(map[string]any)
	name, _ := meta["name"].(string)
	return name
}

// longest is the workload with the longest name that is the target or what the target begins with.
func longest(all []map[string]any, target string) map[string]any {
	var best map[string]any
	for _, o := range all {
		name := nameOf(o)
		if (name == target || strings.HasPrefix(target, name+"-")) && len(name) > len(nameOf(best)) {
			best = o
		}
	}
	return best
}

func (d Doctor) ofPod(namespace string, o map[string]any) (subject, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return subject{}, err
	}
	s := subject{title: "Pod " + namespace + "/" + nameOf(o), namespace: namespace, template: text, pod: &corev1.Pod{}}
	return s, json.Unmarshal(text, s.pod)
}

func (d Doctor) ofWorkload(ctx context.Context, namespace string, o map[string]any) (subject, error) {
	template, ok := manifest.Template(o)
	kind, _ := o["kind"].(string)
	s := subject{title: kind + " " + namespace + "/" + nameOf(o), namespace: namespace, template: template}
	if !ok {
		return s, fmt.Errorf("%s makes no pods", s.title)
	}
	var err error
	if s.pod, err = d.newest(ctx, namespace, kind, nameOf(o), template); err != nil {
		return s, err
	}
	s.refusal, err = d.refused(ctx, namespace, kind, nameOf(o), s.pod)
	if s.refusal != "" {
		s.pod = nil // it is older than what is wrong
	}
	if s.pod != nil {
		s.title += ", newest pod " + s.pod.Name
		if s.template, err = json.Marshal(s.pod); err != nil {
			return s, err
		}
	}
	return s, err
}

// newest is the newest pod of a workload; nil if it has none. They have the labels of its template, but for a CronJob's, which may
// have none: what its pods have is the name of their Job.
func (d Doctor) newest(ctx context.Context, namespace, kind, name string, template []byte) (*corev1.Pod, error) {
	var shape struct {
		Metadata struct {
			Labels map[string]string `json:"labels"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(template, &shape); err != nil {
		return nil, err
	}
	selector := labels.SelectorFromSet(shape.Metadata.Labels).String()
	if kind == "CronJob" {
		selector = batchv1.JobNameLabel
	} else if selector == "" {
		return nil, nil
	}
	list, err := d.Client.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	var newest *corev1.Pod
	for i, pod := range list.Items {
		ours := kind != "CronJob" || makes(kind, name, "Job", pod.Labels[batchv1.JobNameLabel])
		if ours && pod.DeletionTimestamp == nil && (newest == nil || newest.CreationTimestamp.Before(&pod.CreationTimestamp)) {
			newest = &list.Items[i]
		}
	}
	return newest, nil
}

// refused is the last event about a pod that could not be made, if no pod was made since.
func (d Doctor) refused(ctx context.Context, namespace, kind, name string, newest *corev1.Pod) (string, error) {
	events, err := d.Client.Kube.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "reason=FailedCreate"})
	if err != nil {
		return "", fmt.Errorf("read the events: %w", err)
	}
	message, at := "", metav1.Time{}
	for _, e := range events.Items {
		when := e.LastTimestamp
		if when.IsZero() {
			when = metav1.Time{Time: e.EventTime.Time}
		}
		if of := e.InvolvedObject; (of.Kind == kind && of.Name == name || makes(kind, name, of.Kind, of.Name)) && !when.Before(&at) {
			message, at = e.Message, when
		}
	}
	if newest != nil && at.Before(&newest.CreationTimestamp) {
		return "", nil
	}
	return message, nil
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
