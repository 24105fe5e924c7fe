package injector_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
)

// TestProperties holds injections of a thousand random pods to what they promise, and FuzzProperties those of pods that reach more of the
// code.
func TestProperties(t *testing.T) {
	check := randomPods(t)
	for range 10 {
		rapid.Check(t, check) // a hundred each
	}
}

func FuzzProperties(f *testing.F) { f.Fuzz(rapid.MakeFuzz(randomPods(f))) }

func randomPods(t testing.TB) func(*rapid.T) {
	in := administrator(t, "")
	plain := administrator(t, "plain-sidecar")
	return func(t *rapid.T) {
		document := marshal(t, drawPod(t))
		if rapid.IntRange(0, 4).Draw(t, "plain") == 0 {
			properties(t, plain, document, false)
			return
		}
		properties(t, in, document, true)
	}
}

// TestPropertiesOfGoldenPods does the same with every golden pod in each mode.
func TestPropertiesOfGoldenPods(t *testing.T) {
	in, injections := administrator(t, ""), 0
	for _, name := range goldenCases(t) {
		for _, mode := range []string{"sidecar", "init", "single"} {
			t.Run(name+"/"+mode, func(t *testing.T) {
				var pod object
				unmarshal(t, readYAML(t, "testdata/"+name+".yaml"), &pod)
				inMode(pod["metadata"].(object)["annotations"].(object), mode)
				if properties(t, in, marshal(t, pod), true) {
					injections++
				}
			})
		}
	}
	if injections < 250 {
		t.Errorf("only %d injections: most of the pods were refused, so that this says little", injections)
	}
}

// TestOtherSidecars: what one replica has injected, another leaves alone, also if it has been told in between that sidecars are of
// the other kind, and so does a cluster with a manifest that was injected for another.
func TestOtherSidecars(t *testing.T) {
	native, plain := administrator(t, ""), administrator(t, "plain-sidecar")
	both := 0
	for _, name := range goldenCases(t) {
		for _, order := range [][2]*injector.Injector{{native, plain}, {plain, native}} {
			injected, _, err := inject(order[0], readYAML(t, "testdata/"+name+".yaml"))
			if err != nil {
				continue
			}
			again, _, err := inject(order[1], injected)
			if err != nil {
				continue // mode single
			}
			if both++; !bytes.Equal(injected, again) {
				t.Errorf("%s was injected twice:\n%s\n%s", name, injected, again)
			}
		}
	}
	if both < 100 {
		t.Errorf("only %d pods were injected by both", both)
	}
}

// TestShapesAreForgotten: the cache does not grow with the number of users, and its results are the same.
func TestShapesAreForgotten(t *testing.T) {
	in := administrator(t, "")
	for user := range 3 * injector.MaxShapes {
		pod := object{
			"metadata": object{"annotations": object{podconfig.Prefix + "inject": "true", podconfig.Prefix + "secret.db": "app/db"}},
			"spec":     object{"containers": array{object{"name": "web", "securityContext": object{"runAsUser": 1000 + user}}}},
		}
		d, err := decide(in, marshal(t, pod))
		if err != nil || !bytes.Contains(d.Patch, fmt.Appendf(nil, `"runAsUser":%d,`, 1000+user)) {
			t.Fatalf("user %d: %v, %s", 1000+user, err, d.Patch)
		}
		if n := in.Shapes(); n == 0 || n > injector.MaxShapes {
			t.Fatalf("%d shapes are remembered", n)
		}
	}
}

// inMode gives a pod a mode and takes away what contradicts it.
func inMode(annotations object, mode string) {
	annotations[podconfig.Prefix+"mode"] = mode
	switch mode {
	case "single":
		delete(annotations, podconfig.Prefix+"init-position")
	case "init":
		for _, key := range []string{"api", "api-port", "api-socket", "api-allow", "on-change", "refresh-interval"} {
			delete(annotations, podconfig.Prefix+key)
		}
	}
}

// FuzzDecide throws any bytes at it as a pod: no panic, and what is accepted keeps the promises.
func FuzzDecide(f *testing.F) {
	for _, file := range []string{"deployment", "restricted", "mesh-and-init-last", "after-ack-pod-identity-webhook", "denied-mounts", "api",
		"env", "env-container-added-later", "views", "client-key", "signals"} {
		f.Add(readYAML(f, "testdata/"+file+".yaml"))
	}
	in := administrator(f, "")
	f.Fuzz(func(t *testing.T, document []byte) {
		bounds.Allocations(t, len(document), func() { decide(in, document) }) //nolint:errcheck // injected or refused
		injected, _, err := inject(in, document)
		if err != nil || bytes.Equal(injected, document) {
			return
		}
		twiceIsOnce(t, in, injected)
	})
}

// properties are the promises about a pod that is not refused: equal input gives equal bytes, the patch is what the oracle says
// and small, what it adds can be taken away again, injecting twice is injecting once, and a restricted pod stays one. It reports
// whether the pod was injected.
func properties(t fataler, in *injector.Injector, document []byte, native bool) bool {
	t.Helper()
	var made injector.Decision
	var err error
	bounds.Allocations(t, len(document), func() { made, err = decide(in, document) })
	var mistakes config.Mistakes
	if errors.As(err, &mistakes) {
		return false // refusals are looked at one by one elsewhere
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	if again, _ := decide(in, document); !bytes.Equal(again.Patch, made.Patch) {
		t.Fatalf("equal input, other output:\n%s\n%s", made.Patch, again.Patch)
	}
	injected, _, err := inject(in, document)
	if err != nil {
		t.Fatalf("%v\n%s", err, document)
	}
	var before, after object
	unmarshal(t, document, &before)
	unmarshal(t, injected, &after)
	spec := specOf(t, before)
	if !spec.Inject {
		if made.Patch != nil {
			t.Fatalf("a pod that did not ask was patched: %s", made.Patch)
		}
		return false
	}
	if diff := cmp.Diff(oracle(before, spec, native), nameAgents(clone(after))); diff != "" {
		t.Fatalf("the patch and the oracle disagree (-oracle +patch):\n%s\non %s", diff, document)
	}
	was, is := strip(before, after)
	if diff := cmp.Diff(was, is); diff != "" {
		t.Fatalf("without what is ours the pod is another (-before +after):\n%s\non %s", diff, document)
	}
	small(t, before, made.Patch)
	invariants(t, document, injected)
	twiceIsOnce(t, in, injected)
	staysRestricted(t, document, injected)
	return made.Patch != nil
}

func specOf(t fataler, pod object) podconfig.Spec {
	t.Helper()
	annotations := map[string]string{}
	for key, value := range pod["metadata"].(object)["annotations"].(object) {
		annotations[key] = value.(string)
	}
	spec, mistakes := podconfig.Parse(annotations)
	if mistakes != nil {
		t.Fatalf("%v", mistakes)
	}
	return spec
}

// small: two agents with their documents, which say what the annotations say, and a little for each container; nothing of the pod.
func small(t fataler, pod object, patch []byte) {
	t.Helper()
	spec := pod["spec"].(object)
	annotations, _ := marshalled(pod["metadata"].(object)["annotations"])
	containers := len(items(spec["containers"])) + len(items(spec["initContainers"]))
	if most := 6<<10 + 4*len(annotations) + 2<<10*containers; len(patch) > most {
		t.Fatalf("a patch of %d bytes for %d containers and %d bytes of annotations", len(patch), containers, len(annotations))
	}
}

func clone(v any) any {
	text, err := marshalled(v)
	if err != nil {
		panic(err)
	}
	var out any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		panic(err)
	}
	return out
}

func marshalled(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

func marshal(t fataler, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return text
}
