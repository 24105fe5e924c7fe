package injector_test

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

type (
	object = map[string]any
	array  = []any
)

// oracle is a slow and obvious second implementation: it edits the tree of a pod for which a spec asks for injection. In place of
// the agent's containers, whose content is the golden files' business, it puts their names.
func oracle(pod object, spec podconfig.Spec, native bool) object {
	pod = clone(pod).(object)
	of := pod["spec"].(object)
	already := func(name string) bool {
		return slices.ContainsFunc(slices.Concat(items(of["initContainers"]), items(of["containers"])),
			func(c any) bool { return c.(object)["name"] == name })
	}
	once := already("kms-agent-init")
	forever := already("kms-agent")
	again := once || forever
	before, _ := marshalled(pod)

	for _, kind := range []string{"initContainers", "containers"} {
		for i, c := range items(of[kind]) {
			if container := c.(object); wanted(spec, container["name"].(string)) && !(again && late(container, spec)) {
				oracleContainer(container, spec, kind == "containers" || !early(items(of["initContainers"]), i, spec))
			}
		}
	}
	nameAgents(pod)
	next := 0 // the place of the next agent: behind the one before it
	if spec.InitLast {
		next = len(items(of["initContainers"]))
	}
	for i, c := range items(of["initContainers"]) {
		switch c {
		case "kms-agent-init":
			next = i + 1
		case "kms-agent":
			if !once {
				next = i
			}
		}
	}
	names := agentNames(spec, of["restartPolicy"] == "Never")
	if ends := of["restartPolicy"] == "Never" || of["restartPolicy"] == "OnFailure"; ends && spec.Mode == podconfig.ModeSidecar &&
		spec.API == nil && !forever && (once || !native) {
		names = []string{"kms-agent-init"} // a plain container would never end
	}
	for _, name := range names {
		if name == "kms-agent" && !native {
			if !slices.Contains(items(of["containers"]), any(name)) {
				of["containers"] = append(items(of["containers"]), any(name))
			}
			continue
		}
		at := slices.Index(items(of["initContainers"]), any(name))
		if at < 0 {
			at = next
			of["initContainers"] = slices.Insert(items(of["initContainers"]), at, any(name))
		}
		next = at + 1
	}
	for _, v := range oracleVolumes(of, spec) {
		addByName(of, "volumes", v)
	}
	annotations := pod["metadata"].(object)["annotations"].(object)
	after, _ := marshalled(pod)
	if annotations[podconfig.InjectedAnnotation] == nil || !again && before != after {
		annotations[podconfig.InjectedAnnotation] = "v0.0.0"
	}
	return pod
}

func wanted(spec podconfig.Spec, name string) bool {
	if name == "kms-agent-init" || name == "kms-agent" {
		return false
	}
	if len(spec.Containers) > 0 {
		return slices.Contains(spec.Containers, name)
	}
	return !slices.Contains(spec.SkipContainers, name)
}

// late: it came after the agent, and no annotation names it.
func late(container object, spec podconfig.Spec) bool {
	name := container["name"].(string)
	return viewOf(spec, name) == "kms-secrets" && !slices.Contains(spec.Containers, name) &&
		!slices.ContainsFunc(items(container["volumeMounts"]), func(m any) bool { return m.(object)["name"] == "kms-secrets" })
}

// early: an init container that ends before the agent's have begun.
func early(inits array, i int, spec podconfig.Spec) bool {
	for at, c := range inits {
		if name := c.(object)["name"].(string); name == "kms-agent-init" || name == "kms-agent" {
			return i < at
		}
	}
	return spec.InitLast
}

func agentNames(spec podconfig.Spec, never bool) []string {
	fetches := len(spec.Secrets)+len(spec.Env) > 0
	switch {
	case spec.Mode == podconfig.ModeInit:
		return []string{"kms-agent-init"}
	case !fetches, spec.Mode == podconfig.ModeSingle && !never:
		return []string{"kms-agent"}
	}
	return []string{"kms-agent-init", "kms-agent"}
}

func oracleContainer(container object, spec podconfig.Spec, variables bool) {
	const token = "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens"
	mount := func(volume, path string) {
		addByName(container, "volumeMounts", object{"name": volume, "mountPath": path, "readOnly": true})
	}
	mount(viewOf(spec, container["name"].(string)), spec.MountPath)
	if spec.API != nil {
		mount("kms-token", "/var/run/kmstoken")
	}
	if len(spec.Env) > 0 {
		mount("kms-agent-bin", "/var/run/kms/bin")
		words := array{"/var/run/kms/bin/kms-agent", "exec", "--"}
		if spec.MountPath != "/var/run/kms/secrets" {
			words = slices.Insert(words, 2, any("--env-file="+strings.ReplaceAll(spec.MountPath, "$", "$$")+"/..env"))
		}
		if command := items(container["command"]); len(command) > 0 && command[0] != words[0] && variables {
			container["command"] = append(words, command...)
		}
	}
	if !spec.AppIdentity {
		return
	}
	mount("rrsa-oidc-token", token)
	for _, pair := range [][2]string{
		{"ALIBABA_CLOUD_ROLE_ARN", "acs:ram::1234567890123456:role/shop"},
		{"ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c0ffee"},
		{"ALIBABA_CLOUD_OIDC_TOKEN_FILE", token + "/token"},
		{"ALIBABA_CLOUD_STS_REGION", "cn-hangzhou"},
		{"ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED", "true"},
		{"ALIBABA_CLOUD_STS_ENDPOINT", "sts-vpc.cn-hangzhou.aliyuncs.com"},
		{"ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true"},
	} {
		addByName(container, "env", object{"name": pair[0], "value": pair[1]})
	}
}

// sights are, for each container that a secret names, the files that it sees besides everybody's, in the order of the names.
func sights(spec podconfig.Spec) (names []string, seen map[string]string) {
	seen = map[string]string{}
	for _, s := range spec.Secrets {
		for _, c := range s.Containers {
			seen[c] += s.File + "\x00"
		}
	}
	for name := range seen {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, seen
}

func viewOf(spec podconfig.Spec, container string) string {
	names, seen := sights(spec)
	var distinct []string
	for _, name := range names {
		if !slices.Contains(distinct, seen[name]) {
			distinct = append(distinct, seen[name])
		}
	}
	if i := slices.Index(distinct, seen[container]); i >= 0 {
		return fmt.Sprintf("kms-secrets-%d", i+1)
	}
	return "kms-secrets"
}

func oracleVolumes(of object, spec podconfig.Spec) (volumes []object) {
	tmpfs := func(name string) {
		volumes = append(volumes, object{"name": name, "emptyDir": object{"medium": "Memory", "sizeLimit": "16Mi"}})
	}
	tmpfs("kms-secrets")
	tmpfs("kms-agent")
	switch spec.Identity.Kind {
	case config.RRSA:
		source := object{"audience": "sts.aliyuncs.com", "expirationSeconds": float64(spec.TokenExpiration), "path": "token"}
		volumes = append(volumes, object{"name": "rrsa-oidc-token",
			"projected": object{"defaultMode": float64(0o644), "sources": array{object{"serviceAccountToken": source}}}})
	case config.ClientKey:
		mode := 0o444
		if sc, _ := of["securityContext"].(object); sc["fsGroup"] != nil {
			mode = 0o440
		}
		volumes = append(volumes, object{"name": "kms-client-key",
			"secret": object{"secretName": spec.Identity.Secret, "defaultMode": float64(mode), "items": array{
				object{"key": "clientKey", "path": "clientKey"}, object{"key": "password", "path": "password"},
			}}})
	}
	names, _ := sights(spec)
	views := map[string]bool{}
	for _, name := range names {
		if v := viewOf(spec, name); !views[v] {
			views[v] = true
			tmpfs(v)
		}
	}
	if spec.API != nil {
		tmpfs("kms-token")
	}
	if len(spec.Env) > 0 {
		volumes = append(volumes, object{"name": "kms-agent-bin", "emptyDir": object{"sizeLimit": "64Mi"}})
	}
	return volumes
}

// nameAgents replaces the agent's containers by their names.
func nameAgents(pod any) any {
	spec := pod.(object)["spec"].(object)
	for _, kind := range []string{"initContainers", "containers"} {
		for i, c := range items(spec[kind]) {
			if container, ok := c.(object); ok && (container["name"] == "kms-agent-init" || container["name"] == "kms-agent") {
				items(spec[kind])[i] = container["name"]
			}
		}
	}
	return pod
}

// strip takes away what may have been added to a pod, and what is left is like the pod before: null and empty, which mean
// nothing, are away in both.
func strip(before, after any) (was, is any) {
	was, is = clone(before), clone(after)
	old, now := was.(object), is.(object)
	without(now["metadata"].(object)["annotations"].(object), old["metadata"].(object)["annotations"].(object), podconfig.InjectedAnnotation)
	oldSpec, spec := old["spec"].(object), now["spec"].(object)
	ours := func(name string) bool {
		return name == "kms-agent-init" || strings.HasPrefix(name, "kms-") || name == "rrsa-oidc-token"
	}
	thin(spec, oldSpec, "volumes", ours)
	for _, kind := range []string{"initContainers", "containers"} {
		thin(spec, oldSpec, kind, ours)
		for i, c := range items(spec[kind]) {
			if i >= len(items(oldSpec[kind])) {
				break
			}
			container, oldContainer := c.(object), items(oldSpec[kind])[i].(object)
			thin(container, oldContainer, "volumeMounts", ours)
			thin(container, oldContainer, "env", func(name string) bool { return strings.HasPrefix(name, "ALIBABA_CLOUD_") })
			command, oldCommand := items(container["command"]), items(oldContainer["command"])
			if more := len(command) - len(oldCommand); more > 0 && command[0] == "/var/run/kms/bin/kms-agent" {
				container["command"] = command[more:]
			}
		}
	}
	return prune(was), prune(is)
}

func without(in, before object, key string) {
	if old, had := before[key]; had {
		in[key] = old // the only annotation that may change
	} else {
		delete(in, key)
	}
}

// thin removes the items of ours that the array did not have before.
func thin(in, before object, key string, ours func(string) bool) {
	var left array
	for _, item := range items(in[key]) {
		name, _ := item.(object)["name"].(string)
		had := slices.ContainsFunc(items(before[key]), func(o any) bool { return o.(object)["name"] == name })
		if had || !ours(name) {
			left = append(left, item)
		}
	}
	in[key] = left
}

func prune(v any) any {
	switch v := v.(type) {
	case object:
		for key, value := range v {
			if value = prune(value); value == nil {
				delete(v, key)
			} else {
				v[key] = value
			}
		}
	case array:
		if len(v) == 0 {
			return nil
		}
		for i, value := range v {
			v[i] = prune(value)
		}
	}
	return v
}

// addByName adds an item to an array unless there is one of its name.
func addByName(in object, key string, item object) {
	for _, existing := range items(in[key]) {
		if existing.(object)["name"] == item["name"] {
			return
		}
	}
	in[key] = append(items(in[key]), any(item))
}

func items(v any) array {
	list, _ := v.(array)
	return list
}
