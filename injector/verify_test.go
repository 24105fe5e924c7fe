package injector_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

const (
	oneFile   = `"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secret.db":"app/db"`
	clientKey = `,"kms.alibabacloud.com/identity":"client-key:kms-c","kms.alibabacloud.com/endpoint":"kst-1.cryptoservice.kms.aliyuncs.com"`
)

// forgeable are pods in which agents have, among them, all that an agent can have.
var forgeable = map[string]string{
	"files and variables": asked + `,"kms.alibabacloud.com/secret.t":"{format: template, from: {db: app/db}, ` +
		`template: \"{{ .db.a | quote }}\"}","kms.alibabacloud.com/secret.k":"{name: app/k, format: env, keys: {A: b}, ` +
		`versionStage: ACSPrevious, optional: true, roleArn: \"acs:ram::1234567890123456:role/second\", ` +
		`onChange: \"http://127.0.0.1:1/x\"}","kms.alibabacloud.com/log-level":"debug","kms.alibabacloud.com/log-format":"text",` +
		`"kms.alibabacloud.com/on-change":"http://127.0.0.1:80/"`,
	"API and access key": oneFile + `,"kms.alibabacloud.com/api":"true","kms.alibabacloud.com/api-allow":"app/a*",` +
		`"kms.alibabacloud.com/identity":"access-key:kms-a"`,
	"socket and node role": oneFile + `,"kms.alibabacloud.com/api":"true","kms.alibabacloud.com/api-socket":"s",` +
		`"kms.alibabacloud.com/identity":"node-role"`,
	"single":     oneFile + `,"kms.alibabacloud.com/mode":"single"`,
	"client key": oneFile + clientKey,
}

func forgeablePod(t *testing.T, in *injector.Injector, annotations string) []byte {
	t.Helper()
	return mustInject(t, in, []byte(`{"metadata":{"annotations":{`+annotations+
		`}},"spec":{"securityContext":{"runAsUser":1000},"containers":[{"name":"web","command":["/web"]}]}}`))
}

// TestForged changes, takes away and adds to every member of every container of the agent's, and of the document in it, one at a time;
// what is found by walking through them is all that is ever written. Each such pod is refused for the container or an annotation.
func TestForged(t *testing.T) {
	free := func(path string) bool {
		return slices.ContainsFunc([]string{".name", ".resources", ".imagePullPolicy", ".securityContext.runAsUser",
			".securityContext.runAsGroup", ".securityContext.capabilities.drop with more"},
			func(start string) bool { return strings.HasPrefix(path, start) })
	}
	forged := 0
	for _, policy := range []string{"", "plain-sidecar", "metrics-and-narrow-sessions"} {
		in := administrator(t, policy)
		for name, annotations := range forgeable {
			if policy == "plain-sidecar" && name == "single" || policy != "" && strings.Contains(annotations, "/identity") {
				continue // not with this configuration
			}
			document := forgeablePod(t, in, annotations)
			var pod object
			unmarshal(t, document, &pod)
			for list, containers := range map[string]array{"initContainers": items(pod["spec"].(object)["initContainers"]),
				"containers": items(pod["spec"].(object)["containers"])} {
				for i, c := range containers {
					container := c.(object)
					if !strings.HasPrefix(container["name"].(string), "kms-agent") {
						continue
					}
					try := func(path string, other object) {
						forged++
						copied := clone(pod).(object)
						items(copied["spec"].(object)[list])[i] = other
						_, _, err := inject(in, marshal(t, copied))
						mistakes, _ := err.(config.Mistakes) //nolint:errorlint // that is what it is
						if len(mistakes) == 0 {
							t.Errorf("%s of %s in a pod with %s: %v", path, container["name"], name, err)
							return
						}
						if strings.HasSuffix(err.Error(), "has a name that the injector needs for its own container; give it another name") {
							return // it has no document
						}
						if !strings.Contains(err.Error(), "and they are made anew") ||
							!strings.Contains(err.Error(), "container "+container["name"].(string)+": ") && !strings.Contains(err.Error(), podconfig.Prefix) {
							t.Errorf("%s: refused by %v", path, err)
						}
					}
					for path, other := range changes(container) {
						if !free(path) {
							try(path, other.(object))
						}
					}
					for j, e := range items(container["env"]) {
						if e.(object)["name"] != agentconfig.Env {
							continue
						}
						var told any
						unmarshal(t, []byte(e.(object)["value"].(string)), &told)
						for path, text := range retold(e.(object)["value"].(string)) {
							copied := clone(container).(object)
							items(copied["env"])[j].(object)["value"] = text
							try(agentconfig.Env+path, copied)
						}
						for path, other := range changes(told) {
							if path == ".metricsPort away" { // which is then none
								continue
							}
							copied := clone(container).(object)
							items(copied["env"])[j].(object)["value"] = string(marshal(t, other))
							try(agentconfig.Env+path, copied)
						}
					}
				}
			}
		}
	}
	if forged < 1000 {
		t.Errorf("only %d forgeries", forged)
	}
}

// member is the name of one in a document that the injector has encoded.
var member = regexp.MustCompile(`[{,]"([a-zA-Z]+)":`)

// retold are a document with a member before each that the agent takes for it: twice, or in another case.
func retold(document string) map[string]string {
	all := map[string]string{}
	for _, at := range member.FindAllStringSubmatchIndex(document, -1) {
		name := document[at[2]:at[3]]
		for _, more := range []string{name, strings.ToUpper(name[:1]) + name[1:]} {
			all[fmt.Sprintf(" with %s at %d", more, at[2])] = document[:at[0]+1] + `"` + more + `":null,` + document[at[0]+1:]
		}
	}
	return all
}

// A dollar in the agent's document, for which the kubelet puts the value of a variable, is none that the injector writes.
func TestForgedByTheKubelet(t *testing.T) {
	in := administrator(t, "")
	var pod object
	unmarshal(t, forgeablePod(t, in, `"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secret.z":"{format: template, `+
		`from: {db: app/db}, template: \"$(X){{ .db }}\"}"`), &pod)
	again := func() error {
		_, _, err := inject(in, marshal(t, pod))
		return err
	}
	if err := again(); err != nil {
		t.Fatal(err)
	}
	for _, c := range items(pod["spec"].(object)["initContainers"]) {
		container := c.(object)
		env := items(container["env"])
		for _, e := range env {
			if value, ok := e.(object)["value"].(string); ok {
				e.(object)["value"] = strings.ReplaceAll(value, `\u0024(X)`, "$(X)")
			}
		}
		container["env"] = append(array{object{"name": "X", "value": `"}],"sessionPolicy":false,"files":[{"template":"`}}, env...)
	}
	if err := again(); err == nil || !strings.Contains(err.Error(), "has a $") {
		t.Error(err)
	}
}

// changes are a JSON value with one thing in it changed, taken away or added, by the path of that.
func changes(v any) map[string]any {
	all := map[string]any{}
	nest := func(path string, child any, put func(copied, other any)) {
		for below, other := range changes(child) {
			copied := clone(v)
			put(copied, other)
			all[path+below] = copied
		}
	}
	switch value := v.(type) {
	case object:
		for key, child := range value {
			nest("."+key, child, func(copied, other any) { copied.(object)[key] = other })
			less := clone(v).(object)
			delete(less, key)
			all["."+key+" away"] = less
		}
		more := clone(v).(object)
		more["tomorrow"] = "x"
		all[" with more"] = more
	case array:
		for i, child := range value {
			nest(fmt.Sprintf("[%d]", i), child, func(copied, other any) { copied.(array)[i] = other })
			all[fmt.Sprintf("[%d] away", i)] = slices.Delete(clone(v).(array), i, i+1)
		}
		var more any = "x"
		if _, objects := append(value, nil)[0].(object); objects {
			more = object{"name": "KMS_AGENT_X", "mountPath": "/etc/ssl", "path": "x", "containerPort": 1}
		}
		all[" with more"] = append(clone(v).(array), more)
	case string:
		all[""] = "x" + value
		all[" empty"] = ""
	case float64:
		all[""] = value + 1
	case bool:
		all[""] = !value
	}
	return all
}

// TestCompleted does to an injected pod what the API server's defaults, its plugins and other webhooks do.
func TestCompleted(t *testing.T) {
	policy := administrator(t, "").Policy()
	policy.Agent.MetricsPort = new(9090)
	in, err := injector.New(policy, "v0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	for name, annotations := range forgeable {
		t.Run(name, func(t *testing.T) {
			var pod object
			unmarshal(t, forgeablePod(t, in, annotations), &pod)
			spec := pod["spec"].(object)
			spec["volumes"] = append(items(spec["volumes"]), object{"name": "kube-api-access-x", "projected": object{}},
				object{"name": "of-a-mesh", "emptyDir": object{}})
			for _, c := range append(slices.Clone(items(spec["initContainers"])), items(spec["containers"])...) {
				complete(c.(object))
			}
			spec["containers"] = append(items(spec["containers"]),
				object{"name": "mesh", "ports": array{object{"containerPort": 9090}, object{"containerPort": 15001}},
					"securityContext": object{"runAsUser": 1337}})
			document := marshal(t, pod)
			again, warnings, err := inject(in, document)
			if err != nil {
				t.Fatal(err)
			}
			if string(again) != string(document) {
				t.Errorf("the pod was changed:\n%s\n%s", document, again)
			}
			if !slices.ContainsFunc(warnings, func(w string) bool {
				return strings.Contains(w, "HTTPS_PROXY, no_proxy: the agent calls KMS and STS through a proxy")
			}) {
				t.Errorf("no warning of the proxy: %q", warnings)
			}
		})
	}
}

func complete(c object) {
	put := func(o any, key string, value any) {
		if o, ok := o.(object); ok && o[key] == nil {
			o[key] = value
		}
	}
	put(c, "terminationMessagePath", "/dev/termination-log")
	put(c, "terminationMessagePolicy", "File")
	put(c, "resizePolicy", array{object{"resourceName": "cpu", "restartPolicy": "NotRequired"}})
	c["imagePullPolicy"] = "Always"
	c["resources"] = object{"limits": object{"cpu": "1", "memory": "128Mi"}}
	for _, p := range items(c["ports"]) {
		put(p, "protocol", "TCP")
	}
	for _, e := range items(c["env"]) {
		if from, ok := e.(object)["valueFrom"].(object); ok {
			put(from["fieldRef"], "apiVersion", "v1")
		}
	}
	if sc, ok := c["securityContext"].(object); ok {
		sc["runAsUser"], sc["runAsGroup"] = 1000660000, 1000660000
		put(sc, "seLinuxOptions", object{"level": "s0:c26,c5"})
		put(sc, "procMount", "Default")
		put(sc, "privileged", false)
		if capabilities, ok := sc["capabilities"].(object); ok {
			capabilities["drop"] = append(items(capabilities["drop"]), any("KILL"))
		}
	}
	c["env"] = append(array{object{"name": "ALIBABA_CLOUD_CREDENTIALS_URI", "value": ""},
		object{"name": "POD_IP", "valueFrom": object{"fieldRef": object{"fieldPath": "status.podIP"}}}},
		append(items(c["env"]), object{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}, object{"name": "no_proxy", "value": "localhost"})...)
	c["volumeMounts"] = append(items(c["volumeMounts"]), object{"name": "of-a-mesh", "mountPath": "/var/run/mesh"})
}

// TestAdded adds one thing to a container of the agent's.
func TestAdded(t *testing.T) {
	in := administrator(t, "")
	for _, c := range []struct {
		field string
		value any
		said  string // "": allowed
	}{
		{"env", object{"name": "LD_PRELOAD", "value": "/x.so"}, "env[LD_PRELOAD]"},
		{"env", object{"name": "SSL_CERT_FILE", "value": "/x"}, "env[SSL_CERT_FILE]"},
		{"env", object{"name": "GODEBUG", "value": "x"}, "env[GODEBUG]"},
		{"env", object{"name": "KMS_AGENT_POD_NAME", "value": "x"}, "env[KMS_AGENT_POD_NAME].value"},
		{"env", object{"name": "ALIBABA_CLOUD_ROLE_ARN", "value": "acs:ram::1:role/x"}, "env[ALIBABA_CLOUD_ROLE_ARN].value"},
		{"env", object{"name": "POD_IP", "value": "x"}, ""},
		{"envFrom", object{"configMapRef": object{"name": "x"}}, "envFrom"},
		{"volumeMounts", object{"name": "x", "mountPath": "/kms-agent", "subPath": "x"}, "volumeMounts[/kms-agent]"},
		{"volumeMounts", object{"name": "x", "mountPath": "/etc/ssl/certs"}, "volumeMounts[/etc/ssl/certs]"},
		{"volumeMounts", object{"name": "x", "mountPath": "/var/run/kms"}, "volumeMounts[/var/run/kms]"}, // with a link in it
		{"volumeMounts", object{"name": "x", "mountPath": "/proc"}, "volumeMounts[/proc]"},
		{"volumeMounts", object{"name": "x", "mountPath": "/etc/"}, "volumeMounts[/etc/]"},
		{"volumeMounts", object{"name": "x", "mountPath": "/var/run/kms/secrets/"}, "volumeMounts[/var/run/kms/secrets/]"},
		{"volumeMounts", object{"name": "x", "mountPath": "/var/run/kms/agent/x"}, "volumeMounts[/var/run/kms/agent/x]"},
		{"volumeMounts", object{"name": "x", "mountPath": "/opt/x"}, ""},
		{"volumeMounts", object{"name": "x", "mountPath": "kms-agent", "subPath": "x"}, "volumeMounts[kms-agent]"},
		{"volumeMounts", object{"name": "x", "mountPath": "etc/ssl/certs"}, "volumeMounts[etc/ssl/certs]"},
		{"volumeMounts", object{"name": "x", "mountPath": "var/run/kms/agent/x"}, "volumeMounts[var/run/kms/agent/x]"},
		{"terminationMessagePath", "/kms-agent", "terminationMessagePath"},
		{"terminationMessagePath", "etc/ssl/certs/ca-certificates.crt", "terminationMessagePath"},
		{"terminationMessagePath", "/dev/other", ""},
		{"env", object{"name": "KMS_AGENT_CONFIG", "value": "<document>"}, "env[KMS_AGENT_CONFIG].value"},
		{"volumeDevices", object{"name": "x", "devicePath": "/dev/x"}, "volumeDevices"},
		{"ports", object{"containerPort": 80}, "ports"},
		{"lifecycle", object{"postStart": object{"exec": object{"command": array{"/x"}}}}, "lifecycle"},
		{"livenessProbe", object{"exec": object{"command": array{"/x"}}}, "livenessProbe"},
		{"startupProbe", object{"exec": object{"command": array{"/x"}}}, "startupProbe"},
		{"workingDir", "/x", "workingDir"},
		{"stdin", true, "stdin"},
		{"stdin", false, ""},
		{"livenessProbe", nil, ""},
	} {
		t.Run(fmt.Sprint(c.field, c.value), func(t *testing.T) {
			var pod object
			unmarshal(t, forgeablePod(t, in, asked), &pod)
			agent := items(pod["spec"].(object)["initContainers"])[1].(object)
			if _, list := agent[c.field].(array); list || strings.HasSuffix(c.field, "s") || c.field == "envFrom" {
				agent[c.field] = append(items(agent[c.field]), c.value)
			} else {
				agent[c.field] = c.value
			}
			_, _, err := inject(in, marshal(t, pod))
			if c.said == "" && err != nil || c.said != "" &&
				(err == nil || !strings.HasPrefix(err.Error(), "container kms-agent: ") || !strings.Contains(err.Error(), c.said)) {
				t.Errorf("%v, want %q", err, c.said)
			}
		})
	}
}

// TestEarlierImages injects a pod that was injected under another configuration.
func TestEarlierImages(t *testing.T) {
	const other = "registry.example/kms-agent:v0.0.0"
	for _, c := range []struct {
		image   string
		earlier []string
		allowed bool
	}{
		{"registry.example/kms-agent:v9", nil, true},
		{"registry.example/kms-agent@sha256:0", nil, true},
		{"registry.example/kms-agent:v9", []string{}, false},
		{"registry.example/kms-agent:v9", []string{"registry.example/kms-agent:v0.*"}, true},
		{"registry.example:443/kms-agent:v0.0.0", nil, false},
		{"mirror.example/kms-agent:v9", nil, false},
		{"mirror.example/kms-agent:v9", []string{"registry.example/*"}, true},
	} {
		t.Run(fmt.Sprint(c.image, c.earlier), func(t *testing.T) {
			policy := administrator(t, "").Policy()
			policy.Agent.Image, policy.Agent.EarlierImages = c.image, c.earlier
			in, err := injector.New(policy, "v0.0.0")
			if err != nil {
				t.Fatal(err)
			}
			pod := forgeablePod(t, administrator(t, ""), asked)
			again, warnings, err := inject(in, pod)
			if (err == nil) != c.allowed {
				t.Fatal(err)
			}
			if err == nil {
				if string(again) != string(pod) || !slices.ContainsFunc(warnings, func(w string) bool {
					return strings.Contains(w, "was injected with the image "+other+", and the webhook's configuration says "+c.image)
				}) {
					t.Errorf("warned %q: %s", warnings, again)
				}
			} else if !strings.Contains(err.Error(),
				"there is another value of image; its image is to be "+c.image+", or one that agent.earlierImages") {
				t.Error(err)
			}
		})
	}
}

// TestPrivateVolumes: what only the agent mounts no application's container may mount, at the first call and at any other.
func TestPrivateVolumes(t *testing.T) {
	in := administrator(t, "")
	const token = `{"name":"rrsa-oidc-token","projected":{"sources":[{"serviceAccountToken":{"audience":"sts.aliyuncs.com","path":"token"}}]}}`
	for _, c := range []struct {
		volume, annotations, volumes string
		refused, again               bool // at the first call, and at the second when the mount comes in between
	}{
		{"kms-agent", "", "", true, true},
		{"kms-agent", "", `{"name":"kms-agent","emptyDir":{"medium":"Memory"}}`, true, true},
		{"kms-client-key", clientKey, "", true, true},
		{"kms-client-key", "", `{"name":"kms-client-key","emptyDir":{}}`, false, false},
		{"rrsa-oidc-token", "", "", true, false},
		{"rrsa-oidc-token", "", token, false, false},
		{"rrsa-oidc-token", `,"kms.alibabacloud.com/app-identity":"true"`, "", false, false},
		{"kms-secrets", "", "", false, false},
	} {
		t.Run(c.volume+c.annotations+c.volumes, func(t *testing.T) {
			pod := func(mount string) []byte {
				return []byte(`{"metadata":{"annotations":{"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secret.db":"app/db"` +
					c.annotations + `}},"spec":{"volumes":[` + c.volumes +
					`],"containers":[{"name":"web"},{"name":"other","volumeMounts":[` + mount + `]}]}}`)
			}
			mount := object{"name": c.volume, "mountPath": "/mnt", "readOnly": true}
			text, err := json.Marshal(mount)
			if err != nil {
				t.Fatal(err)
			}
			check := func(when string, document []byte, refused bool) {
				_, _, err := inject(in, document)
				if (err != nil) != refused || refused && !strings.HasPrefix(err.Error(), "container other: mounts the volume "+c.volume+", ") {
					t.Errorf("%s: %v, want refused %v", when, err, refused)
				}
			}
			check("first", pod(string(text)), c.refused)
			var injected object
			unmarshal(t, mustInject(t, in, pod("")), &injected)
			other := items(injected["spec"].(object)["containers"])[1].(object)
			other["volumeMounts"] = append(items(other["volumeMounts"]), mount)
			check("again", marshal(t, injected), c.again)
		})
	}
}

// TestLateContainers: a container that another webhook adds later gets what the pod's author, or the administrator, wants it to get.
func TestLateContainers(t *testing.T) {
	const secret = `"kms.alibabacloud.com/inject":"true","kms.alibabacloud.com/secret.db":"app/db"`
	for name, c := range map[string]struct {
		annotations string
		policy      string
		files       bool
	}{
		"unnamed":                          {secret, "", false},
		"skipped by name":                  {secret + `,"kms.alibabacloud.com/skip-containers":"late"`, "", false},
		"named":                            {secret + `,"kms.alibabacloud.com/containers":"web,late"`, "", true},
		"the administrator's choice":       {secret, "env-container-added-later", true},
		"the administrator's, but skipped": {secret + `,"kms.alibabacloud.com/skip-containers":"late"`, "env-container-added-later", false},
	} {
		t.Run(name, func(t *testing.T) {
			in := administrator(t, c.policy)
			pod := strings.Replace(string(mustInject(t, in,
				[]byte(`{"metadata":{"annotations":{`+c.annotations+`}},"spec":{"containers":[{"name":"web"}]}}`))), `"containers":[`,
				`"containers":[{"name":"late","env":[]},`, 1)
			again, warnings, err := inject(in, []byte(pod))
			if err != nil {
				t.Fatal(err)
			}
			var after object
			unmarshal(t, again, &after)
			late := items(after["spec"].(object)["containers"])[0].(object)
			if got := len(items(late["volumeMounts"])) > 0; got != c.files {
				t.Errorf("gets files: %v", got)
			}
			warned := slices.ContainsFunc(warnings, func(w string) bool {
				return strings.Contains(w, "container late came after the agent was injected and gets no files")
			})
			if warned != (name == "unnamed") {
				t.Errorf("warned %q", warnings)
			}
			twiceIsOnce(t, in, again)
		})
	}
	for containers, refused := range map[string]bool{"web,istio-proxy": false, "web,wrker": true, "istio-proxy": true} {
		pod := object{"metadata": object{"annotations": object{podconfig.Prefix + "inject": "true", podconfig.Prefix + "secret.db": "app/db",
			podconfig.Prefix + "containers": containers}},
			"spec": object{"containers": array{object{"name": "web"}, object{"name": "worker"}}}}
		if _, _, err := inject(administrator(t, ""), marshal(t, pod)); (err != nil) != refused {
			t.Errorf("%s: %v", containers, err)
		}
	}
}
