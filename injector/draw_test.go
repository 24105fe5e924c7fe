package injector_test

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// drawPod makes a pod with any of our annotations, and fields at every level that the injector has never heard of.
func drawPod(t *rapid.T) object {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"web", "worker", "istio-proxy", "migrate", "ship", "a-b"}), 1, 5,
		rapid.ID).Draw(t, "names")
	inits := rapid.IntRange(0, len(names)-1).Draw(t, "inits")
	spec := unknown(t, "spec")
	spec["containers"] = drawContainers(t, names[inits:])
	if inits > 0 {
		spec["initContainers"] = drawContainers(t, names[:inits])
	} else {
		maybeEmpty(t, spec, "initContainers")
	}
	var volumes array
	for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"data", "settings", "kms-secrets", "rrsa-oidc-token", "kms-token"}),
		rapid.ID).Draw(t, "volumes") {
		v := unknown(t, "volume")
		v["name"] = name
		switch name {
		case "kms-secrets", "kms-token":
			v["emptyDir"] = object{"medium": "Memory"}
		case "rrsa-oidc-token":
			v["projected"] = object{"sources": array{object{"serviceAccountToken": object{"audience": "sts.aliyuncs.com", "path": "token"}}}}
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
	if policy := rapid.SampledFrom([]string{"", "Always", "OnFailure", "Never"}).Draw(t, "restartPolicy"); policy != "" {
		spec["restartPolicy"] = policy
	}
	if rapid.IntRange(0, 2).Draw(t, "restricted") == 0 {
		restrict(spec, rapid.Bool().Draw(t, "by container"))
	}

	annotations := object{podconfig.Prefix + "inject": rapid.SampledFrom([]string{"true", "true", "true", "false"}).Draw(t, "inject"),
		"other/x": "y"}
	if rapid.IntRange(0, 9).Draw(t, "no secret") > 0 {
		annotations[podconfig.Prefix+"secret.db"] = "app/db"
	}
	for key, values := range map[string][]string{
		"mode": {"sidecar", "init", "single"}, "mount-path": {"/etc/secrets", "/var/run/$(X)"}, "token-expiration": {"600"},
		"app-identity": {"true", "false"}, "secret.x": {`{name: app/$(X), mode: "0400"}`, "app/x<&>"}, "env.KEY": {"app/key", "app/key#a.\"b\""},
	} {
		if rapid.Bool().Draw(t, "has "+key) {
			annotations[podconfig.Prefix+key] = rapid.SampledFrom(values).Draw(t, key)
		}
	}
	if annotations[podconfig.Prefix+"mode"] != "single" && rapid.Bool().Draw(t, "has init-position") {
		annotations[podconfig.Prefix+"init-position"] = rapid.SampledFrom([]string{"first", "last"}).Draw(t, "init-position")
	}
	declares := slices.ContainsFunc([]string{"secret.db", "secret.x", "env.KEY"},
		func(key string) bool { return annotations[podconfig.Prefix+key] != nil })
	if mode := annotations[podconfig.Prefix+"mode"]; mode != "init" && (!declares || rapid.Bool().Draw(t, "has api")) {
		annotations[podconfig.Prefix+"api"] = "true"
	}
	if annotations[podconfig.Prefix+"api"] != nil && rapid.Bool().Draw(t, "has socket") {
		annotations[podconfig.Prefix+"api-socket"] = "x.sock"
	}
	if annotations[podconfig.Prefix+"app-identity"] != "true" && annotations[podconfig.Prefix+"token-expiration"] == nil &&
		rapid.Bool().Draw(t, "has identity") {
		identity := rapid.SampledFrom([]string{"rrsa", "node-role", "access-key:kms-a", "client-key:kms-c"}).Draw(t, "identity")
		annotations[podconfig.Prefix+"identity"] = identity
		if identity == "client-key:kms-c" {
			annotations[podconfig.Prefix+"endpoint"] = "kst-1.cryptoservice.kms.aliyuncs.com"
		}
	}
	if which := rapid.SampledFrom([]string{"", "containers", "skip-containers"}).Draw(t, "which"); which != "" {
		annotations[podconfig.Prefix+which] = strings.Join(rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, -1, rapid.ID).Draw(t, which), ",")
	}
	if annotations[podconfig.Prefix+"api"] == nil && rapid.Bool().Draw(t, "has few") {
		for _, key := range []string{"secret.few", "secret.fewer"} {
			few := rapid.SliceOfNDistinct(rapid.SampledFrom(names), 1, -1, rapid.ID).Draw(t, key)
			annotations[podconfig.Prefix+key] = "{name: app/few, containers: [" + strings.Join(few, ", ") + "]}"
		}
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
		for i, volume := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"data", "settings", "rrsa-oidc-token"}), rapid.ID).Draw(t,
			"mounts") {
			m := unknown(t, "mount")
			m["name"], m["mountPath"], m["readOnly"] = volume, fmt.Sprintf("/mnt/%d", i), true
			mounts = append(mounts, m)
		}
		for _, name := range rapid.SliceOfDistinct(rapid.SampledFrom([]string{"HOME", "ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_STS_REGION"}),
			rapid.ID).Draw(t, "env") {
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

// restrict makes a pod one that Pod Security "restricted" accepts, if its users are not root, by what the pod says or all of its
// containers do.
func restrict(spec object, byContainer bool) {
	nonRoot := func(sc object) { sc["runAsNonRoot"], sc["seccompProfile"] = true, object{"type": "RuntimeDefault"} }
	sc, _ := spec["securityContext"].(object)
	if sc == nil {
		sc = object{}
	}
	if !byContainer {
		nonRoot(sc)
	}
	spec["securityContext"] = sc
	for _, c := range append(slices.Clone(items(spec["containers"])), items(spec["initContainers"])...) {
		own, _ := c.(object)["securityContext"].(object)
		if own == nil {
			own = object{}
		}
		own["allowPrivilegeEscalation"], own["capabilities"] = false, object{"drop": array{"ALL"}}
		if byContainer {
			nonRoot(own)
		}
		c.(object)["securityContext"] = own
	}
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
