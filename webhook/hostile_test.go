package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/record"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/review"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// A hostilePod is one that the API server sends before it looks at what it is.
type hostilePod struct {
	annotations map[string]string
	containers  []map[string]any
	volumes     []map[string]any
	said        string // "": injected
}

// hostilePods are pods that cost more than they are worth, where anything takes time or memory by the square of what is in them.
func hostilePods() map[string]hostilePod {
	agent := func(files int, file string) []map[string]any {
		document := `{"files":[` + file + strings.Repeat(","+file, files-1) + "]}"
		return append(namedObjects(1), map[string]any{"name": "kms-agent", "env": []map[string]any{{"name": agentconfig.Env, "value": document}}})
	}
	mounts := make([]map[string]any, 9_000)
	ownMounts := make([]map[string]any, 2_000)
	for i := range mounts {
		mounts[i] = map[string]any{"name": "c0", "mountPath": "/var"}
	}
	for i := range ownMounts {
		ownMounts[i] = map[string]any{"name": "kms-secrets", "mountPath": "/x"}
	}
	ownMounts[len(ownMounts)-1] = map[string]any{"name": "c0", "mountPath": "/", "mountPropagation": "Bidirectional"}
	commands, others := namedObjects(150), namedObjects(140)
	for i := range commands {
		commands[i]["command"] = []string{"/x"}
	}
	for i := range others {
		others[i]["volumeMounts"] = []map[string]any{{"name": "kms-secrets-9", "mountPath": config.DefaultSecretsDir}}
	}
	alike := namedObjects(150)
	for _, c := range alike {
		c["name"] = strings.Repeat("x", 55) + c["name"].(string)
	}
	longNames := namedObjects(8)
	for _, c := range longNames {
		c["name"] = c["name"].(string) + strings.Repeat("x", 100_000)
	}
	one := func(key, value string) map[string]string { return map[string]string{podconfig.Prefix + key: value} }
	names := func(n int) string { return strings.Join(numbered(n, "x"), ",") }
	bomb := func(containers, key int) hostilePod {
		return hostilePod{one("secret."+strings.Repeat("f", key), "{name: app/x, path: x, containers: ["+names(containers)+"]}"), namedObjects(1),
			nil, "must have at most 63 characters"}
	}
	long := strings.Repeat("f", 56)
	sources := make([]string, 1000)
	for i := range sources {
		sources[i] = fmt.Sprintf("s%d: finance/db", i)
	}
	return map[string]hostilePod{
		"75 kB of one key and a list":  bomb(8_000, 40_000),
		"210 kB of one key and a list": bomb(12_000, 150_000),
		"long keys and lists": {each(numbered(2, podconfig.Prefix+"secret."+long[:54]), "{name: app/x, containers: ["+names(1000)+"]}"),
			namedObjects(1), nil, "there is no container x0 in the pod"},
		"a list of 16,000 containers": {one("containers", names(16_000)[:65_536]), namedObjects(1), nil,
			"names in it; at most 1000 are allowed"},
		"a list of 16,000 skipped": {one("skip-containers", names(16_000)[:65_536]), namedObjects(1), nil,
			"names in it; at most 1000 are allowed"},
		"a list of 16,000 patterns": {one("api-allow", names(16_000)[:65_536]), namedObjects(1), nil, "names in it; at most 1000 are allowed"},
		"a list of 16,000 of a secret": {one("secret.x", "{name: app/x, containers: ["+names(16_000)[:65_000]+"]}"), namedObjects(1), nil,
			"is too much YAML"},
		"lists of 1,000 for all": {map[string]string{
			podconfig.Prefix + "skip-containers": names(1000), podconfig.Prefix + "api": "true", podconfig.Prefix + "api-allow": names(1000),
			podconfig.Prefix + "secret.y": "{name: app/x, path: a/b}",
		}, namedObjects(150), nil, ""},
		"sources that are not allowed": {one("secret."+long, "{format: template, template: x, from: {"+strings.Join(sources, ", ")+"}}"),
			namedObjects(1), nil, "does not allow the secret"},
		"many sources that are not allowed": {each(numbered(6, podconfig.Prefix+"secret."+long[:54]),
			"format: template\ntemplate: x\nfrom: {"+strings.Join(sources[:100], ", ")+"}"), namedObjects(1), nil,
			"600 mistakes"},
		"variables that are not allowed": {one("env", "{"+strings.ReplaceAll(strings.Join(sources, ", "), "s", "S")+"}"), namedObjects(1), nil,
			"does not allow the secret"},
		"a long mount path": {one("mount-path", "/"+strings.Repeat("m", 60_000)), namedObjects(150), nil, "at most 255 are allowed"},
		"a long role": {map[string]string{podconfig.Prefix + "role-arn": "acs:ram::1:role/" + strings.Repeat("r", 60_000),
			podconfig.Prefix + "app-identity": "true"}, namedObjects(150), nil, "is not the ARN of a RAM role"},
		"all that there is for each container": {map[string]string{
			podconfig.Prefix + "api": "true", podconfig.Prefix + "app-identity": "true", podconfig.Prefix + "env.A": "app/a", podconfig.Prefix +
				"mount-path": "/" + strings.Repeat("m", 250),
		}, commands, nil, ""},
		"long names of containers": {each(numbered(40, podconfig.Prefix+"secret."), "{name: a, containers: [x, y]}"), longNames, nil,
			"there is no container x in the pod"},
		"many files": {each(numbered(6000, podconfig.Prefix+"secret."), "a"), namedObjects(1), nil,
			"at most 131054 fit into an environment variable"},
		"too many files": {each(numbered(9_000, podconfig.Prefix+"secret."), "a"), namedObjects(1), nil, "Kubernetes allows 262144"},
		"unknown keys":   {each(numbered(6000, podconfig.Prefix+"skip-container"), "a"), namedObjects(1), nil, "6000 mistakes"},
		"too many mistakes": {each(numbered(9_000, podconfig.Prefix+"skip-container"), "a"), namedObjects(1), nil,
			"Kubernetes allows 262144"},
		"mistyped prefixes":            {each(numbered(9_000, "kms.aliyun.com/skip-container"), "a"), namedObjects(1), nil, ""},
		"mistyped prefixes, right key": {each(numbered(9_000, "kms.aliyun.com/secret."), "a"), namedObjects(1), nil, ""},
		"a long mistyped prefix":       {each([]string{"kms.aliyun.com/secret." + strings.Repeat("x", 1<<20)}, "a"), namedObjects(1), nil, ""},
		"as many containers as possible": {one("containers", strings.Join(numbered(150, "c")[1:], ",")+",c96"), namedObjects(150), nil,
			"there is no container c96 in the pod"},
		"names that are nearly those of containers": {one("containers",
			strings.Join(append(numbered(900, strings.Repeat("y", 55)), alike[0]["name"].(string)), ",")), alike, nil, ""},
		"containers, very many":  {nil, namedObjects(100_000), nil, "there are more than 1001 containers"},
		"volumes, very many":     {nil, namedObjects(1), namedObjects(100_000), "there are more than 1001 volumes"},
		"one container too many": {nil, namedObjects(151), nil, "the pod has 151 containers; at most 150 are possible"},
		"mounts":                 {nil, []map[string]any{{"name": "c0", "volumeMounts": mounts}}, namedObjects(150), ""},
		"mounts of ours": {nil, []map[string]any{{"name": "c0", "volumeMounts": ownMounts}}, nil,
			"mounts kms-secrets at more than 20 places"},
		"references": {one("env.A", "app/a"),
			[]map[string]any{{"name": "c0", "command": []string{strings.Repeat("$(A)", 50_000)}, "env": namedObjects(9_000)}}, nil, ""},
		"files of strangers": {each(numbered(2, podconfig.Prefix+"secret."), "{name: a, containers: ["+names(1000)+"]}"),
			namedObjects(150), nil, "there is no container x0 in the pod"},
		"files of containers": {each(numbered(2, podconfig.Prefix+"secret."),
			"{name: a, containers: ["+strings.Join(numbered(150, "c"), ",")+"]}"), namedObjects(150), nil, ""},
		"files for others": {each(numbered(300, podconfig.Prefix+"secret."), "{name: a, containers: [c0]}"),
			append(agent(1, `{"path":"x","mode":"0400"}`)[1:], others[1:]...), nil, "was written after the agent was injected"},
		"an amount with many zeros": {one("agent-requests", "cpu=1e-2147483648"), namedObjects(1), nil,
			"cpu=1e-2147483648 is not a quantity"},
		"an amount with many digits": {one("agent-requests", "cpu="+strings.Repeat("1", 60_000)), namedObjects(1), nil,
			"is not a quantity"},
		"amounts with many zeros": {nil, []map[string]any{{"name": "c0", "resources": map[string]any{
			"limits": map[string]string{"cpu": "1e2147483647", "memory": "1"}, "requests": map[string]string{"cpu": "1", "memory": "1"},
		}}}, nil, ""},
		"amounts with many digits": {nil, []map[string]any{{"name": "c0", "resources": map[string]any{
			"limits":   map[string]string{"cpu": strings.Repeat("7", 100_000), "memory": "1"},
			"requests": map[string]string{"cpu": strings.Repeat("7", 99_999), "memory": "1"},
		}}}, nil, ""},
		"a forged agent configuration": {each(numbered(2000, podconfig.Prefix+"secret."), "a"), agent(900_000, `{}`), nil,
			"longer than a variable can be"},
		"a forged agent configuration of the same length": {each(numbered(2000, podconfig.Prefix+"secret."), "a"), agent(40_000, `{}`), nil,
			"was written after the agent was injected"},
		"a forged agent configuration that could be ours": {each(numbered(2000, podconfig.Prefix+"secret."), "a"),
			agent(2_000, `{"path":"x","mode":"0400","secret":"a","format":"raw"}`), nil, "was written after the agent was injected"},
		"expressions": {each(numbered(3, podconfig.Prefix+"env.A"), "a#"+strings.Repeat("[", 4000)), namedObjects(1), nil,
			"is not a JMESPath expression"},
		"long expressions": {each(numbered(60, podconfig.Prefix+"env.A"), "a#"+strings.Repeat("a.", 2000)+"a"), namedObjects(1), nil,
			"the pod's JMESPath expressions have more than 16384 bytes together"},
		"templates": {each(numbered(3, podconfig.Prefix+"secret."),
			"name: a\nformat: template\ntemplate: |\n  "+strings.Repeat("{{.}}", 12_000)), namedObjects(1), nil,
			"the template has more than 24576 bytes between {{ and }}"},
		"templates together": {each(numbered(9, podconfig.Prefix+"secret."),
			"name: a\nformat: template\ntemplate: |\n  "+strings.Repeat("{{$x:=1}}", 600)), namedObjects(1), nil, "the pod's templates have"},
		"templates that end": {each(numbered(3, podconfig.Prefix+"secret."),
			"name: a\nformat: template\ntemplate: |\n  "+strings.Repeat("{{if .}}", 8_000)), namedObjects(1), nil, "template"},
	}
}

// TestHostile holds the cost of every hostile pod to its size: when it is created, and when a workload with it is created or updated.
func TestHostile(t *testing.T) {
	a := hostileAdmission(t)
	metrics := newMetrics(func() time.Time { return time.Time{} })
	pods := &review.Handler[injector.Pod]{Decide: a.mutatePod, Observe: metrics.pod, Log: logr.Discard(), Draining: new(atomic.Bool)}
	workloads := &review.Handler[workload]{Decide: a.validateWorkload, Observe: metrics.pod, Advisory: true, Log: logr.Discard(),
		Draining: new(atomic.Bool)}
	for name, c := range hostilePods() {
		annotations := each([]string{podconfig.Prefix + "inject", podconfig.Prefix + "secret.db"}, "true")
		for key, value := range c.annotations {
			annotations[key] = value
		}
		pod := map[string]any{"metadata": map[string]any{"annotations": annotations},
			"spec": map[string]any{"containers": c.containers, "volumes": c.volumes}}
		deployment := map[string]any{"spec": map[string]any{"template": pod}}
		for _, r := range []struct {
			name    string
			handler http.Handler
			request map[string]any
			allowed bool
		}{
			{"pod", pods, map[string]any{"operation": "CREATE", "object": pod}, c.said == ""},
			{"workload", workloads, map[string]any{"operation": "CREATE", "object": deployment}, c.said == ""},
			{"update", workloads, map[string]any{"operation": "UPDATE", "object": deployment, "oldObject": deployment}, true},
		} {
			t.Run(name+"/"+r.name, func(t *testing.T) {
				r.request["uid"], r.request["namespace"] = "1", "shop"
				body, err := json.Marshal(map[string]any{"request": r.request})
				if err != nil {
					t.Fatal(err)
				}
				handle := sender(r.handler, body)
				if said := handle(); !strings.Contains(said, c.said) ||
					strings.Contains(said, `"allowed":true`) != (r.allowed && !strings.Contains(c.said, "there are more than")) {
					t.Errorf("%.500s … %d bytes", said, len(said))
				}
				bounds.Review(t, body, func() { handle() })
			})
		}
	}
}

// hostileAdmission decides as in a cluster that is careful.
func hostileAdmission(t *testing.T) *admission {
	file := filepath.Join(t.TempDir(), "config.yaml")
	document := "{accountID: '1', clusterID: c, region: cn-hangzhou, agent: {image: agent}, allow: {secrets: ['a*', 'x*', 'true']}}"
	if err := os.WriteFile(file, []byte(document), 0o600); err != nil {
		t.Fatal(err)
	}
	policy, err := loadPolicy(file, "v1", logr.Discard())
	if err != nil {
		t.Fatal(err)
	}
	return &admission{policy: policy, metadata: metadata{cached: oneAccount{}, live: newLive(oneAccount{}), scope: &scope{}},
		events: &events{rate: share.NewRate(1, 1), recorder: &record.FakeRecorder{}}}
}

// sender sends a review to a handler and returns the answer.
func sender(handler http.Handler, body []byte) func() string {
	return func() string {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w.Body.String()
	}
}

func numbered(n int, prefix string) (names []string) {
	for i := range n {
		names = append(names, fmt.Sprintf("%s%x", prefix, i))
	}
	return names
}

func namedObjects(n int) (objects []map[string]any) {
	for _, name := range numbered(n, "c") {
		objects = append(objects, map[string]any{"name": name})
	}
	return objects
}

func each(keys []string, value string) map[string]string {
	annotations := map[string]string{}
	for _, key := range keys {
		annotations[key] = value
	}
	return annotations
}

// TestNestedTemplates: nested templates of Jobs are not read, however deep they are.
func TestNestedTemplates(t *testing.T) {
	const levels = 4_900 // JSON may have 10,000
	body := []byte(`{"request":{"uid":"1","namespace":"shop","operation":"CREATE","object":` +
		strings.Repeat(`{"spec":{"jobTemplate":`, levels) + `{}` + strings.Repeat(`}}`, levels) + `}}`)
	handler := &review.Handler[workload]{
		Decide: hostileAdmission(t).validateWorkload, Observe: func(review.Verdict, time.Duration) {}, Advisory: true, Log: logr.Discard(),
		Draining: new(atomic.Bool),
	}
	handle := sender(handler, body)
	if said := handle(); !strings.Contains(said, `"allowed":true`) {
		t.Errorf("%.500s", said)
	}
	bounds.Review(t, body, func() { handle() })
}
