package webhook_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

func TestMutate(t *testing.T) {
	f := start(t).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})
	f.account("bare", nil)
	f.account("foreign", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::42:role/shop"})
	f.account("default", nil)
	mirror := pod("web", map[string]any{"secret.db": "app/db"})
	mirror["metadata"].(map[string]any)["annotations"].(map[string]any)["kubernetes.io/config.mirror"] = "x"

	for _, c := range []struct {
		name    string
		pod     map[string]any
		code    int32 // of a refusal
		message []string
		patched bool
		metric  string
	}{
		{"injected", pod("web", map[string]any{"secret.db": "app/db"}), 0, nil, true, `result="injected"`},
		{"role of the pod", pod("bare", map[string]any{"secret.db": "app/db", "role-name": "shop"}), 0, nil, true,
			`result="injected",reason="new"`},
		{"said no", pod("web", map[string]any{"inject": "false"}), 0, nil, false, `result="skipped",reason="not-asked"`},
		{"nothing of ours", pod("web", map[string]any{"inject": nil}), 0, nil, false, `reason="not-asked"`},
		{"mirror pod", mirror, 0, nil, false, `result="skipped",reason="mirror-pod"`},
		{"secret without inject", pod("web", map[string]any{"inject": nil, "secret.db": "app/db"}), 400,
			[]string{"kms.alibabacloud.com/inject", "is missing"}, false, `result="denied",reason="annotations"`},
		{"unknown annotation", pod("web", map[string]any{"secrt.db": "app/db"}), 400,
			[]string{"kms.alibabacloud.com/secrt.db", "did you mean kms.alibabacloud.com/secret.db"}, false, ""},
		{"malformed YAML", pod("web", map[string]any{"secret.db": "{name: app/db"}), 400, []string{"kms.alibabacloud.com/secret.db"}, false, ""},
		{"bad JMESPath", pod("web", map[string]any{"secret.db": "{name: app/db, format: json, keys: {a: 'bad['}}"}), 400,
			[]string{"bad[", "is not a JMESPath expression"}, false, ""},
		{"two secrets for one file", pod("web", map[string]any{"secret.db": "app/db", "secret.b": "{name: app/b, path: db}"}), 400,
			[]string{"secret.db", "secret.b"}, false, ""},
		{"a path out of the mount", pod("web", map[string]any{"secret.db": "{name: app/db, path: ../db}"}), 400, []string{"../db"}, false, ""},
		{"forbidden secret", pod("web", map[string]any{"secret.db": "finance/db"}), 403, []string{"finance/db", "namespace shop", "app/*"}, false,
			`result="denied",reason="policy"`},
		{"no role", pod("bare", map[string]any{"secret.db": "app/db"}), 403, []string{"kubectl annotate serviceaccount --namespace shop bare"},
			false, `result="denied",reason="role"`},
		{"no role of the default ServiceAccount", pod("", map[string]any{"secret.db": "app/db"}), 403,
			[]string{"kubectl annotate serviceaccount --namespace shop default"}, false, ""},
		{"no ServiceAccount", pod("missing", map[string]any{"secret.db": "app/db"}), 403, []string{"shop/missing", "does not exist"}, false, ""},
		{"role of another account", pod("foreign", map[string]any{"secret.db": "app/db"}), 403, []string{"acs:ram::42:role/shop"}, false, ""},
		{"role of the node", pod("bare", map[string]any{"secret.db": "app/db", "identity": "node-role"}), 0, nil, true,
			`result="injected",reason="new"`},
		{"role of the node, no ServiceAccount", pod("missing", map[string]any{"secret.db": "app/db", "identity": "node-role"}), 0, nil, true, ""},
		{"forbidden identity", pod("web", map[string]any{"secret.db": "app/db", "identity": "access-key:x"}), 403,
			[]string{"identity", "access-key:x", "allowed: rrsa, node-role"}, false, `result="denied",reason="policy"`},
		{"forbidden secrets of the API", pod("web", map[string]any{"secret.db": "app/db", "api": "true", "api-allow": "*"}), 403,
			[]string{"api-allow", "app/*"}, false, ""},
		{"bad template", pod("web", map[string]any{"secret.db": "{name: app/db, format: template, template: '{{'}"}), 400,
			[]string{"secret.db", "template"}, false, ""},
		{"unknown container", pod("web", map[string]any{"secret.db": "app/db", "containers": "wbe"}), 400,
			[]string{"wbe", "its containers are web"}, false, `result="denied",reason="pod"`},
		{"all at once", pod("bare", map[string]any{"secret.db": "finance/db", "containers": "wbe", "agent-limits": "memory=1Mi"}), 403, []string{
			"3 mistakes:", "1. kms.alibabacloud.com/secret.db", "2. kms.alibabacloud.com/containers: there is no container wbe",
			"3. kms.alibabacloud.com/agent-limits", "\nno RAM role is set for ServiceAccount shop/bare"}, false, `result="denied",reason="policy"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := f.review(t, webhook.MutatePath, "CREATE", c.pod, nil)
			if r.Allowed != (c.code == 0) {
				t.Fatalf("allowed %v: %+v", r.Allowed, r.Result)
			}
			if c.code != 0 {
				if r.Result.Code != c.code {
					t.Errorf("code %d, want %d", r.Result.Code, c.code)
				}
				for _, part := range c.message {
					if !strings.Contains(r.Result.Message, part) {
						t.Errorf("the message lacks %q:\n%s", part, r.Result.Message)
					}
				}
			}
			if (r.Patch != nil) != c.patched || (r.PatchType != nil) != c.patched {
				t.Errorf("patch: %s", r.Patch)
			}
			if c.patched && r.AuditAnnotations["secrets"] != `["app/db"]` {
				t.Errorf("audit annotations: %v", r.AuditAnnotations)
			}
			if c.metric != "" {
				if err := hasSample(f, "kms_webhook_admissions_total", c.metric); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if err := metricIs(f, "kms_webhook_admission_duration_seconds_count"); err != nil {
		t.Error(err)
	}
}

// An audit log says what a pod may read, and with which identity.
func TestAudit(t *testing.T) {
	f := start(t).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})
	for name, c := range map[string]struct {
		annotations map[string]any
		want        map[string]string
	}{
		"RRSA": {map[string]any{
			"secret.a": "{from: {x: app/x, y: app/y}, format: template, template: t, roleArn: 'acs:ram::1234567890123456:role/reader'}",
			"secret.b": "app/b", "env.C": "app/e#key",
			"api": "true", "api-allow": "app/c*",
		}, map[string]string{
			"identity": "rrsa", "role": "acs:ram::1234567890123456:role/shop", "second-roles": `["acs:ram::1234567890123456:role/reader"]`,
			"secrets": `["app/x","app/y","app/b","app/e"]`, "api-allow": `["app/c*"]`, "result": "injected-new", "session": "wide",
		}},
		"the node's role": {map[string]any{"api": "true", "identity": "node-role"},
			map[string]string{"identity": "node-role", "result": "injected-new", "session": "wide"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.review(t, webhook.MutatePath, "CREATE", pod("web", c.annotations), nil)
			if diff := cmp.Diff(c.want, r.AuditAnnotations); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPatchedPod follows one pod through the patch, another webhook, and the re-invocation.
func TestPatchedPod(t *testing.T) {
	f := start(t).ready(t)
	f.account("web", map[string]any{"pod-identity.alibabacloud.com/role-name": "shop"})
	document := marshal(t, pod("web", map[string]any{"secret.db": "app/db"}))

	document = f.mutate(t, document)
	var injected corev1.Pod
	if err := json.Unmarshal(document, &injected); err != nil {
		t.Fatal(err)
	}
	if names := namesOf(injected.Spec.InitContainers); !slices.Equal(names, []string{"kms-agent-init", "kms-agent"}) {
		t.Errorf("init containers %v", names)
	}
	if injected.Annotations["kms.alibabacloud.com/injected"] != "v1.2.3" {
		t.Errorf("annotations %v", injected.Annotations)
	}
	env := map[string]string{}
	for _, e := range injected.Spec.InitContainers[0].Env {
		env[e.Name] = e.Value
	}
	if env["ALIBABA_CLOUD_ROLE_ARN"] != "acs:ram::1234567890123456:role/shop" ||
		!strings.Contains(env["KMS_AGENT_CONFIG"], `"namespace":"shop"`) {
		t.Errorf("environment %v", env)
	}

	if again := f.mutate(t, document); !bytes.Equal(again, document) {
		t.Errorf("injected twice:\n%s", again)
	}
	mesh := corev1.Container{Name: "mesh", Image: "mesh"}
	injected.Spec.Containers = append(injected.Spec.Containers, mesh)
	var late corev1.Pod
	if err := json.Unmarshal(f.mutate(t, marshal(t, injected)), &late); err != nil {
		t.Fatal(err)
	}
	if mounts := late.Spec.Containers[1].VolumeMounts; len(mounts) != 0 {
		t.Errorf("a container that came later has the mounts %v", mounts)
	}
	late.Annotations["kms.alibabacloud.com/containers"] = late.Spec.Containers[0].Name + ",mesh"
	if err := json.Unmarshal(f.mutate(t, marshal(t, late)), &late); err != nil {
		t.Fatal(err)
	}
	if mounts := late.Spec.Containers[1].VolumeMounts; len(mounts) != 1 || mounts[0].Name != "kms-secrets" || !mounts[0].ReadOnly {
		t.Errorf("a container that came later and is named has the mounts %v", mounts)
	}
	for _, sample := range []string{`result="skipped",reason="already-injected"`, `result="injected",reason="again"`} {
		if err := hasSample(f, "kms_webhook_admissions_total", sample); err != nil {
			t.Error(err)
		}
	}
}

func TestValidate(t *testing.T) {
	f := start(t).ready(t)
	f.namespace("shop", map[string]any{"kms.alibabacloud.com/injection": "enabled"})
	f.account("bare", nil)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})
	deployment := func(p map[string]any) map[string]any {
		return map[string]any{"kind": "Deployment", "metadata": map[string]any{"name": "web"}, "spec": map[string]any{"template": p}}
	}
	cron := func(p map[string]any) map[string]any {
		return map[string]any{"kind": "CronJob", "spec": map[string]any{"jobTemplate": map[string]any{"spec": map[string]any{"template": p}}}}
	}
	stateful := func(p map[string]any, claim string) map[string]any {
		claims := []any{map[string]any{"metadata": map[string]any{"name": claim}}}
		return map[string]any{"kind": "StatefulSet", "spec": map[string]any{"template": p, "volumeClaimTemplates": claims}}
	}
	good := pod("web", map[string]any{"secret.db": "app/db"})
	userless := pod("web", map[string]any{"secret.db": "app/db"})
	delete(userless["spec"].(map[string]any), "securityContext")
	bad := pod("web", map[string]any{"secret.db": "app/db", "mode": "sidcar"})
	deleted := deployment(bad)
	deleted["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
	for _, c := range []struct {
		name      string
		operation string
		object    map[string]any
		old       any
		allowed   bool
		message   string // of the refusal or of a warning
	}{
		{"good", "CREATE", deployment(good), nil, true, ""},
		{"of no stated user", "CREATE", deployment(userless), nil, true, "files are 0444"},
		{"no template", "CREATE", map[string]any{"spec": map[string]any{}}, nil, true, ""},
		{"bad", "CREATE", deployment(bad), nil, false, `did you mean "sidecar"`},
		{"bad cron job", "CREATE", cron(bad), nil, false, `did you mean "sidecar"`},
		{"good cron job", "CREATE", cron(good), nil, true, ""},
		{"bad job", "CREATE", map[string]any{"kind": "Job", "spec": map[string]any{"template": bad}}, nil, false, `did you mean "sidecar"`},
		{"a claim in place of a tmpfs", "CREATE", stateful(good, "kms-secrets"), nil, false,
			"volumeClaimTemplates kms-secrets: has the name of a volume that the webhook adds"},
		{"a claim of its own", "CREATE", stateful(good, "data"), nil, true, ""},
		{"a signal to a process in another PID namespace", "CREATE", deployment(pod("web",
			map[string]any{"secret.db": "app/db", "on-change": "signal:HUP:nginx"})), nil, false, "shareProcessNamespace: true"},
		{"update that makes it bad", "UPDATE", deployment(bad), deployment(good), false, `did you mean "sidecar"`},
		{"update of what was bad", "UPDATE", deployment(bad), deployment(bad), true, `did you mean "sidecar"`},
		{"what is being deleted", "UPDATE", deleted, deployment(good), true, `did you mean "sidecar"`},
		{"ServiceAccount to come", "CREATE", deployment(pod("soon", map[string]any{"secret.db": "app/db"})), nil, true, "does not exist"},
		{"role to come", "CREATE", deployment(pod("bare", map[string]any{"secret.db": "app/db"})), nil, true,
			"kubectl annotate serviceaccount --namespace shop bare"},
		{"role of the pod is not allowed", "CREATE",
			deployment(pod("soon", map[string]any{"secret.db": "app/db", "role-arn": "acs:ram::42:role/x"})), nil, false, "acs:ram::42:role/x"},
		{"forbidden secret", "CREATE", deployment(pod("web", map[string]any{"secret.db": "finance/db"})), nil, false, "finance/db"},
		{"all at once", "CREATE", deployment(pod("soon",
			map[string]any{"secret.db": "finance/db", "role-arn": "acs:ram::42:role/x", "containers": "wbe"})), nil, false,
			"2. kms.alibabacloud.com/containers: there is no container wbe in the pod; its containers are web\nkms.alibabacloud.com/role-arn: the " +
				"administrator of this cluster does not allow the role acs:ram::42:role/x"},
		{"annotated itself", "CREATE", own(deployment(pod("web", map[string]any{"inject": nil})), "inject", "secret.db"), nil, true,
			"kms.alibabacloud.com/inject, kms.alibabacloud.com/secret.db: has no effect here, only on pods; move it to " +
				"spec.template.metadata.annotations"},
		{"a mistyped prefix", "CREATE", deployment(map[string]any{"metadata": map[string]any{"annotations": map[string]any{
			"kms.aliyun.com/inject": "true", "kms.alibabacloud.com.secret.db": "x", "kms.aliyun.com/of-another": "x"}}}), nil, true,
			"kms.alibabacloud.com.secret.db: has no effect; did you mean kms.alibabacloud.com/secret.db?; kms.aliyun.com/inject: has no " +
				"effect; did you mean kms.alibabacloud.com/inject?"},
		{"annotated everywhere", "CREATE", own(deployment(good), "inject", "secret.db"), nil, true, ""},
		{"annotated itself, too", "CREATE", own(deployment(good), "inject", "secret.x"), nil, true,
			"kms.alibabacloud.com/secret.x: has no effect here"},
		{"annotated cron job", "CREATE", own(cron(good), "mode"), nil, true, "move it to spec.jobTemplate.spec.template.metadata.annotations"},
		{"annotated template of jobs", "CREATE",
			map[string]any{"spec": map[string]any{"jobTemplate": own(cron(good)["spec"].(map[string]any)["jobTemplate"].(map[string]any), "mode")}},
			nil, true, "kms.alibabacloud.com/mode: has no effect here"},
		{"marked template", "CREATE", deployment(pod("web", map[string]any{"secret.db": "app/db", "injected": "v1"})), nil, true,
			"remove it from the template"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := f.review(t, webhook.ValidatePath, c.operation, c.object, c.old)
			if r.Allowed != c.allowed {
				t.Fatalf("allowed %v: %+v", r.Allowed, r.Result)
			}
			if r.Patch != nil {
				t.Errorf("patch %s", r.Patch)
			}
			said := strings.Join(r.Warnings, "; ")
			if strings.ContainsFunc(said, unicode.IsControl) {
				t.Errorf("the API server would drop the warning %q", said)
			}
			if !r.Allowed {
				said = r.Result.Message
			}
			if !strings.Contains(said, c.message) || c.message == "" && said != "" {
				t.Errorf("said %q, want %q", said, c.message)
			}
		})
	}
}

func TestNotAReview(t *testing.T) {
	f := start(t).ready(t)
	for _, c := range []struct {
		name, method, contentType string
		body                      io.Reader
	}{
		{"GET", http.MethodGet, "application/json", nil},
		{"another type", http.MethodPost, "text/plain", strings.NewReader("{}")},
		{"no JSON", http.MethodPost, "application/json", strings.NewReader("{")},
		{"no request", http.MethodPost, "application/json", strings.NewReader(`{"request":null}`)},
		{"no uid", http.MethodPost, "application/json", strings.NewReader(`{"request":{}}`)},
		{"too long", http.MethodPost, "application/json", strings.NewReader(strings.Repeat(" ", 8<<20))},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := http.NewRequestWithContext(t.Context(), c.method, f.url+webhook.MutatePath, c.body)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", c.contentType)
			response, err := f.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.StatusCode != http.StatusBadRequest {
				t.Errorf("answered %s", response.Status)
			}
		})
	}
}

// TestConcurrent sends many pods at once: each gets its own answer, and equal pods get equal bytes.
func TestConcurrent(t *testing.T) {
	f := start(t).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})
	request := func(secret string) []byte {
		return marshal(t, map[string]any{"request": map[string]any{"uid": "11111111-2222-3333-4444-555555555555", "namespace": "shop",
			"operation": "CREATE", "object": pod("web", map[string]any{"secret.db": secret})}})
	}
	const workers, each = 8, 25
	patches := make([][]byte, workers)
	var wg sync.WaitGroup
	for i := range workers {
		wg.Go(func() {
			body := request(fmt.Sprintf("app/secret-%d", i%2))
			for range each {
				r, err := f.post(webhook.MutatePath, body)
				if err != nil || !r.Allowed {
					t.Errorf("%v %+v", err, r)
					return
				}
				if patches[i] != nil && !bytes.Equal(patches[i], r.Patch) {
					t.Errorf("another patch:\n%s\n%s", patches[i], r.Patch)
				}
				patches[i] = r.Patch
			}
		})
	}
	wg.Wait()
	for i := range workers {
		if !bytes.Equal(patches[i], patches[i%2]) || !bytes.Contains(patches[i], fmt.Appendf(nil, "app/secret-%d", i%2)) {
			t.Errorf("worker %d got another request's patch", i)
		}
	}
}

// TestChangedAfterwards: a pod whose annotations another webhook changes after the injection does not start without what they ask
// for, and its author hears of what they do not change any more.
func TestChangedAfterwards(t *testing.T) {
	f := start(t).ready(t)
	f.namespace("shop", map[string]any{"kms.alibabacloud.com/injection": "enabled"})
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})
	document := f.mutate(t, marshal(t, pod("web", map[string]any{"secret.db": "app/db"})))
	for _, c := range []struct {
		annotation, value string
		allowed           bool
		said              string
	}{
		{"secret.late", "app/late", false, "kms.alibabacloud.com/secret.late: this annotation was written after the agent was injected, " +
			"so the agent ignores it"},
		{"secret.db", "app/other", false, "kms.alibabacloud.com/secret.db: this annotation was written after"},
		{"log-level", "debug", false, "kms.alibabacloud.com/log-level: this annotation was written after the agent was injected"},
		{"mode", "init", true, "kms.alibabacloud.com/mode: changed after the agent was injected, without any effect"},
		{"inject", "false", true, "kms.alibabacloud.com/inject: does not ask for the agent any more, which is in this pod already and stays"},
		{"secret.db", "app/db", true, ""},
	} {
		t.Run(c.annotation+": "+c.value, func(t *testing.T) {
			var p map[string]any
			if err := json.Unmarshal(document, &p); err != nil {
				t.Fatal(err)
			}
			p["metadata"].(map[string]any)["annotations"].(map[string]any)["kms.alibabacloud.com/"+c.annotation] = c.value
			for path, object := range map[string]any{webhook.MutatePath: p,
				webhook.ValidatePath: map[string]any{"spec": map[string]any{"template": p}}} {
				r := f.review(t, path, "CREATE", object, nil)
				said := strings.Join(r.Warnings, "; ")
				if r.Result != nil {
					said += r.Result.Message
				}
				if r.Allowed != c.allowed || r.Patch != nil || !strings.Contains(said, c.said) || c.said == "" && strings.Contains(said, "the agent") {
					t.Errorf("%s: allowed %v, patch %q, said %q", path, r.Allowed, r.Patch, said)
				}
			}
		})
	}
	if err := hasSample(f, "kms_webhook_admissions_total", `result="denied",reason="pod"`); err != nil {
		t.Error(err)
	}
}

// mutate applies the webhook's patch as the API server does.
func (f *fixture) mutate(t *testing.T, document []byte) []byte {
	t.Helper()
	r := f.review(t, webhook.MutatePath, "CREATE", json.RawMessage(document), nil)
	if !r.Allowed {
		t.Fatalf("refused: %s", r.Result.Message)
	}
	if r.Patch == nil {
		return document
	}
	patch, err := jsonpatch.DecodePatch(r.Patch)
	if err != nil {
		t.Fatal(err)
	}
	patched, err := patch.Apply(document)
	if err != nil {
		t.Fatal(err)
	}
	return patched
}

func namesOf(containers []corev1.Container) (names []string) {
	for _, c := range containers {
		names = append(names, c.Name)
	}
	return names
}

// hasSample reports whether a metric has a sample with the labels, which stand in alphabetical order in the text.
func hasSample(f *fixture, metric, labels string) error {
	r, err := http.Get(f.metrics)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, metric) {
			continue
		}
		found := true
		for label := range strings.SplitSeq(labels, ",") {
			found = found && strings.Contains(line, label)
		}
		if found {
			return nil
		}
	}
	return fmt.Errorf("no sample of %s with %s", metric, labels)
}
