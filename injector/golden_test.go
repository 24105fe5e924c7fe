package injector_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	psa "k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestGolden injects testdata/<case>.yaml, a pod, under the webhook's configuration operator.yaml or, if it is there,
// <case>.operator.yaml. What comes out is <case>.golden.yaml, the pod and its warnings, or <case>.denied.txt. The cases of
// testdata/pods are pods as one meets them; the others are about one thing each.
func TestGolden(t *testing.T) {
	left := map[string]bool{}
	for _, name := range glob(t, "testdata/*.golden.yaml", "testdata/*.denied.txt", "testdata/pods/*.golden.yaml",
		"testdata/pods/*.denied.txt") {
		left[name] = true
	}
	for _, name := range goldenCases(t) {
		t.Run(name, func(t *testing.T) {
			in := administrator(t, name)
			pod := readYAML(t, "testdata/"+name+".yaml")
			golden, got := "testdata/"+name+".golden.yaml", ""
			injected, warnings, err := inject(in, pod)
			var mistakes config.Mistakes
			switch {
			case errors.As(err, &mistakes):
				golden, got = "testdata/"+name+".denied.txt", err.Error()+"\n"
			case err != nil:
				t.Fatal(err)
			default:
				got = asYAML(t, injected, warnings)
				invariants(t, pod, injected)
				twiceIsOnce(t, in, injected)
				staysRestricted(t, pod, injected)
			}
			delete(left, golden)
			compare(t, golden, got)
		})
	}
	for name := range left {
		if *update {
			os.Remove(name)
		} else {
			t.Errorf("%s belongs to no case", name)
		}
	}
}

// goldenCases are the names of the cases, without testdata/ and .yaml.
func goldenCases(t *testing.T) (names []string) {
	t.Helper()
	for _, file := range glob(t, "testdata/*.yaml", "testdata/pods/*.yaml") {
		name := strings.TrimSuffix(strings.TrimPrefix(file, "testdata/"), ".yaml")
		if !strings.HasSuffix(name, ".golden") && !strings.HasSuffix(name, ".operator") && name != "operator" {
			names = append(names, name)
		}
	}
	return names
}

const namespace = "shop"

// oneRole is a cluster in which every ServiceAccount has the same role, and no namespace has a label.
type oneRole struct{}

func (oneRole) NamespaceLabels(context.Context, string) (map[string]string, error) { return nil, nil }

func (oneRole) ServiceAccountAnnotations(context.Context, string, string, bool) (map[string]string, error) {
	return map[string]string{rrsa.RoleNameAnnotation: "shop"}, nil
}

// decide has the error of a pod that is refused, too.
func decide(in *injector.Injector, document []byte) (injector.Decision, error) {
	pod, err := injector.DecodePod(document)
	if err != nil {
		return injector.Decision{}, err
	}
	d, err := in.Decide(context.Background(), injector.Request{Namespace: namespace, Pod: pod}, oneRole{})
	return d, cmp.Or(err, d.Refused())
}

// inject is the pod with its plan carried out.
func inject(in *injector.Injector, document []byte) (injected []byte, warnings []string, err error) {
	d, err := decide(in, document)
	if err != nil {
		return nil, nil, err
	}
	if d.Patch == nil {
		return document, d.Warnings, nil
	}
	patch, err := jsonpatch.DecodePatch(d.Patch)
	if err != nil {
		return nil, nil, err
	}
	for _, operation := range patch {
		if operation.Kind() != "add" {
			return nil, nil, fmt.Errorf("the patch has the operation %s", operation.Kind())
		}
	}
	injected, err = patch.Apply(document)
	return injected, d.Warnings, err
}

// invariants are what holds for every pod that was injected.
func invariants(t fataler, before, after []byte) {
	t.Helper()
	var old, pod corev1.Pod
	unmarshal(t, before, &old)
	unmarshal(t, after, &pod)
	volumes := map[string]bool{}
	for _, v := range pod.Spec.Volumes {
		if volumes[v.Name] {
			t.Fatalf("volume %s is there twice", v.Name)
		}
		volumes[v.Name] = true
		own := slices.ContainsFunc(old.Spec.Volumes, func(o corev1.Volume) bool { return o.Name == v.Name })
		onDisk := v.HostPath != nil || v.EmptyDir != nil && v.EmptyDir.Medium != corev1.StorageMediumMemory // as the cluster autoscaler sees it
		if onDisk && !own && v.Name != agentconfig.ProgramVolume {
			t.Fatalf("volume %s is on the node's disk", v.Name)
		}
	}
	containers := map[string]corev1.Container{}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		if _, twice := containers[c.Name]; twice {
			t.Fatalf("container %s is there twice", c.Name)
		}
		containers[c.Name] = c
		paths, env := map[string]bool{}, map[string]bool{}
		for _, m := range c.VolumeMounts {
			if paths[m.MountPath] {
				t.Fatalf("container %s has two volumes at %s", c.Name, m.MountPath)
			}
			paths[m.MountPath] = true
			if isAgent := strings.HasPrefix(c.Name, "kms-agent"); !isAgent && !wrote(old, c.Name, m) && !m.ReadOnly &&
				(strings.HasPrefix(m.Name, agentconfig.SecretsVolume) || m.Name == agentconfig.APIVolume || m.Name == agentconfig.ProgramVolume) {
				t.Fatalf("container %s can write to %s", c.Name, m.Name)
			}
		}
		for _, e := range c.Env {
			if env[e.Name] {
				t.Fatalf("container %s has the variable %s twice", c.Name, e.Name)
			}
			env[e.Name] = true
			if e.Name == agentconfig.Env {
				if _, err := agentconfig.Read([]byte(e.Value)); err != nil {
					t.Fatalf("container %s: %v", c.Name, err)
				}
			}
		}
	}
	for _, c := range append(old.Spec.InitContainers, old.Spec.Containers...) {
		if !grew(asTree(t, c), asTree(t, containers[c.Name])) {
			t.Fatalf("container %s lost or changed something:\n%v\n%v", c.Name, asTree(t, c), asTree(t, containers[c.Name]))
		}
	}
	for _, c := range containers {
		for _, m := range c.VolumeMounts {
			if !wrote(old, c.Name, m) && !volumes[m.Name] {
				t.Fatalf("container %s mounts %s, which is no volume", c.Name, m.Name)
			}
		}
	}
}

// wrote reports whether a mount is the author's own.
func wrote(pod corev1.Pod, container string, m corev1.VolumeMount) bool {
	return slices.ContainsFunc(slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers), func(c corev1.Container) bool {
		return c.Name == container && slices.ContainsFunc(c.VolumeMounts, func(o corev1.VolumeMount) bool {
			return reflect.DeepEqual(o, m)
		})
	})
}

// grew reports whether after has all of before, in order, and maybe more between, before and behind.
func grew(before, after any) bool {
	switch before := before.(type) {
	case map[string]any:
		after, ok := after.(map[string]any)
		for key, value := range before {
			if !ok || !grew(value, after[key]) {
				return false
			}
		}
		return ok
	case []any:
		after, ok := after.([]any)
		for _, value := range before {
			for len(after) > 0 && !grew(value, after[0]) {
				after = after[1:]
			}
			if len(after) == 0 {
				return false
			}
			after = after[1:]
		}
		return ok
	}
	return before == after
}

func twiceIsOnce(t fataler, in *injector.Injector, injected []byte) {
	t.Helper()
	again, _, err := inject(in, injected)
	if err != nil {
		t.Fatalf("an injected pod is refused: %v", err)
	}
	if !bytes.Equal(again, injected) {
		t.Fatalf("an injected pod was changed:\n%s\n%s", injected, again)
	}
}

// staysRestricted asks the evaluator that the API server has.
func staysRestricted(t fataler, before, after []byte) {
	t.Helper()
	evaluator, err := psa.NewEvaluator(psa.DefaultChecks(), nil)
	if err != nil {
		t.Fatalf("%v", err)
	}
	evaluate := func(document []byte) psa.AggregateCheckResult {
		var pod corev1.Pod
		unmarshal(t, document, &pod)
		level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
		return psa.AggregateCheckResults(evaluator.EvaluatePod(level, &pod.ObjectMeta, &pod.Spec))
	}
	if evaluate(before).Allowed {
		if result := evaluate(after); !result.Allowed {
			t.Fatalf("the pod was restricted and no longer is: %s: %s", result.ForbiddenReason(), result.ForbiddenDetail())
		}
	}
}

func administrator(t testing.TB, name string) *injector.Injector {
	t.Helper()
	document, err := os.ReadFile("testdata/" + name + ".operator.yaml")
	if errors.Is(err, os.ErrNotExist) {
		document, err = os.ReadFile("testdata/operator.yaml")
	}
	if err != nil {
		t.Fatal(err)
	}
	policy, err := clusterconfig.Read(document)
	if err != nil {
		t.Fatal(err)
	}
	in, err := injector.New(policy, "v0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func compare(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; write it with -update", err)
	}
	if got != string(want) {
		t.Errorf("%s differs; look at it after -update. Got:\n%s", file, got)
	}
}

func asYAML(t *testing.T, pod []byte, warnings []string) string {
	t.Helper()
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintf(&b, "# Warning: %s\n", w)
	}
	text, err := yaml.JSONToYAML(pod)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(text)
	return b.String()
}

func readYAML(t testing.TB, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	document, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func asTree(t fataler, v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	var tree any
	unmarshal(t, text, &tree)
	return tree
}

func unmarshal(t fataler, text []byte, into any) {
	t.Helper()
	if err := json.Unmarshal(text, into); err != nil {
		t.Fatalf("%v", err)
	}
}

func glob(t testing.TB, patterns ...string) (found []string) {
	t.Helper()
	for _, p := range patterns {
		names, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, names...)
	}
	return found
}

// fataler is what *testing.T and *rapid.T have in common here.
type fataler interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func mustInject(t *testing.T, in *injector.Injector, document []byte) []byte {
	t.Helper()
	injected, _, err := inject(in, document)
	if err != nil {
		t.Fatal(err)
	}
	return injected
}
