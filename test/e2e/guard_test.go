//go:build e2e

package e2e

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// With the webhook's configuration gone, no pod that asks for secrets starts bare, and all others start as ever. Not parallel: the
// other tests need the configuration.
func TestGuard(t *testing.T) {
	ns := namespace(t)
	unlabelled := namespace(t)
	kubectl(t, "label", "namespace", unlabelled, "kms.alibabacloud.com/injection-")
	kubectl(t, "delete", "mutatingwebhookconfiguration", "kms-agent-injector")
	defer restoreWebhook(t, ns)

	asking := workload{name: "asking", annotations: []string{"inject: true", "secret.a: e2e/guard"}}
	var message string
	eventually(t, patience, func() error { // until the API server has noticed
		out, err := tryKubectl(t.Context(), asking.pod(ns), "apply", "--dry-run=server", "-f", "-")
		if err == nil {
			return fmt.Errorf("accepted: %s", out)
		}
		message = err.Error()
		return nil
	})
	for _, want := range []string{"ValidatingAdmissionPolicy 'kms-agent-injector'", "did not inject",
		"MutatingWebhookConfiguration kms-agent-injector", `kms.alibabacloud.com/inject to "false"`} {
		if !strings.Contains(message, want) {
			t.Errorf("%q is not in the message:\n%s", want, message)
		}
	}
	for name, c := range map[string]struct {
		workload
		namespace string
		refused   bool
	}{
		"a secret alone":      {workload{annotations: []string{"secret.a: x"}}, ns, true},
		"a mistyped inject":   {workload{annotations: []string{"inject: yes", "secret.a: x"}}, ns, true},
		"marked by hand":      {workload{annotations: []string{"inject: true", "injected: v1", "secret.a: x"}}, ns, true},
		"said no":             {workload{annotations: []string{"inject: false", "secret.a: x"}}, ns, false},
		"asked nothing":       {workload{}, ns, false},
		"only marked":         {workload{annotations: []string{"injected: v1"}}, ns, false},
		"another's namespace": {workload{annotations: []string{"inject: true", "secret.a: x"}}, unlabelled, false},
		"an agent of its own": {workload{annotations: []string{"inject: true", "secret.a: x"}, containers: container("kms-agent")}, ns, true},
		"another image": {workload{annotations: []string{"inject: true", "secret.a: x"},
			containers: agentContainer("kms-agent-injector/demo-app:dev")}, ns, true},
		"the agent's image": {workload{annotations: []string{"inject: true", "secret.a: x"},
			containers: agentContainer("kms-agent-injector/kms-agent:other")}, ns, false},
		"a mirror's image": {workload{annotations: []string{"inject: true", "secret.a: x"},
			containers: agentContainer("mirror.example.com:5000/kms-agent:v1@sha256:" + strings.Repeat("0", 64))}, ns, false},
		"an agent by the name": {workload{annotations: []string{"inject: true", "secret.a: x"}, containers: container("kms-agents")}, ns, true},
	} {
		c.name = "p"
		out, err := tryKubectl(t.Context(), c.pod(c.namespace), "apply", "--dry-run=server", "-f", "-")
		if (err != nil) != c.refused {
			t.Errorf("%s: refused %v, want %v: %v%s", name, err != nil, c.refused, err, out)
		}
	}
}

// agentContainer is a container with the agent's name and command.
func agentContainer(image string) string {
	return strings.NewReplacer("kms-agent-injector/demo-app:dev", image, `[sleep, "100000"]`, "[/kms-agent]").Replace(container("kms-agent"))
}

var reloadMetric = regexp.MustCompile(`(?m)^kms_webhook_config_last_reload_success_timestamp_seconds (\S+)$`)

// An agent's image that is changed in the webhook's configuration alone refuses no pod: neither while some replicas inject the one
// before and some the next, also where another webhook has them look at each other's pods, nor afterwards; nor where the whole
// installation was removed and made again before, as other tests do. Not parallel: the other tests need the image.
func TestChangedImage(t *testing.T) {
	ns := namespace(t)
	otherWebhook(t, ns)
	const was, is, moved = "kms-agent-injector/kms-agent:dev", "kms-agent-injector/kms-agent:next", "mirror.example.com/kms-agent:next"
	before := configuration(t)
	if strings.Count(before, was) != 1 {
		t.Fatalf("the configuration does not have the image %s:\n%s", was, before)
	}
	pod := strings.Replace(workload{name: "p", annotations: []string{"inject: true", "secret.a: e2e/image"}}.pod(ns), "labels: {",
		"labels: {otherwebhook: mesh-after, ", 1)
	images := func() string {
		out, err := tryKubectl(t.Context(), pod, "create", "--dry-run=server", "-o", "jsonpath={.spec.initContainers[*].image}", "-f", "-")
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return out
	}
	for _, change := range []struct{ document, image string }{
		{strings.Replace(before, was, is, 1), is},
		// To another registry, which the list of earlier ones has to know for as long as the replicas differ.
		{strings.Replace(before, was, is+"\n  earlierImages: [\"*/kms-agent:*\"]", 1), is},
		{strings.Replace(before, was, moved+"\n  earlierImages: [\"*/kms-agent:*\"]", 1), moved},
		{before, was},
	} {
		reloads := measured(t, reloadMetric)
		patchConfiguration(t, change.document)
		for pod := range reloads { // one after the other, so that they differ for a while
			eventually(t, patience, func() error {
				images()
				nudgePod(t, pod)
				if measured(t, reloadMetric)[pod] == reloads[pod] {
					return errNotYet
				}
				return nil
			})
		}
		for range 6 {
			if got := images(); !strings.Contains(got, change.image) {
				t.Errorf("each replica has the image %s, and the images are %s", change.image, got)
			}
		}
	}
}

// A pod that brings along an agent of its own is refused for what it is, and one that was injected from a manifest is not.
func TestForgedPod(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	manifest := workload{name: "p", annotations: []string{"inject: true", "secret.a: e2e/forged"}}.pod(ns)
	injected, err := tryKubectl(t.Context(), manifest, "create", "--dry-run=server", "-o", "json", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tryKubectl(t.Context(), injected, "create", "--dry-run=server", "-f", "-"); err != nil {
		t.Errorf("what was injected is refused: %v", err)
	}
	for field, change := range map[string][2]string{
		"image": {`"image": "kms-agent-injector/kms-agent:dev"`, `"image": "kms-agent-injector/demo-app:dev"`},
		"args":  {`"run"`, `"agent"`},
		"kms.alibabacloud.com/secret.a: this annotation was written":      {`\"secret\":\"e2e/forged\"`, `\"secret\":\"e2e/another\"`},
		"tells the agent something else than this webhook does: kms.host": {`\"host\":\"`, `\"host\":\"x`},
	} {
		forged := strings.ReplaceAll(injected, change[0], change[1])
		if forged == injected {
			t.Fatalf("%s is not in %s", change[0], injected)
		}
		if message := refused(t, forged); !strings.Contains(message, field) || !strings.Contains(message, "made anew") {
			t.Errorf("%s: %s", field, message)
		}
	}
}

// An ephemeral container gets no more than the pod's containers have.
func TestEphemeralContainers(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("debug")
	put(t, name, value())
	apply(t, workload{name: "p", annotations: []string{"inject: true", "secret.a: " + name, "secret.few: {name: " + name +
		", containers: [app]}"},
		containers: container("app") + container("other")}.pod(ns))
	ready(t, ns, "p")
	for volume, allowed := range map[string]bool{"": true, "kms-agent": false, "kms-secrets-1": false} {
		debugger := map[string]any{"name": "debug-" + strings.ToLower(rand.Text()[:6]), "image": "kms-agent-injector/demo-app:dev",
			"imagePullPolicy": "IfNotPresent", "command": []string{"sleep", "1"},
			"securityContext": map[string]any{"allowPrivilegeEscalation": false, "capabilities": map[string]any{"drop": []string{"ALL"}},
				"runAsUser": 1000}}
		if volume != "" {
			debugger["volumeMounts"] = []any{map[string]any{"name": volume, "mountPath": "/mnt"}}
		}
		var pod map[string]any
		if err := json.Unmarshal([]byte(kubectl(t, "-n", ns, "get", "pod", "p", "-o", "json")), &pod); err != nil {
			t.Fatal(err)
		}
		delete(pod["metadata"].(map[string]any), "resourceVersion")
		pod["spec"].(map[string]any)["ephemeralContainers"] = []any{debugger}
		document, err := json.Marshal(pod)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tryKubectl(t.Context(), string(document), "replace", "--raw", "/api/v1/namespaces/"+ns+"/pods/p/ephemeralcontainers?dryRun=All",
			"-f", "-")
		if (err == nil) != allowed || err != nil && !strings.Contains(err.Error(), "an ephemeral container mounts a volume") {
			t.Errorf("with %q: %v", volume, err)
		}
	}
}

// restoreWebhook installs the webhook's configuration again and waits until it injects.
func restoreWebhook(t *testing.T, ns string) {
	t.Helper()
	kubectl(t, "apply", "-k", filepath.Join(installDir(), "webhook"))
	reached(t, workload{name: "probe", annotations: []string{"inject: true", "secret.a: e2e/guard"}}.pod(ns))
}
