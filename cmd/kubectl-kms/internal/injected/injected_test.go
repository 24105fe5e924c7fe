package injected

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// golden is a pod as the injector makes it.
func golden(t *testing.T, name string) *corev1.Pod {
	t.Helper()
	text, err := os.ReadFile("../../../../injector/testdata/" + name + ".golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := yaml.Unmarshal(text, &pod); err != nil {
		t.Fatal(err)
	}
	return &pod
}

func read(t *testing.T, name string) Pod {
	t.Helper()
	p, ok, err := Read(golden(t, name))
	if err != nil || !ok {
		t.Fatal(name, ok, err)
	}
	return p
}

func TestRead(t *testing.T) {
	p := read(t, "api")
	if p.Mode != podconfig.ModeSidecar || p.Version != "v0.0.0" || p.Role() != "acs:ram::1234567890123456:role/shop" ||
		p.Provider() != "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee" || p.Sidecar() != agentconfig.ContainerName {
		t.Errorf("%+v", p)
	}
	if p.Agent.API == nil || len(p.Secrets()) == 0 || !slices.IsSorted(p.Secrets()) {
		t.Errorf("secrets %v, API %v", p.Secrets(), p.Agent.API)
	}
	pod := golden(t, "api")
	for i := range pod.Spec.InitContainers {
		pod.Spec.InitContainers[i].Env = nil
	}
	if _, ok, err := Read(pod); !ok || err == nil {
		t.Error("an agent that was told nothing is no error")
	}
	pod.Spec.InitContainers = nil
	pod.Spec.Containers = slices.DeleteFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == agentconfig.ContainerName })
	if _, ok, _ := Read(pod); ok {
		t.Error("a pod without an agent has one")
	}
}

func TestStale(t *testing.T) {
	p, now := read(t, "api"), time.Now()
	interval := time.Duration(p.Agent.RefreshInterval)
	if interval == 0 {
		t.Fatal("the golden pod does not refresh")
	}
	held := func(ago, every time.Duration) status.Status {
		return status.Status{Fetched: now.Add(-ago), Interval: config.Duration(every)}
	}
	if p.Stale(held(interval, interval), now) || !p.Stale(held(3*interval, interval), now) || !p.Stale(held(3*interval, 0), now) {
		t.Error("what is fetched every interval is stale after three of them, and not after one")
	}
	if slow := held(3*interval, 2*interval); p.Stale(slow, now) || !strings.Contains(p.Slowed(slow), "instead of every "+interval.String()) {
		t.Errorf("what is fetched less often because of throttling is not stale, and says so: %q", p.Slowed(slow))
	}
	if says := p.Slowed(held(interval, interval)); says != "" {
		t.Error(says)
	}
	p.Agent.RefreshInterval = 0
	if p.Stale(held(time.Hour, 0), now) {
		t.Error("what is never fetched again cannot be stale")
	}
}

func TestLastWords(t *testing.T) {
	p := read(t, "api")
	say := func(last, now corev1.ContainerState, ready bool) {
		p.Pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{
			Name: agentconfig.InitContainerName, LastTerminationState: last, State: now,
			Ready: ready}}
	}
	ended := func(code int32, message string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Message: message}}
	}
	if _, err := p.Started(); !errors.Is(err, ErrSilent) || p.Failure() != "" {
		t.Errorf("before the start: %v %q", err, p.Failure())
	}
	say(ended(1, "no permission"), corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, false)
	if p.Failure() != "no permission" {
		t.Errorf("crashing: %q", p.Failure())
	}
	say(ended(1, "no permission"), ended(0, `{"secrets":[{"name":"app/db","version":"v2"}]}`), true)
	if s, err := p.Started(); err != nil || len(s.Secrets) != 1 || s.Secrets[0].Version != "v2" || p.Failure() != "" {
		t.Errorf("started: %+v %v %q", s, err, p.Failure())
	}
	say(corev1.ContainerState{}, ended(0, ""), true)
	if _, err := p.Started(); !errors.Is(err, ErrSilent) {
		t.Errorf("an older agent: %v", err)
	}
}
