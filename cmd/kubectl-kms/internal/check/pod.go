// Package check reads from pods, their events and their controllers why pods are not made, or do not start.
package check

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/client-go/kubernetes"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// Asks reports whether a pod asks for the agent.
func Asks(pod *corev1.Pod) bool { return pod.Annotations[podconfig.Prefix+"inject"] == "true" }

// Ended reports whether none of a pod's containers will run again.
func Ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// A Wait is what a pod, or one of its containers, waits for.
type Wait struct{ Container, Reason, Message string }

func (w Wait) String() string {
	text := w.Reason
	if w.Message != "" {
		text += ": " + w.Message
	}
	if w.Container == "" {
		return "the pod waits: " + text
	}
	return w.Container + " waits: " + text
}

// A PodState is what is known about the secrets of a pod, in a word, and what is wrong.
type PodState struct {
	Name, State, Problem string
	Wrong, Unseen        bool
}

// steps are the reasons of waiting that only say how far the kubelet is.
var steps = []string{"", "PodInitializing", "ContainerCreating"}

// Waiting returns the reasons that a pod's own status gives.
func Waiting(pod *corev1.Pod) []Wait {
	var all []Wait
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
			all = append(all, Wait{Reason: c.Reason, Message: c.Message})
		}
	}
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if w := s.State.Waiting; w != nil && !slices.Contains(steps, w.Reason) {
			all = append(all, Wait{s.Name, w.Reason, w.Message})
		}
	}
	return all
}

// Warned returns the last warning of the kubelet about what a pod needs before its containers are made; nil if there is none.
func Warned(ctx context.Context, kube kubernetes.Interface, pod *corev1.Pod) (*Wait, error) {
	events, err := kube.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod.Name})
	if err != nil {
		return nil, fmt.Errorf("read the events: %w", err)
	}
	var last *Wait
	var at metav1.Time
	for _, e := range events.Items {
		if e.InvolvedObject.UID != pod.UID || e.Type != corev1.EventTypeWarning || !strings.HasPrefix(e.Reason, "Failed") {
			continue
		}
		if when := latest(e); !when.Before(&at) {
			last, at = &Wait{Reason: e.Reason, Message: e.Message}, when
		}
	}
	return last, nil
}

// latest returns the time of an event's last occurrence.
func latest(e corev1.Event) metav1.Time {
	if e.LastTimestamp.IsZero() {
		return metav1.Time{Time: e.EventTime.Time}
	}
	return e.LastTimestamp
}

// A Restart is how often a container has started again, and how it ended last.
type Restart struct {
	Container string
	Times     int32
	Reason    string // of the last end
	Code      int32  // the exit code of it
	At        time.Time
}

// Restarted returns the containers of these names that have restarted since the pod was ready to run its own.
func Restarted(pod *corev1.Pod, names ...string) []Restart {
	var all []Restart
	for _, s := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		t := s.LastTerminationState.Terminated
		if slices.Contains(names, s.Name) && s.RestartCount > 0 && t != nil {
			all = append(all, Restart{s.Name, s.RestartCount, t.Reason, t.ExitCode, t.FinishedAt.Time})
		}
	}
	return all
}

// OutOfMemory reports whether the kernel ended the container for want of memory.
func (r Restart) OutOfMemory() bool { return r.Reason == "OOMKilled" }

// Says describes the restart.
func (r Restart) Says(now time.Time) string {
	times := "once"
	if r.Times > 1 {
		times = fmt.Sprintf("%d times", r.Times)
	}
	return fmt.Sprintf("%s has restarted %s, last %s ago after %s (exit code %d)", r.Container, times, Since(r.At, now), r.Reason, r.Code)
}

// Since returns an age in words. A time that is ahead of this clock counts as now.
func Since(at, now time.Time) string { return duration.HumanDuration(max(0, now.Sub(at))) }
