package injector_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// effects are what each annotation, named as in its documentation, does to a pod, and what else of the pod forbids it.
var effects = map[string]struct {
	value  string
	with   []string // further annotations
	get    func(injected) any
	want   any
	refuse map[string]string // a value, and what is said about it
}{
	"inject": {value: "true", get: func(p injected) any { return p.Annotations[podconfig.InjectedAnnotation] }, want: "v0.0.0"},
	"secret.<file>": {
		value: "{name: app/x, path: a/b, format: json, containers: [worker]}",
		get:   func(p injected) any { return []any{p.file("a/b"), p.mounted("worker"), p.mounted("web")} },
		want: []any{agentconfig.File{Path: "a/b", Mode: 0o400, Secret: "app/x", Format: config.JSON, Dirs: []string{"/var/run/kms/views/1"}},
			"kms-secrets-1 /var/run/kms/secrets", "kms-secrets /var/run/kms/secrets"},
		refuse: map[string]string{"{name: app/x, containers: [wbe]}": "no container wbe",
			"{name: app/x, mode: \"0400\", containers: [root]}": "container root could not read", "finance/x": "does not allow the secret"},
	},
	"env.<NAME>": {
		value:  "app/x#key",
		with:   []string{"skip-containers: root,migrate"},
		get:    func(p injected) any { return p.container("web").Command },
		want:   []string{"/var/run/kms/bin/kms-agent", "exec", "--", "/web"},
		refuse: map[string]string{"finance/x": "does not allow the secret"},
	},
	"env": {
		value: "{SPRING_SECURITY_OAUTH2_CLIENT_REGISTRATION_KEYCLOAK_CLIENT_SECRET: app/x#key}",
		with:  []string{"skip-containers: root,migrate", "env.A: app/a"},
		get:   func(p injected) any { return []any{p.container("web").Command, p.agent().Env} },
		want: []any{[]string{"/var/run/kms/bin/kms-agent", "exec", "--", "/web"}, []config.Variable{
			{Name: "A", Secret: "app/a"}, {Name: "SPRING_SECURITY_OAUTH2_CLIENT_REGISTRATION_KEYCLOAK_CLIENT_SECRET", Secret: "app/x", Key: "key"},
		}},
		refuse: map[string]string{"{X: finance/x}": "does not allow the secret"},
	},
	"role-arn": {value: "acs:ram::1234567890123456:role/web", get: injected.role, want: "acs:ram::1234567890123456:role/web",
		refuse: map[string]string{"acs:ram::42:role/web": "does not allow"}},
	"role-name": {value: "web", get: injected.role, want: "acs:ram::1234567890123456:role/web"},
	"identity": {value: "node-role", get: func(p injected) any { return p.agent().Identity }, want: config.Identity{Kind: config.NodeRole},
		refuse: map[string]string{"access-key:other": "does not allow the identity",
			"client-key:kms": "is good for the gateway of its KMS instance only"}},
	"token-expiration": {value: "7200", get: func(p injected) any {
		return *p.volume("rrsa-oidc-token").Projected.Sources[0].ServiceAccountToken.ExpirationSeconds
	}, want: int64(7200)},
	"mode": {value: "init", get: func(p injected) any { return p.inits() }, want: "kms-agent-init migrate"},
	"containers": {value: "web", get: func(p injected) any { return []string{p.mounted("web"), p.mounted("worker")} },
		want:   []string{"kms-secrets /var/run/kms/secrets", ""},
		refuse: map[string]string{"wbe": "no container wbe in the pod; its containers are migrate, web, worker, root"}},
	"skip-containers": {value: "web", get: func(p injected) any { return []string{p.mounted("web"), p.mounted("worker")} },
		want: []string{"", "kms-secrets /var/run/kms/secrets"}, refuse: map[string]string{"web,worker,root,migrate": "leaves no container"}},
	"mount-path": {value: "/etc/x", get: func(p injected) any { return p.mounted("web") }, want: "kms-secrets /etc/x",
		refuse: map[string]string{"/data": "already has the volume data at /data", "/data/..": "clean"}},
	"refresh-interval": {value: "90s", get: func(p injected) any { return time.Duration(p.agent().RefreshInterval).String() }, want: "1m30s"},
	"on-change": {value: "http://127.0.0.1:80/x", get: func(p injected) any { return p.agent().OnChange },
		want: "http://127.0.0.1:80/x", refuse: map[string]string{"signal:HUP:nginx": "shareProcessNamespace: true"}},
	"api": {value: "true", get: func(p injected) any { return p.agent().API.Port }, want: 2025},
	"api-port": {value: "3000", with: []string{"api: true"}, get: func(p injected) any { return p.agent().API.Port }, want: 3000,
		refuse: map[string]string{"8080": "container web listens on 8080 too"}},
	"api-socket": {value: "x.sock", with: []string{"api: true"}, get: func(p injected) any { return p.agent().API.Socket },
		want: "/var/run/kmstoken/x.sock"},
	"api-allow": {value: "app/a*", with: []string{"api: true"}, get: func(p injected) any { return p.agent().API.Allow },
		want: []string{"app/a*"}, refuse: map[string]string{"*": "does not allow all that"}},
	"app-identity": {value: "true", get: func(p injected) any { return p.container("web").Env[0].Name }, want: "ALIBABA_CLOUD_ROLE_ARN"},
	"init-position": {value: "last", with: []string{"skip-containers: migrate"}, get: func(p injected) any { return p.inits() },
		want: "migrate kms-agent-init kms-agent"},
	"agent-requests": {value: "cpu=7m", get: func(p injected) any { return p.cpu("requests") }, want: "7m",
		refuse: map[string]string{"memory=1Gi": "more than the administrator allows", "memory=100Mi": "is more than the limit"}},
	"agent-limits": {value: "cpu=70m", get: func(p injected) any { return p.cpu("limits") }, want: "70m",
		refuse: map[string]string{"memory=1Gi": "more than the administrator allows", "memory=20Mi": "is less than the request",
			"memory=1Mi": "write memory=16Mi or more"}},
	"log-level":  {value: "debug", get: func(p injected) any { return p.agent().LogLevel }, want: "debug"},
	"log-format": {value: "text", get: func(p injected) any { return p.agent().LogFormat }, want: "text"},
	"region": {value: "cn-beijing", get: func(p injected) any { return p.agent().KMS.Host }, want: "kms-vpc.cn-beijing.aliyuncs.com",
		refuse: map[string]string{"eu-central-1": "does not allow the region"}},
	"endpoint": {value: "x.cryptoservice.kms.aliyuncs.com", get: func(p injected) any { return p.agent().KMS.Host },
		want: "x.cryptoservice.kms.aliyuncs.com", refuse: map[string]string{"kms.example.com": "does not allow the endpoint"}},
}

// TestAnnotation has a sub-test for each annotation by its name: what it does to a pod, and what of the pod or of the administrator's
// document forbids it.
func TestAnnotation(t *testing.T) {
	in := administrator(t, "")
	for _, a := range podconfig.Annotations() {
		name := strings.TrimPrefix(a.Key, podconfig.Prefix)
		effect, found := effects[name]
		if !found {
			t.Errorf("%s has no test", name)
			continue
		}
		key := strings.NewReplacer("<file>", "x", "<NAME>", "X").Replace(a.Key)
		t.Run(name, func(t *testing.T) {
			var p injected
			unmarshal(t, mustInject(t, in, annotatedPod(t, key, effect.value, effect.with)), &p)
			p.t = t
			if diff := cmp.Diff(effect.want, effect.get(p)); diff != "" {
				t.Error(diff)
			}
			for value, want := range effect.refuse {
				_, err := decide(in, annotatedPod(t, key, value, effect.with))
				if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), strings.Split(key, ".")[0]) {
					t.Errorf("%s: %v, want %q", value, err, want)
				}
			}
		})
	}
}

func annotatedPod(t *testing.T, key, value string, with []string) []byte {
	var pod object
	unmarshal(t, []byte(`{
		"metadata": {"annotations": {}},
		"spec": {
			"securityContext": {"runAsUser": 1000},
			"initContainers": [{"name": "migrate", "command": ["/migrate"]}],
			"containers": [
				{"name": "web", "command": ["/web"], "ports": [{"containerPort": 8080}], "volumeMounts": [{"name": "data", "mountPath": "/data"}]},
				{"name": "worker", "command": ["/worker"]},
				{"name": "root"}
			],
			"volumes": [{"name": "data", "emptyDir": {}}]
		}
	}`), &pod)
	annotations := pod["metadata"].(object)["annotations"].(object)
	if strings.Contains(value, "root") { // one container reads as another user than the rest
		pod["spec"].(object)["containers"].(array)[2].(object)["securityContext"] = object{"runAsUser": 0,
			"capabilities": object{"drop": array{"ALL"}}}
	}
	for _, line := range append([]string{"inject: true", "secret.f: app/f"}, with...) {
		other, value, _ := strings.Cut(line, ": ")
		annotations[podconfig.Prefix+other] = value
	}
	annotations[key] = value
	return marshal(t, pod)
}

// injected is a pod after the injection.
type injected struct {
	corev1.Pod
	t *testing.T
}

func (p injected) inits() string {
	var names []string
	for _, c := range p.Spec.InitContainers {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

func (p injected) container(name string) corev1.Container {
	p.t.Helper()
	all := slices.Concat(p.Spec.InitContainers, p.Spec.Containers)
	i := slices.IndexFunc(all, func(c corev1.Container) bool { return c.Name == name })
	if i < 0 {
		p.t.Fatalf("there is no container %s", name)
	}
	return all[i]
}

func (p injected) volume(name string) corev1.Volume {
	p.t.Helper()
	i := slices.IndexFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if i < 0 {
		p.t.Fatalf("there is no volume %s", name)
	}
	return p.Spec.Volumes[i]
}

// cpu is how much the agent's container requests, or is limited to.
func (p injected) cpu(of string) string {
	resources := p.container("kms-agent").Resources
	amount := map[string]corev1.ResourceList{"requests": resources.Requests, "limits": resources.Limits}[of][corev1.ResourceCPU]
	return amount.String()
}

// role is the one that the agent assumes.
func (p injected) role() any {
	for _, e := range p.container("kms-agent-init").Env {
		if e.Name == "ALIBABA_CLOUD_ROLE_ARN" {
			return e.Value
		}
	}
	return ""
}

// mounted is the volume of files that a container has, and where.
func (p injected) mounted(container string) string {
	for _, m := range p.container(container).VolumeMounts {
		if strings.HasPrefix(m.Name, "kms-secrets") {
			return m.Name + " " + m.MountPath
		}
	}
	return ""
}

// agent is the document of the first of the agent's containers.
func (p injected) agent() agentconfig.Config {
	p.t.Helper()
	for _, c := range p.Spec.InitContainers {
		for _, e := range c.Env {
			if e.Name == agentconfig.Env {
				doc, err := agentconfig.Read([]byte(e.Value))
				if err != nil {
					p.t.Fatal(err)
				}
				return doc
			}
		}
	}
	p.t.Fatal("there is no agent")
	return agentconfig.Config{}
}

func (p injected) file(path string) agentconfig.File {
	for _, f := range p.agent().Files {
		if f.Path == path {
			return f
		}
	}
	return agentconfig.File{}
}
