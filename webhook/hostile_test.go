package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// TestHostile are pods of a request's full length, which the API server sends before it looks at what they are. What takes time by
// the square of anything in them takes minutes, in which nobody else is served; the API server waits five seconds.
func TestHostile(t *testing.T) {
	const patience = 5 * time.Second
	numbered := func(n int, prefix string) (names []string) {
		for i := range n {
			names = append(names, fmt.Sprintf("%s%x", prefix, i))
		}
		return names
	}
	named := func(n int) (objects []map[string]any) {
		for _, name := range numbered(n, "c") {
			objects = append(objects, map[string]any{"name": name})
		}
		return objects
	}
	agent := func(files int) []map[string]any {
		document := `{"files":[{}` + strings.Repeat(",{}", files-1) + "]}"
		return append(named(1), map[string]any{"name": "kms-agent", "env": []map[string]any{{"name": config.AgentEnv, "value": document}}})
	}
	mounts := make([]map[string]any, 15_000)
	for i := range mounts {
		mounts[i] = map[string]any{"name": "c0", "mountPath": "/var"}
	}
	each := func(keys []string, value string) map[string]string {
		annotations := map[string]string{}
		for _, key := range keys {
			annotations[key] = value
		}
		return annotations
	}
	for _, c := range []struct {
		name        string
		annotations map[string]string
		containers  []map[string]any
		volumes     []map[string]any
		said        string // "": injected
	}{
		{"many files", each(numbered(6000, config.Prefix+"secret."), "a"), named(1), nil, "at most 131054 fit into an environment variable"},
		{"too many files", each(numbered(15_000, config.Prefix+"secret."), "a"), named(1), nil, "Kubernetes allows 262144"},
		{"too many mistakes", each(numbered(15_000, config.Prefix+"skip-container"), "a"), named(1), nil, "Kubernetes allows 262144"},
		{"mistyped prefixes", each(numbered(15_000, "kms.aliyun.com/skip-container"), "a"), named(1), nil, ""},
		{"containers", nil, named(100_000), nil, "there are more than 1001 containers"},
		{"one container too many", nil, named(1001), nil, "the pod has 1001 containers; at most 1000 are possible"},
		{"as many containers as possible", each([]string{config.Prefix + "containers"}, strings.Join(numbered(10_000, "c"), ",")), named(1000), nil, "there is no container c3e8, "},
		{"mounts and volumes", nil, []map[string]any{{"name": "c0", "volumeMounts": mounts}}, named(100_000), "there are more than 1001 volumes"},
		{"mounts", nil, []map[string]any{{"name": "c0", "volumeMounts": mounts}}, named(1000), ""},
		{"files of strangers", each(numbered(4, config.Prefix+"secret."), "{name: a, containers: ["+strings.Join(numbered(10_000, "x"), ",")+"]}"), named(1000), nil, "there is no container x0 in the pod"},
		{"an amount with many zeros", each([]string{config.Prefix + "agent-requests"}, "cpu=1e-2147483648"), named(1), nil, "cpu=1e-2147483648 is not a quantity"},
		{"amounts with many zeros", nil, []map[string]any{{"name": "c0", "resources": map[string]any{
			"limits": map[string]string{"cpu": "1e2147483647", "memory": "1"}, "requests": map[string]string{"cpu": "1", "memory": "1"},
		}}}, nil, ""},
		{"a document of somebody's own", each(numbered(2000, config.Prefix+"secret."), "a"), agent(900_000), nil, "longer than a variable can be"},
		{"a document of somebody's own that could be ours", each(numbered(2000, config.Prefix+"secret."), "a"), agent(40_000), nil, "was injected before this was written"},
		{"files of many containers", each(numbered(40, config.Prefix+"secret."), "{name: a, containers: ["+strings.Join(numbered(1000, "c"), ",")+"]}"), named(1000), nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			annotations := each([]string{config.Prefix + "inject", config.Prefix + "secret.db"}, "true")
			for key, value := range c.annotations {
				annotations[key] = value
			}
			body, err := json.Marshal(map[string]any{"request": map[string]any{"uid": "1", "namespace": "shop", "object": map[string]any{
				"metadata": map[string]any{"annotations": annotations}, "spec": map[string]any{"containers": c.containers, "volumes": c.volumes},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
			handler, w, answered := mutator(t), httptest.NewRecorder(), make(chan struct{})
			go func() {
				handler.ServeHTTP(w, r)
				close(answered)
			}()
			select {
			case <-answered:
			case <-time.After(patience):
				t.Fatalf("no answer to %d bytes in %s", len(body), patience)
			}
			if said := w.Body.String(); !strings.Contains(said, c.said) || strings.Contains(said, `"allowed":true`) != (c.said == "") {
				t.Errorf("%.500s … %d bytes", said, len(said))
			}
		})
	}
}
