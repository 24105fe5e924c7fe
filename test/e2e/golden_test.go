//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Whatever pod the API server accepts, it accepts injected: its own validation, on all golden pods as they are, and on them in each
// mode with what else annotations may ask for.
func TestGoldenPodsAreValid(t *testing.T) {
	t.Parallel()
	ns := "golden-" + namespace(t)
	apply(t, `
apiVersion: v1
kind: Namespace
metadata: {name: `+ns+`}
---
apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: runv}
handler: runc
overhead: {podFixed: {cpu: 250m, memory: 160Mi}}
`)
	t.Cleanup(func() {
		//nolint:errcheck // the namespace is the test's own
		tryKubectl(context.WithoutCancel(t.Context()), "", "delete", "--wait=false", "namespace/"+ns, "runtimeclass/runv")
	})
	testdata := filepath.Join(repository, "injector", "testdata")
	var before, after, others []string
	of := map[string]string{} // the golden pods that others are made of
	for _, pattern := range []string{"*.golden.yaml", "pods/*.golden.yaml"} {
		files, err := filepath.Glob(filepath.Join(testdata, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for i, golden := range files {
			file := strings.TrimSuffix(golden, ".golden.yaml")
			name, pod := renamed(t, file+".yaml", ns)
			_, injected := renamed(t, golden, ns)
			before, after = append(before, pod), append(after, injected)
			in := administrator(t, file)
			for j, mode := range []string{"sidecar", "init", "single"} {
				if pod, injected := inMode(t, in, pod, mode, wishes[(i+j)%len(wishes)]); injected {
					others, of[name+"-"+mode] = append(others, pod), name
				}
			}
		}
	}
	accepted, _ := dryRun(t, before)
	injected, refusals := dryRun(t, append(after, others...))
	valid := 0
	for name := range accepted {
		of[name] = name
	}
	for name, golden := range of {
		switch {
		case accepted[golden] && injected[name]:
			valid++
		case accepted[golden]:
			t.Errorf("%s was valid and no longer is", name)
		}
	}
	if t.Failed() {
		t.Log(refusals)
	}
	// The API server is meant to refuse a few: those with fields of tomorrow.
	if len(accepted) < 90 || valid < 90+200 {
		t.Errorf("only %d of %d golden pods are valid before the injection, and %d pods after it", len(accepted), len(before), valid)
	}
}

// renamed is a pod of a file as JSON, with the file's name for its own.
func renamed(t *testing.T, file, ns string) (name, document string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var pod map[string]any
	if err := yaml.Unmarshal(text, &pod); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	metadata, spec := pod["metadata"].(map[string]any), pod["spec"].(map[string]any)
	name = strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".yaml"), ".golden")
	if filepath.Base(filepath.Dir(file)) == "pods" {
		name = "pod-" + name
	}
	metadata["name"], metadata["namespace"] = name, ns
	delete(metadata, "generateName")
	delete(spec, "serviceAccountName") // which would have to be there
	delete(spec, "serviceAccount")
	out, err := json.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	return name, string(out)
}

// dryRun has the API server look at pods, and returns the names of those that it accepts and what it said about the others.
func dryRun(t *testing.T, pods []string) (accepted map[string]bool, refusals string) {
	t.Helper()
	out, err := tryKubectl(t.Context(), strings.Join(pods, "\n---\n"), "create", "--dry-run=server", "--validate=ignore", "-o", "name", "-f",
		"-")
	accepted = map[string]bool{}
	for name := range strings.FieldsSeq(out) {
		accepted[strings.TrimPrefix(name, "pod/")] = true
	}
	if err != nil {
		refusals = err.Error()
	}
	return accepted, refusals
}
