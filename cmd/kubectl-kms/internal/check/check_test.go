package check

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

type object = map[string]any

func event(reason, kind, name, message, at string) object {
	return object{"reason": reason, "type": "Warning", "message": message, "lastTimestamp": at, "metadata": object{"namespace": "shop"},
		"involvedObject": object{"kind": kind, "name": name, "namespace": "shop", "uid": name + "-uid"}}
}

func kube(t *testing.T, objects object) kubernetes.Interface {
	t.Helper()
	server := &fakekube.Server{Objects: objects}
	kube, err := kubernetes.NewForConfig(&rest.Config{Host: server.Start(t)})
	if err != nil {
		t.Fatal(err)
	}
	return kube
}

// The last refusal of each controller counts, as long as it lacks pods.
func TestRefusals(t *testing.T) {
	const denied = `admission webhook "pods.kms.alibabacloud.com" denied the request: `
	of := func(wanted, there int) object {
		return object{"spec": object{"replicas": wanted}, "status": object{"replicas": there}}
	}
	kube := kube(t, object{
		"/api/v1/namespaces/shop/events": object{"items": []any{
			event("FailedCreate", "ReplicaSet", "web", denied+"older", "2026-01-01T00:00:00Z"),
			event("FailedCreate", "ReplicaSet", "web", denied+"newer", "2026-01-01T00:01:00Z"),
			event("FailedCreate", "ReplicaSet", "whole", denied, "2026-01-01T00:00:00Z"),
			event("FailedCreate", "ReplicaSet", "gone", denied, "2026-01-01T00:00:00Z"),
			event("FailedCreate", "StatefulSet", "db", "exceeded quota", "2026-01-01T00:00:00Z"),
			event("FailedCreate", "Job", "done", denied, "2026-01-01T00:00:00Z"),
			event("FailedMount", "Pod", "web-0", "no volume", "2026-01-01T00:00:00Z"),
		}},
		"/apis/apps/v1/namespaces/shop/replicasets/web":   of(3, 1),
		"/apis/apps/v1/namespaces/shop/replicasets/whole": of(2, 2),
		"/apis/apps/v1/namespaces/shop/statefulsets/db":   of(1, 0),
		"/apis/batch/v1/namespaces/shop/jobs/done": object{"status": object{"conditions": []any{
			object{"type": "Failed", "status": "True"}}}},
	})
	all, err := Refusals(t.Context(), kube, "shop")
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int32{}
	for _, r := range all {
		missing, err := r.Missing(t.Context(), kube)
		if err != nil {
			t.Fatal(err)
		}
		if got[r.Name] = missing; r.Name == "web" && r.Message != denied+"newer" || r.Ours() != (r.Name != "db") {
			t.Errorf("%+v", r)
		}
	}
	want := map[string]int32{"web": 2, "whole": 0, "gone": 0, "db": 1, "done": 0}
	for name, missing := range want {
		if n, ok := got[name]; !ok || n != missing {
			t.Errorf("%s lacks %d, want %d", name, n, missing)
		}
	}
	if len(got) != len(want) {
		t.Errorf("got %v", got)
	}
}

// What a pod waits for is its own status's, or else its last warning's.
func TestWaits(t *testing.T) {
	pod := &corev1.Pod{}
	pod.Namespace, pod.Name, pod.UID = "shop", "web-0", "web-0-uid"
	waiting := func(reason string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: "why"}}
	}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: "first", State: waiting("ImagePullBackOff")}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "app", State: waiting("PodInitializing")}}
	if all := Waiting(pod); len(all) != 1 || all[0].String() != "first waits: ImagePullBackOff: why" {
		t.Errorf("%v", all)
	}
	kube := kube(t, object{"/api/v1/namespaces/shop/events": object{"items": []any{
		event("FailedMount", "Pod", "web-0", "no volume", "2026-01-01T00:00:00Z"),
		event("Unhealthy", "Pod", "web-0", "a probe", "2026-01-01T00:01:00Z"),
		event("FailedMount", "Pod", "web-1", "another's", "2026-01-01T00:01:00Z"),
	}}})
	if w, err := Warned(t.Context(), kube, pod); err != nil || w == nil || w.String() != "the pod waits: FailedMount: no volume" {
		t.Errorf("%v %v", w, err)
	}
	now := time.Now()
	if Since(now.Add(time.Minute), now) != "0s" {
		t.Error("something is said to happen in the future")
	}
}
