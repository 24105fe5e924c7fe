package injector_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// TestAgainstOracle holds the patch to a slow and obvious second implementation, which edits the decoded pod, on random pods
// with fields at every level that the injector has never heard of.
func TestAgainstOracle(t *testing.T) {
	in := operator(t, "")
	agents := agentTemplates(t, in)
	rapid.Check(t, func(t *rapid.T) {
		pod := drawPod(t)
		document := marshal(t, pod)
		injected, _, err := inject(in, document)
		var mistakes config.Mistakes
		if errors.As(err, &mistakes) {
			return // refusals are looked at one by one elsewhere
		}
		if err != nil {
			t.Fatalf("inject: %v\n%s", err, document)
		}
		if again, _, _ := inject(in, document); !bytes.Equal(again, injected) {
			t.Fatalf("equal input, other output:\n%s\n%s", injected, again)
		}
		invariants(t, document, injected)
		twiceIsOnce(t, in, injected)

		var got any
		unmarshal(t, injected, &got)
		want := oracle(pod, agents)
		if diff := cmp.Diff(want, forget(got)); diff != "" {
			t.Fatalf("the patch and the oracle disagree (-oracle +patch):\n%s\non %s", diff, document)
		}
	})
}

// FuzzPlan throws any bytes at it as a pod: no panic, and what is accepted keeps the promises.
func FuzzPlan(f *testing.F) {
	for _, file := range []string{"deployment", "restricted", "mesh-and-init-last", "after-ack-pod-identity-webhook", "denied-mounts", "api", "env", "env-container-added-later", "views", "client-key", "signals"} {
		f.Add(readYAML(f, "testdata/"+file+".yaml"))
	}
	in := operator(f, "")
	f.Fuzz(func(t *testing.T, document []byte) {
		injected, _, err := inject(in, document)
		if err != nil || bytes.Equal(injected, document) {
			return
		}
		twiceIsOnce(t, in, injected)
	})
}

type (
	object = map[string]any
	array  = []any
)

// oracle is what an injected pod looks like, for the annotations that drawPod makes.
func oracle(pod object, agents object) object {
	pod = clone(pod).(object)
	annotations := pod["metadata"].(object)["annotations"].(object)
	annotations[config.InjectedAnnotation] = "v0.0.0"
	if annotations[config.Prefix+"inject"] != "true" {
		delete(annotations, config.InjectedAnnotation)
		return pod
	}
	spec := pod["spec"].(object)
	for _, kind := range []string{"initContainers", "containers"} {
		for _, c := range items(spec[kind]) {
			container := c.(object)
			if name := container["name"].(string); !wanted(annotations, name) {
				continue
			}
			volume := "kms-secrets"
			if narrow, _ := annotations[config.Prefix+"secret.few"].(string); strings.Contains(narrow, "["+container["name"].(string)+"]") {
				volume = "kms-secrets-1"
			}
			addByName(container, "volumeMounts", object{"name": volume, "mountPath": "/var/run/kms/secrets", "readOnly": true})
			if annotations[config.Prefix+"api"] == "true" {
				addByName(container, "volumeMounts", object{"name": "kms-token", "mountPath": "/var/run/kmstoken", "readOnly": true})
			}
			if annotations[config.Prefix+"env.KEY"] != nil {
				addByName(container, "volumeMounts", object{"name": "kms-agent-bin", "mountPath": "/var/run/kms/bin", "readOnly": true})
				container["command"] = append(array{"/var/run/kms/bin/kms-agent", "exec", "--"}, items(container["command"])...)
			}
			if annotations[config.Prefix+"app-identity"] == "true" {
				addByName(container, "volumeMounts", object{"name": "rrsa-oidc-token", "mountPath": "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens", "readOnly": true})
				for _, e := range agents["identity"].(array) {
					addByName(container, "env", e.(object))
				}
			}
		}
	}
	var ours array
	if annotations[config.Prefix+"mode"] != "single" && declares(annotations) {
		ours = append(ours, "kms-agent-init")
	}
	if annotations[config.Prefix+"mode"] != "init" {
		ours = append(ours, "kms-agent")
	}
	if theirs := items(spec["initContainers"]); annotations[config.Prefix+"init-position"] == "last" {
		spec["initContainers"] = append(theirs, ours...)
	} else {
		spec["initContainers"] = append(ours, theirs...)
	}
	volumes := []string{"kms-secrets", "kms-agent"}
	switch annotations[config.Prefix+"identity"] {
	case nil, "rrsa":
		volumes = append(volumes, "rrsa-oidc-token")
	case "client-key:kms-c":
		volumes = append(volumes, "kms-client-key")
		secret := agents["kms-client-key"].(object)["secret"].(object)
		secret["defaultMode"] = 0o444
		if sc, ok := spec["securityContext"].(object); ok && sc["fsGroup"] != nil {
			secret["defaultMode"] = 0o440
		}
	}
	if annotations[config.Prefix+"secret.few"] != nil {
		volumes = append(volumes, "kms-secrets-1")
	}
	if annotations[config.Prefix+"api"] == "true" {
		volumes = append(volumes, "kms-token")
	}
	if annotations[config.Prefix+"env.KEY"] != nil {
		volumes = append(volumes, "kms-agent-bin")
	}
	for _, name := range volumes {
		addByName(spec, "volumes", clone(agents[name]).(object))
	}
	return pod
}

// forget replaces the agent's containers by their names: their content is the golden files' business.
func forget(pod any) any {
	spec := pod.(object)["spec"].(object)
	for i, c := range items(spec["initContainers"]) {
		if name := c.(object)["name"].(string); strings.HasPrefix(name, "kms-agent") {
			spec["initContainers"].(array)[i] = name
		}
	}
	return pod
}

// declares reports whether there is a secret to fetch before the rest.
func declares(annotations object) bool {
	return annotations[config.Prefix+"secret.db"] != nil || annotations[config.Prefix+"secret.x"] != nil || annotations[config.Prefix+"secret.few"] != nil || annotations[config.Prefix+"env.KEY"] != nil
}

func wanted(annotations object, name string) bool {
	if list, found := annotations[config.Prefix+"containers"]; found {
		return strings.Contains(","+list.(string)+",", ","+name+",")
	}
	if list, found := annotations[config.Prefix+"skip-containers"]; found {
		return !strings.Contains(","+list.(string)+",", ","+name+",")
	}
	return true
}

func addByName(in object, key string, item object) {
	for _, existing := range items(in[key]) {
		if existing.(object)["name"] == item["name"] {
			return
		}
	}
	in[key] = append(items(in[key]), item)
}

func items(v any) array {
	list, _ := v.(array)
	return list
}

// agentTemplates are the parts that the oracle adds, taken from one injected pod.
func agentTemplates(t *testing.T, in *injector.Injector) object {
	parts, spec := object{}, object{}
	for _, annotations := range []object{
		{"secret.db": "{name: app/db, containers: [c]}"},
		{"secret.db": "app/db", "identity": "client-key:kms-c", "endpoint": "kst-1.cryptoservice.kms.aliyuncs.com"},
		{"secret.db": "app/db", "api": "true", "env.KEY": "app/key"},
	} {
		prefixed := object{config.Prefix + "inject": "true"}
		for key, value := range annotations {
			prefixed[config.Prefix+key] = value
		}
		injected, _, err := inject(in, marshal(t, object{"metadata": object{"annotations": prefixed}, "spec": object{"containers": array{object{"name": "c", "command": array{"x"}}}}}))
		if err != nil {
			t.Fatal(err)
		}
		var pod any
		unmarshal(t, injected, &pod)
		spec = pod.(object)["spec"].(object)
		for _, v := range spec["volumes"].(array) {
			parts[v.(object)["name"].(string)] = v
		}
	}
	var identity array
	for _, e := range spec["initContainers"].(array)[0].(object)["env"].(array) {
		if strings.HasPrefix(e.(object)["name"].(string), "ALIBABA_CLOUD_") {
			identity = append(identity, e)
		}
	}
	parts["identity"] = identity
	return parts
}

func drawPod(t *rapid.T) object {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"web", "worker", "istio-proxy", "migrate", "ship", "a-b"}), 1, 5, rapid.ID).Draw(t, "names")
	inits := rapid.IntRange(0, len(names)-1).Draw(t, "inits")
	spec := unknown(t, "spec")
	spec["containers"] = drawContainers(t, names[inits:])
	if inits > 0 {
		spec["initContainers"] = drawContainers(t, names[:inits])
	} else {
		maybeEmpty(t, spec, "initContainers")
	}
	var volumes array
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"data", "settings", "kms-secrets", "rrsa-oidc-token", "kms-token"}), rapid.ID).Draw(t, "volumes") {
		v := unknown(t, "volume")
		v["name"] = name
		switch name {
		case "kms-secrets", "kms-token":
			v["emptyDir"] = object{"medium": "Memory"}
		case "rrsa-oidc-token":
			v["projected"] = object{"sources": array{}}
		}
		volumes = append(volumes, v)
	}
	if volumes != nil {
		spec["volumes"] = volumes
	} else {
		maybeEmpty(t, spec, "volumes")
	}
	if sc := drawSecurityContext(t, "podSecurityContext", "fsGroup"); sc != nil {
		spec["securityContext"] = sc
	}

	annotations := object{config.Prefix + "inject": rapid.SampledFrom([]string{"true", "true", "true", "false"}).Draw(t, "inject"), "other/x": "y"}
	if rapid.IntRange(0, 9).Draw(t, "no secret") > 0 {
		annotations[config.Prefix+"secret.db"] = "app/db"
	}
	for key, values := range map[string][]string{
		"mode": {"sidecar", "init", "single"}, "app-identity": {"true", "false"}, "secret.x": {`{name: app/$(X), mode: "0400"}`, "app/x<&>"}, "env.KEY": {"app/key", "app/key#a.\"b\""},
	} {
		if rapid.Bool().Draw(t, "has "+key) {
			annotations[config.Prefix+key] = rapid.SampledFrom(values).Draw(t, key)
		}
	}
	if annotations[config.Prefix+"mode"] != "single" && rapid.Bool().Draw(t, "has init-position") {
		annotations[config.Prefix+"init-position"] = rapid.SampledFrom([]string{"first", "last"}).Draw(t, "init-position")
	}
	if mode := annotations[config.Prefix+"mode"]; mode != "init" && (!declares(annotations) || rapid.Bool().Draw(t, "has api")) {
		annotations[config.Prefix+"api"] = "true"
	}
	if annotations[config.Prefix+"app-identity"] != "true" && rapid.Bool().Draw(t, "has identity") {
		identity := rapid.SampledFrom([]string{"rrsa", "node-role", "access-key:kms-a", "client-key:kms-c"}).Draw(t, "identity")
		annotations[config.Prefix+"identity"] = identity
		if identity == "client-key:kms-c" {
			annotations[config.Prefix+"endpoint"] = "kst-1.cryptoservice.kms.aliyuncs.com"
		}
	}
	if which := rapid.SampledFrom([]string{"", "containers", "skip-containers"}).Draw(t, "which"); which != "" {
		annotations[config.Prefix+which] = strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, -1, rapid.ID).Draw(t, which), ",")
	}
	if annotations[config.Prefix+"api"] == nil && rapid.Bool().Draw(t, "has few") {
		annotations[config.Prefix+"secret.few"] = "{name: app/few, containers: [" + rapid.SampledFrom(names).Draw(t, "few") + "]}"
	}
	metadata := unknown(t, "metadata")
	metadata["annotations"] = annotations
	pod := unknown(t, "pod")
	pod["metadata"], pod["spec"] = metadata, spec
	return pod
}

func drawContainers(t *rapid.T, names []string) array {
	var containers array
	for _, name := range names {
		c := unknown(t, name)
		c["name"] = name
		if sc := drawSecurityContext(t, name+" securityContext", "unknown"); sc != nil {
			c["securityContext"] = sc
		}
		if command := rapid.SampledFrom([]array{{"/run"}, {"sh", "-c", "$(X)"}, {"a"}, {"b"}, nil}).Draw(t, "command"); command != nil {
			c["command"] = command
		}
		var mounts, env array
		for i, volume := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"data", "settings", "rrsa-oidc-token"}), rapid.ID).Draw(t, "mounts") {
			m := unknown(t, "mount")
			m["name"], m["mountPath"], m["readOnly"] = volume, fmt.Sprintf("/mnt/%d", i), true
			mounts = append(mounts, m)
		}
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"HOME", "ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_STS_REGION"}), rapid.ID).Draw(t, "env") {
			e := unknown(t, "env")
			e["name"], e["value"] = name, "own"
			env = append(env, e)
		}
		for key, list := range map[string]array{"volumeMounts": mounts, "env": env} {
			if list != nil {
				c[key] = list
			} else {
				maybeEmpty(t, c, key)
			}
		}
		containers = append(containers, c)
	}
	return containers
}

func drawSecurityContext(t *rapid.T, label, more string) any {
	sc := unknown(t, label)
	for _, key := range []string{"runAsUser", "runAsGroup", more} {
		if id := rapid.SampledFrom([]float64{-1, -1, 0, 1000, 1001}).Draw(t, label+key); id >= 0 {
			sc[key] = id
		}
	}
	return rapid.SampledFrom([]any{nil, sc, sc}).Draw(t, label)
}

// maybeEmpty leaves an array out, or writes it in one of the ways that mean the same.
func maybeEmpty(t *rapid.T, in object, key string) {
	if v := rapid.SampledFrom([]string{"absent", "null", "empty"}).Draw(t, key); v == "null" {
		in[key] = nil
	} else if v == "empty" {
		in[key] = array{}
	}
}

// unknown is an object with fields of a later Kubernetes in it.
func unknown(t *rapid.T, label string) object {
	return rapid.SampledFrom([]func() object{
		func() object { return object{} },
		func() object { return object{"xTomorrow": object{"list": array{1.5, "a/b~c", nil, true}}} },
		func() object { return object{"xName": "<&>", "xEmpty": object{}, "x/y~z": array{}} },
	}).Draw(t, "unknown of "+label)()
}

func clone(v any) any {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	var out any
	if err := json.Unmarshal(text, &out); err != nil {
		panic(err)
	}
	return out
}

func marshal(t fataler, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return text
}
