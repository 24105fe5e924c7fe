package status

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

// pod is a golden pod whose sidecar runs.
func pod(t *testing.T, name string) corev1.Pod {
	t.Helper()
	text, err := os.ReadFile("../../../../injector/testdata/api.golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := yaml.Unmarshal(text, &pod); err != nil {
		t.Fatal(err)
	}
	pod.Namespace, pod.Name, pod.Status.Phase = "shop", name, corev1.PodRunning
	running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: agentconfig.ContainerName, Ready: true, State: running}}
	return pod
}

// Two thousand agents that answer after a second each are asked within a minute, and one that does not answer takes five seconds.
func TestMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pods := slices.Repeat([]corev1.Pod{pod(t, "web")}, 2000)
		for i := range pods {
			pods[i].Spec.NodeName = fmt.Sprint(i / 50)
		}
		pods[7].Name = "hangs"
		var last int
		source := Source{Progress: func(done, all int) { last = done }}
		source.Ask = func(ctx context.Context, p injected.Pod, _ bool) (status.Status, error) {
			answer := time.After(time.Second)
			if p.Name == "hangs" {
				answer = nil
			}
			select {
			case <-answer:
				return status.Status{Fetched: time.Now(), Secrets: []status.Secret{{Name: "app/prod/db", Version: "v1"}}}, nil
			case <-ctx.Done():
				return status.Status{}, ctx.Err()
			}
		}
		begun := time.Now()
		found := source.Of(t.Context(), pods)
		if took := time.Since(begun); took > time.Minute || last != len(pods) || len(found) != len(pods) {
			t.Errorf("%d of %d in %s", last, len(found), took)
		}
		for _, p := range found {
			if want := map[bool]string{true: Unknown, false: Fresh}[p.Name == "hangs"]; p.State != want {
				t.Fatalf("%s is %s: %s", p.Name, p.State, p.Problem)
			}
		}
	})
}

// Each state comes with its reason, and whatever the agent's clock says nothing happened in the future.
func TestStates(t *testing.T) {
	now := time.Now()
	outage := &status.Failure{At: now.Add(-4 * time.Second), Attempts: 7, Causes: []status.Problem{{Link: status.KMS, Secret: "app/prod/db",
		Code: "ServiceUnavailableTemporary", Says: "get secret app/prod/db: no", Cause: "out of order", Cure: "wait"}}}
	held := func(ago time.Duration, change func(*status.Status)) status.Status {
		s := status.Status{Fetched: now.Add(-ago), Next: now.Add(70 * time.Second),
			Secrets: []status.Secret{{Name: "app/prod/db", Version: "v1"}}}
		change(&s)
		return s
	}
	for _, c := range []struct {
		held        status.Status
		change      func(*corev1.Pod)
		state, says string
	}{
		{held(-time.Second, func(*status.Status) {}), nil, Fresh, ""},
		{held(time.Hour, func(s *status.Status) { s.LastError = outage }), nil, Stale,
			"the last 7 attempts failed 4s ago, next in 6"},
		{held(time.Second, func(s *status.Status) { s.LastError = outage }), nil, Failing, "why: out of order"},
		{held(time.Hour, func(*status.Status) {}), nil, Stale, "does not say why"},
		{status.Status{LastError: outage, Next: now}, nil, Starting, "no secrets yet: the last 7 attempts failed, next now: get secret"},
		{held(time.Second, func(s *status.Status) {
			s.Notifications = []status.Notification{{Target: "signal:HUP:nginx", Changed: now, Attempts: 6, Failure: "no process nginx",
				Secrets: []status.Secret{{Name: "app/prod/db", Version: "v1"}}}}
		}), nil, NotNotified, "signal:HUP:nginx was not notified of app/prod/db@v1, which is written: no process nginx"},
		{status.Status{}, func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, Ended, ""},
		{status.Status{}, func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodPending
			p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: agentconfig.InitContainerName, State: corev1.ContainerState{
				Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: `secret "keys" not found`}}}}
		}, Starting, `kms-agent-init waits: CreateContainerConfigError: secret "keys" not found`},
		{held(time.Second, func(*status.Status) {}), func(p *corev1.Pod) {
			p.Status.InitContainerStatuses[0].RestartCount = 3
			p.Status.InitContainerStatuses[0].LastTerminationState.Terminated = &corev1.ContainerStateTerminated{Reason: "OOMKilled", ExitCode: 137}
		}, Fresh, "kms-agent has restarted 3 times, last "},
		{status.Status{}, func(p *corev1.Pod) {
			p.Spec.InitContainers, p.Annotations = nil, map[string]string{"kms.alibabacloud.com/inject": "true"}
		}, NotInjected, "made while the webhook was not called"},
	} {
		p := pod(t, "web")
		if c.change != nil {
			c.change(&p)
		}
		server := &fakekube.Server{Objects: map[string]any{"/api/v1/namespaces/shop": map[string]any{"metadata": map[string]any{
			"labels": map[string]any{"kms.alibabacloud.com/injection": "enabled"}}}}}
		kube, err := kubernetes.NewForConfig(&rest.Config{Host: server.Start(t)})
		if err != nil {
			t.Fatal(err)
		}
		found := Source{Kube: kube, Ask: func(context.Context, injected.Pod, bool) (status.Status, error) {
			if len(p.Status.InitContainerStatuses) > 0 && p.Status.InitContainerStatuses[0].State.Running == nil {
				return status.Status{}, injected.ErrSilent
			}
			return c.held, nil
		}}.Of(t.Context(), []corev1.Pod{p})
		if len(found) != 1 || found[0].State != c.state || !strings.Contains(found[0].Problem, c.says) ||
			(c.says == "") != (found[0].Problem == "") {
			t.Errorf("want %s with %q: %+v", c.state, c.says, found)
		}
		var out bytes.Buffer
		Table(screen.New(&out, os.Getenv), found, false, true, now.Add(-time.Minute))
		if strings.Contains(out.String(), "invalid") || !strings.Contains(out.String(), c.says) {
			t.Errorf("%s", out.String())
		}
	}
}

// A user who may list pods but not exec into them sees the list, and one message about the missing right.
func TestWithoutTheRightToExec(t *testing.T) {
	server := &fakekube.Server{Forbids: map[string]string{}}
	var pods []corev1.Pod
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		server.Forbids["/api/v1/namespaces/shop/pods/"+name+"/exec"] = `pods "` + name +
			`" is forbidden: User "dev" cannot create resource "pods/exec" in API group "" in the namespace "shop"`
		pods = append(pods, pod(t, name))
	}
	settings := &rest.Config{Host: server.Start(t)}
	kube, err := kubernetes.NewForConfig(settings)
	if err != nil {
		t.Fatal(err)
	}
	found := Source{Kube: kube, Ask: injected.Asker{Kube: kube, REST: settings}.Ask}.Of(t.Context(), pods)
	if wrong, unseen := Verdict(found); wrong || !unseen {
		t.Errorf("wrong %t, unseen %t", wrong, unseen)
	}
	var out bytes.Buffer
	Table(screen.New(&out, os.Getenv), found, false, false, time.Now())
	if len(found) != 3 || strings.Count(out.String(), "\nweb-") != 3 ||
		!strings.HasSuffix(out.String(), "\nshop/web-1 is unknown, and so are 2 more:\n  the agent cannot be asked: you are not allowed to "+
			"create pods/exec in namespace shop; the pod is not ready\n") {
		t.Errorf("%s", out.String())
	}
}
