package status

import (
	"bytes"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

// Whoever may list pods and not exec into them sees the list, and is told once what is missing.
func TestWithoutTheRightToExec(t *testing.T) {
	text, err := os.ReadFile("../../../../injector/testdata/api.golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	server := &fakekube.Server{Forbids: map[string]string{}}
	var pods []corev1.Pod
	for _, name := range []string{"web-1", "web-2", "web-3"} {
		var pod corev1.Pod
		if err := yaml.Unmarshal(text, &pod); err != nil {
			t.Fatal(err)
		}
		pod.Namespace, pod.Name, pod.Status.Phase = "shop", name, corev1.PodRunning
		running := corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
		pod.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: agentconfig.ContainerName, Ready: true, State: running}}
		server.Forbids["/api/v1/namespaces/shop/pods/"+name+"/exec"] = `pods "` + name +
			`" is forbidden: User "dev" cannot create resource "pods/exec" in API group "" in the namespace "shop"`
		pods = append(pods, pod)
	}
	settings := &rest.Config{Host: server.Start(t)}
	kube, err := kubernetes.NewForConfig(settings)
	if err != nil {
		t.Fatal(err)
	}
	found := Of(t.Context(), injected.Asker{Kube: kube, REST: settings}, pods, time.Now())
	var out bytes.Buffer
	Table(screen.New(&out, os.Getenv), found, false, false, time.Now())
	if len(found) != 3 || strings.Count(out.String(), "\nweb-") != 3 ||
		!strings.HasSuffix(out.String(), "\nshop/web-1 is unknown, and so are 2 more:\n  the agent cannot be asked: you are not allowed to "+
			"create pods/exec in namespace shop\n") {
		t.Errorf("%s", out.String())
	}
}
