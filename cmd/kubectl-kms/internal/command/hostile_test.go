package command

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
)

// hostile is what a tenant may have written anywhere: it moves terminals, writes their clipboards, and reads backwards.
const hostile = "x\x1b]52;c;aGk=\a\x1b[1A\x1b[2Ky\rz\u009b2J\u202e\x7f"

// quiet fails the test if a text would move a terminal.
func quiet(t *testing.T, what, text string) {
	t.Helper()
	for i, r := range text {
		if r != '\n' && unicode.In(r, unicode.Cc, unicode.Bidi_Control, unicode.Zl, unicode.Zp) {
			t.Errorf("%s shows %q: …%q", what, r, text[max(0, i-40):min(len(text), i+40)])
			return
		}
	}
}

// What tenants write into pods, what their containers say, and what the API server repeats of it, moves no administrator's terminal.
func TestHostileCluster(t *testing.T) {
	text, err := os.ReadFile("../../../../injector/testdata/api.golden.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pod := func(name string) *corev1.Pod {
		p := &corev1.Pod{TypeMeta: metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}}
		if err := yaml.Unmarshal(text, p); err != nil {
			t.Fatal(err)
		}
		p.Namespace, p.Name, p.Status.Phase = "shop", name, corev1.PodRunning
		p.Annotations["kms.alibabacloud.com/injected"] = hostile
		p.Annotations["kms.alibabacloud.com/"+hostile] = hostile
		for i, c := range p.Spec.InitContainers {
			for j, e := range c.Env {
				if e.Name == "ALIBABA_CLOUD_ROLE_ARN" || e.Name == "ALIBABA_CLOUD_OIDC_PROVIDER_ARN" {
					p.Spec.InitContainers[i].Env[j].Value = hostile + ":role/" + hostile
				}
			}
		}
		p.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: agentconfig.ContainerName,
			State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		return p
	}
	failing, talking, forged := pod("failing"), pod("talking"), pod("forged")
	failing.Status.InitContainerStatuses = []corev1.ContainerStatus{{Name: agentconfig.InitContainerName, State: corev1.ContainerState{
		Terminated: &corev1.ContainerStateTerminated{ExitCode: 1, Message: "get secret " + hostile + ": no\n  fix: " + hostile},
	}}}
	for i := range forged.Spec.InitContainers {
		forged.Spec.InitContainers[i].Command = []string{hostile}
	}
	server := shop()
	server.Objects["/api/v1/namespaces/shop/pods"] = list("v1", "Pod", failing, talking, forged)
	for _, p := range []*corev1.Pod{failing, talking, forged} {
		server.Objects["/api/v1/namespaces/shop/pods/"+p.Name] = p
	}
	server.Objects["/api/v1/namespaces/shop/events"] = list("v1", "Event",
		object{"metadata": object{"name": "1"}, "reason": "FailedCreate", "message": hostile,
			"involvedObject": object{"kind": "ReplicaSet", "name": "web-58c5759d8d"}, "lastTimestamp": "2026-01-01T00:00:00Z"})
	server.Objects["/.well-known/openid-configuration"] = object{"issuer": hostile}
	server.Refuses, server.Warns = `failed calling webhook "pods.kms.alibabacloud.com": `+hostile, "299 - \"mind \u202e this\""
	server.Forbids = map[string]string{"/api/v1/namespaces/shop/pods/secret": hostile}
	server.Runs = map[string]func([]string, io.Writer, io.Writer){
		"/api/v1/namespaces/shop/pods/talking/exec": func(_ []string, stdout, _ io.Writer) {
			_ = json.NewEncoder(stdout).Encode(object{"fetched": "2026-01-01T00:00:00Z", "problems": []string{hostile},
				"secrets": []object{{"name": hostile, "version": hostile}}})
		},
	}
	address := server.Start(t)
	for _, line := range []string{
		"status", "status -o wide", "status -o json", "status secret", "status none\x1b[2J",
		"doctor failing", "doctor talking", "doctor forged", "doctor deployment/web", "doctor talking -o json", "doctor secret", "doctor \x1b[2J",
		"status -o yaml", "doctor talking -o yaml",
	} {
		t.Run(line, func(t *testing.T) {
			_, stdout, stderr := run(t, "", append([]string{"--server", address, "--cache-dir", t.TempDir(), "-n", "shop"},
				strings.Split(line, " ")...)...)
			if stdout+stderr == "" {
				t.Error("it says nothing")
			}
			quiet(t, "stdout", stdout)
			quiet(t, "stderr", stderr)
			if !strings.Contains(stderr, `Warning: mind \u202e this`) {
				t.Errorf("what the API server warns of is not said:\n%s", stderr)
			}
			if strings.HasSuffix(line, "-o json") && (!json.Valid([]byte(stdout)) || !strings.Contains(stdout, `\u202e\u007f`)) {
				t.Errorf("not valid, or not all of it:\n%s", stdout)
			}
		})
	}
}

// YAML says the same as JSON, with escapes where a string would move a terminal.
func TestUnmovingYAML(t *testing.T) {
	for _, text := range []string{
		hostile, "plain", "a: b\nc\n", "a\u202e\nb\n", "\u2028a\u2029\n\u0085 b", "\ufeffa", "'\u2066\"\\u202e", "on \u202e", "\u061c: #😀",
		"\x7f",
	} {
		want := map[string]any{"list": []any{text, "true", "1"}, text: 1.0}
		var out bytes.Buffer
		sh := &shell{Streams: Streams{Out: &out}}
		if err := sh.encode(want, "yaml"); err != nil {
			t.Fatal(err)
		}
		quiet(t, "YAML", out.String())
		var got map[string]any
		if err := yaml.Unmarshal(out.Bytes(), &got); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%v: got %q, want %q:\n%s", err, got, want, out.String())
		}
	}
}

// Nor do manifests that others wrote.
func TestHostileManifests(t *testing.T) {
	quoted, err := json.Marshal(hostile)
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.NewReplacer("\x7f", `\u007f`).Replace(string(quoted))
	for name, manifest := range map[string]string{
		"annotation": strings.ReplaceAll(deployment, `"true"`, `"true"`+"\n        kms.alibabacloud.com/secret.b: "+bad),
		"key": strings.ReplaceAll(deployment, "kms.alibabacloud.com/secret.db: app/prod/db",
			`"kms.alibabacloud.com/`+strings.Trim(bad, `"`)+`": a`),
		"name":      strings.ReplaceAll(deployment, "{name: web, namespace: shop}", "{name: "+bad+", namespace: "+bad+"}"),
		"elsewhere": `{"kind": ` + bad + `, "spec": {` + bad + `: {"annotations": {"kms.alibabacloud.com/mode": ` + bad + `}}}}`,
		"twice":     `{` + bad + `: 1, ` + bad + `: 2}`,
		"no YAML":   "a: " + hostile,
	} {
		for _, command := range []string{"validate", "inject"} {
			args := []string{command, "-f", "-", "--config", operator}
			code, stdout, stderr := run(t, manifest, args...)
			if command == "validate" {
				quiet(t, name+": "+command, stdout)
			}
			quiet(t, name+": "+command, stderr)
			if code == 0 && stderr == "" && name != "name" {
				t.Errorf("%s: %s says nothing", name, command)
			}
		}
	}
}

// A line break in what others wrote makes no line of the report.
func TestForgedLines(t *testing.T) {
	const forged = "1 pod looked at: 0 mistakes"
	manifest := strings.NewReplacer("serviceAccountName: web", `serviceAccountName: "web\n`+forged+`"`, "{name: web, image", `{name: "web\n`+
		forged+`", image`, "secret.db: app/prod/db", "secret.db: app/prod/db\n        kms.alibabacloud.com/containers: other").Replace(deployment)
	_, stdout, stderr := run(t, manifest, "validate", "-f", "-", "--config", operator)
	if !strings.Contains(stdout, `\n`+forged) || strings.Contains(stdout, "\n"+forged) {
		t.Errorf("%s%s", stdout, stderr)
	}
}
