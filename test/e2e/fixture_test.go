//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

const (
	account = "1234567890123456"
	role    = "acs:ram::" + account + ":role/e2e" // trusts any ServiceAccount "app" in namespaces e2e-*
	appOnly = "app"
)

// namespace makes a namespace for one test, opted in to the injection and enforcing Pod Security "restricted", with a ServiceAccount
// "app" that may assume the role. It is deleted afterwards.
func namespace(t testing.TB, labels ...string) string {
	t.Helper()
	name := "e2e-" + strings.ToLower(rand.Text()[:8])
	more := ""
	for _, label := range labels {
		more += "\n    " + label
	}
	apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Namespace
metadata:
  name: %[1]s
  labels:
    kms.alibabacloud.com/injection: enabled
    pod-security.kubernetes.io/enforce: restricted
    pod-security.kubernetes.io/enforce-version: latest%[3]s
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: app
  namespace: %[1]s
  annotations:
    ack.alibabacloud.com/role-arn: %[2]s
`, name, role, more))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("left for a look: kubectl -n %s get pods,events", name)
			return
		}
		cmd := exec.Command(kubectlPath, "--kubeconfig", kubeconfig, "delete", "namespace", name, "--wait=false", "--ignore-not-found")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Logf("delete namespace %s: %v: %s", name, err, out)
		}
	})
	return name
}

// sentinels are all secret values of the run; the last check looks for them in etcd.
var sentinels struct {
	sync.Mutex
	values []string
}

// value is a secret value like no other.
func value() string {
	v := "sentinel-" + rand.Text()
	sentinels.Lock()
	defer sentinels.Unlock()
	sentinels.values = append(sentinels.values, v)
	return v
}

// secretName is that of a secret that only one test uses, so that its calls can be counted.
func secretName(path string) string { return "e2e/" + strings.ToLower(rand.Text()[:8]) + "/" + path }

// cloud runs kms-emulator's own client in its pod, with stdin, and returns what it printed.
func cloud(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := tryKubectl(t.Context(), stdin,
		append([]string{"-n", "kms-emulator", "exec", "-i", "deploy/kms-emulator", "--", "/kms-emulator"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// put creates a KMS secret that the role may read.
func put(t testing.TB, name, value string) {
	t.Helper()
	cloud(t, value, "put-secret", name, "--tag", "env=prod", "--value-stdin")
}

// rotate gives a KMS secret a new current version.
func rotate(t testing.TB, name, value string) {
	t.Helper()
	cloud(t, value, "rotate", name, "--value-stdin")
}

// calls counts the calls of an action, for one secret if it is not "".
func calls(t testing.TB, action, secret string) int {
	t.Helper()
	return callsLike(t, emulator.Call{Action: action, Secret: secret})
}

// callsLike counts the calls that have the fields of a pattern.
func callsLike(t testing.TB, pattern emulator.Call) int {
	t.Helper()
	var counts emulator.CallCounts
	if err := json.Unmarshal([]byte(cloud(t, "", "calls", "-o", "json")), &counts); err != nil {
		t.Fatal(err)
	}
	return counts.Sum(pattern)
}

// A workload is a pod to be: what the cases differ in.
type workload struct {
	name           string
	serviceAccount string   // default app
	annotations    []string // "key: value", the key without the prefix
	podSecurity    string   // lines of the pod's securityContext, besides what "restricted" needs
	spec           string   // further lines of the pod's spec
	containers     string   // YAML list; default one container "app" that sleeps
}

// pod is the manifest of a bare pod.
func (w workload) pod(namespace string) string {
	return "apiVersion: v1\nkind: Pod\n" + w.body(namespace, "")
}

func (w workload) body(namespace, indent string) string {
	if w.serviceAccount == "" {
		w.serviceAccount = appOnly
	}
	if w.containers == "" {
		w.containers = container("app")
	}
	var b strings.Builder
	fmt.Fprintf(&b, "metadata:\n  name: %s\n  namespace: %s\n  labels: {app: %s}\n  annotations:\n    example.com/of: another\n", w.name,
		namespace, w.name)
	for _, a := range w.annotations {
		key, value, _ := strings.Cut(a, ": ")
		fmt.Fprintf(&b, "    kms.alibabacloud.com/%s: %s\n", key, strconv.Quote(value))
	}
	fmt.Fprintf(&b, "spec:\n  serviceAccountName: %s\n  terminationGracePeriodSeconds: 1\n  securityContext:\n    runAsNonRoot: true\n    "+
		"seccompProfile: {type: RuntimeDefault}\n", w.serviceAccount)
	b.WriteString(block(w.podSecurity, "    "))
	b.WriteString(block(w.spec, "  "))
	b.WriteString("  containers:\n" + block(w.containers, "  "))
	return block(b.String(), indent)
}

// container is one that sleeps and satisfies Pod Security "restricted".
func container(name string, more ...string) string {
	c := fmt.Sprintf(`- name: %s
  image: kms-agent-injector/demo-app:dev
  imagePullPolicy: IfNotPresent
  command: [sleep, "100000"]
  securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`, name)
	for _, m := range more {
		c += block(m, "  ")
	}
	return c
}

func block(text, indent string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(indent + strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}

// ready waits until a pod is ready.
func ready(t testing.TB, namespace, pod string) {
	t.Helper()
	if _, err := tryKubectl(t.Context(), "", "-n", namespace, "wait", "--for=condition=Ready", "pod/"+pod, "--timeout=5m"); err != nil {
		describe, _ := tryKubectl(t.Context(), "", "-n", namespace, "describe", "pod", pod)
		logs, _ := tryKubectl(t.Context(), "", "-n", namespace, "logs", pod, "--all-containers", "--prefix")
		t.Fatalf("%v\n%s\n%s", err, describe, logs)
	}
}

// in runs a command in a pod's container.
func in(t testing.TB, namespace, pod, container string, command ...string) string {
	t.Helper()
	return kubectl(t, append([]string{"-n", namespace, "exec", pod, "-c", container, "--"}, command...)...)
}

// podStatus is what the tests look at of a pod.
type podStatus struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Status struct {
		Phase                 string            `json:"phase"`
		InitContainerStatuses []containerStatus `json:"initContainerStatuses"`
		ContainerStatuses     []containerStatus `json:"containerStatuses"`
	} `json:"status"`
}

type containerStatus struct {
	Name         string         `json:"name"`
	RestartCount int            `json:"restartCount"`
	Ready        bool           `json:"ready"`
	State        containerState `json:"state"`
	LastState    containerState `json:"lastState"`
}

type containerState struct {
	Running    *struct{} `json:"running"`
	Terminated *struct {
		ExitCode int    `json:"exitCode"`
		Message  string `json:"message"`
	} `json:"terminated"`
}

func status(t testing.TB, namespace, pod string) podStatus {
	t.Helper()
	var s podStatus
	if err := json.Unmarshal([]byte(kubectl(t, "-n", namespace, "get", "pod", pod, "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s podStatus) container(name string) containerStatus {
	for _, c := range append(s.Status.InitContainerStatuses, s.Status.ContainerStatuses...) {
		if c.Name == name {
			return c
		}
	}
	return containerStatus{}
}

// whyNot waits until a pod's kms-agent-init has failed and returns its termination message.
func whyNot(t testing.TB, namespace, pod string) string {
	t.Helper()
	var message string
	eventually(t, patience, func() error {
		c := status(t, namespace, pod).container("kms-agent-init")
		for _, s := range []containerState{c.State, c.LastState} {
			if s.Terminated != nil && s.Terminated.ExitCode != 0 {
				message = s.Terminated.Message
				return nil
			}
		}
		return errNotYet
	})
	return message
}
