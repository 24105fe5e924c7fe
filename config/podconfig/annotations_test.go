package podconfig

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// annotationTests has what each annotation, named as in the table, is tested with.
var annotationTests = map[string]struct {
	with           []string       // further annotations; default a secret
	valid          map[string]any // values and what get makes of them
	get            func(Spec) any
	invalid        map[string]string // values and what is said about them
	contradictions map[string]string // other annotations, and a value in between with =, and what is said
}{
	"inject": {
		valid:          map[string]any{"true": true, "false": false},
		get:            func(s Spec) any { return s.Inject },
		invalid:        map[string]string{"": "neither", "True": `"True" is neither "true" nor "false"`, "yes": "with quotes", "1": "neither"},
		contradictions: nil, // inject without a secret and a secret without inject: TestInject
	},
	"secret.<file>": {
		with: []string{"env.X: app/x"},
		valid: map[string]any{
			"app/db":                          "app/db raw <file>",
			"{name: app/db}":                  "app/db raw <file>",
			"acs:kms:cn-beijing:1:secret/a/b": "acs:kms:cn-beijing:1:secret/a/b raw <file>",
			"name: app/db\nformat: json\npath: conf/db.json\n":                "app/db json conf/db.json",
			"{format: template, from: {a: app/a}, template: x, path: sub/it}": " template sub/it",
		},
		get: func(s Spec) any {
			return strings.Join([]string{s.Secrets[0].Name, string(s.Secrets[0].Format), s.Secrets[0].Path}, " ")
		},
		invalid: map[string]string{
			"":                                           "name or ARN is missing",
			"{name: a, path: ../x}":                      "leaves the mount path",
			"{name: a, fromat: env}":                     `did you mean "format"?`,
			"acs:ram::1:role/x":                          "is not the ARN of a KMS secret",
			"{name: a, mode: \"9\"}":                     "octal",
			"{name: a, format: ini}":                     "use raw, json, env, properties, yaml or template",
			"{name: a, roleArn: x}":                      "acs:ram::<account>:role/<name>",
			"{name: a, containers: []}":                  "must be a list",
			"{name: a, optional: perhaps}":               "neither true nor false",
			"{name: a, template: x}":                     "template needs format: template",
			"{name: a, versionId: v1, versionStage: x}":  "versionStage contradicts versionId",
			"{name: a, onChange: 'exec:ls'}":             "http://127.0.0.1:<port>/<path>",
			"{name: a, name: b}":                         `line 1: the field "name" is there twice`,
			"name: a\npath: x\npath: y\n":                `line 3: the field "path" is there twice`,
			"{name: a, format: env, keys: {A: x, A: y}}": `keys: "A" is there twice`,
			"{from: {a: x, a: y}, format: template, template: '{{ .a }}'}": `from: "a" is there twice`,
		},
		contradictions: map[string]string{
			"mode: init={name: a, onChange: 'signal:HUP:x'}":                 "onChange contradicts mode: init",
			"api: true={name: a, containers: [web]}":                         "containers contradicts api",
			"secret.z: {name: a, path: f}={name: a, path: f/g}":              "a file and a folder",
			"secret.z: {name: a, path: f}={name: a, path: f}":                "writes too",
			"identity: client-key:k={name: a, roleArn: 'acs:ram::1:role/a'}": "roleArn contradicts identity: client-key:k",
		},
	},
	"env.<NAME>": {
		valid: map[string]any{
			"app/db":          config.Variable{Name: "<NAME>", Secret: "app/db", Key: "", Annotation: "env.DB_URL"},
			"app/db#user.pwd": config.Variable{Name: "<NAME>", Secret: "app/db", Key: "user.pwd", Annotation: "env.DB_URL"},
		},
		get:     func(s Spec) any { return s.Env[0] },
		invalid: map[string]string{"": "missing", "a b": "white space", "a#": "names no key after the #"},
	},
	"env": {
		valid: map[string]any{
			"{DB_URL: app/db}": []config.Variable{{Name: "DB_URL", Secret: "app/db", Key: "", Annotation: "env"}},
			"B_: app/b#x.y\nA_: acs:kms:cn-hangzhou:1:secret/a\n": []config.Variable{
				{Name: "A_", Secret: "acs:kms:cn-hangzhou:1:secret/a", Key: "", Annotation: "env"},
				{Name: "B_", Secret: "app/b", Key: "x.y", Annotation: "env"}},
			"{" + strings.Repeat("LONG_", 13) + ": \"app/db#p\"}": []config.Variable{
				{Name: strings.Repeat("LONG_", 13), Secret: "app/db", Key: "p", Annotation: "env"}},
		},
		get: func(s Spec) any { return s.Env },
		invalid: map[string]string{
			"": "env must be a mapping of names to KMS secrets", "app/db": "env must be a mapping", "[a]": "env must be a mapping",
			"{A: [b]}": "env must be a mapping", "{A: }": "env must be a mapping",
			"{A: a, A: b}": `env: "A" is there twice`, "{A: a b}": "A: its value is not the name of a KMS secret",
			"{1A: a}": "1A: \"1A\" is not the name of an environment variable",
			"{A: a#}": "A: \"a#\" names no key", "{A: ": "not YAML",
		},
		contradictions: map[string]string{"env.DB_URL: app/x={DB_URL: app/db}": "env: the variable DB_URL is there twice, here and in " +
			"kms.alibabacloud.com/env.DB_URL; keep one of the two"},
	},
	"role-arn": {
		valid: map[string]any{"acs:ram::1234567890123456:role/web": "acs:ram::1234567890123456:role/web"},
		get:   func(s Spec) any { return s.RoleARN },
		invalid: map[string]string{"": "is not the ARN", "web": "write acs:ram::<account>:role/<name>", "acs:ram::1:user/web": "is not the ARN",
			"acs:ram::1:role/a b": "is not the ARN"},
		contradictions: map[string]string{
			"role-name: web=acs:ram::1:role/web":         "contradicts role-arn",
			"identity: node-role=acs:ram::1:role/web":    "whose role is the node's",
			"identity: access-key:k=acs:ram::1:role/web": "in the Secret's key rolearn",
			"identity: client-key:k=acs:ram::1:role/web": "which has no role",
		},
	},
	"role-name": {
		valid: map[string]any{"web": "web", "Web.App_1-x": "Web.App_1-x"},
		get:   func(s Spec) any { return s.RoleName },
		invalid: map[string]string{"": "is not the name", "acs:ram::1:role/web": "for an ARN use role-arn", "a/b": "is not the name",
			strings.Repeat("x", 65): "at most 64"},
		contradictions: map[string]string{"role-arn: acs:ram::1:role/a=web": "contradicts role-arn",
			"identity: node-role=web": "contradicts identity: node-role"},
	},
	"identity": {
		valid: map[string]any{
			"rrsa": config.Identity{}, "node-role": config.Identity{Kind: config.NodeRole},
			"access-key:kms.keys": config.Identity{Kind: config.AccessKey, Secret: "kms.keys"},
			"client-key:k":        config.Identity{Kind: config.ClientKey, Secret: "k"},
		},
		get: func(s Spec) any { return s.Identity },
		invalid: map[string]string{"": "is not one of", "node-rol": `did you mean "node-role"?`, "access-key": "access-key:kms-credentials",
			"client-key:a/b": "does not name a Kubernetes Secret", "rrsa:x": "has no Secret"},
		contradictions: map[string]string{
			"token-expiration: 600=node-role":  "needs no ServiceAccount token",
			"app-identity: true=access-key:k":  "only the identity rrsa",
			"role-name: web=client-key:client": "which has no role",
		},
	},
	"token-expiration": {
		valid: map[string]any{"600": int64(600), "43200": int64(43200)},
		get:   func(s Spec) any { return s.TokenExpiration },
		invalid: map[string]string{"": "600 to 43200", "599": "600 to 43200", "43201": "600 to 43200", "1h": "600 to 43200",
			"3600.0": "600 to 43200", "-600": "600 to 43200"},
		contradictions: map[string]string{"identity: access-key:k=7200": "contradicts identity: access-key:k"},
	},
	"mode": {
		valid: map[string]any{"sidecar": ModeSidecar, "init": ModeInit, "single": ModeSingle},
		get:   func(s Spec) any { return s.Mode },
		invalid: map[string]string{"": "is not one of sidecar, init, single", "sidecr": `did you mean "sidecar"?`,
			"Init": "is not one of"},
		contradictions: map[string]string{"init-position: last=single": "contradicts mode: single",
			"refresh-interval: 1m=init": "contradicts mode: init", "api: true=init": "contradicts mode: init"},
	},
	"containers": {
		valid:          map[string]any{"web": []string{"web"}, "web , worker,web": []string{"web", "worker"}},
		get:            func(s Spec) any { return s.Containers },
		invalid:        map[string]string{"": "empty name", "web,,worker": "empty name", ",": "containers: web,worker"},
		contradictions: map[string]string{"skip-containers: worker=web": "skip-containers: contradicts containers"},
	},
	"skip-containers": {
		valid:          map[string]any{"web": []string{"web"}, "b,a": []string{"a", "b"}},
		get:            func(s Spec) any { return s.SkipContainers },
		invalid:        map[string]string{"": "empty name", "a,": "skip-containers: web,worker"},
		contradictions: map[string]string{"containers: web=worker": "contradicts containers"},
	},
	"mount-path": {
		valid: map[string]any{"/etc/app": "/etc/app", "/etc/ssl/certs": "/etc/ssl/certs", "/tmp/secrets": "/tmp/secrets",
			"/a/b c/$(X)": "/a/b c/$(X)", "/devices": "/devices"},
		get: func(s Spec) any { return s.MountPath },
		invalid: map[string]string{"": "clean absolute path", "/": "below /", "etc": "absolute", "/etc/../app": "clean", "/etc/": "clean",
			"/a:b": "clean", "/a\nb": "clean",
			"/proc": "is in /proc, which the kernel or Kubernetes fills", "/proc/self": "is in /proc", "/sys/fs": "is in /sys",
			"/dev/shm": "is in /dev", "/etc": "is a directory of the container's system", "/bin": "/etc/app/secrets",
			"/lib64": "system", "/var/run": "system", "/tmp": "system",
			"/var/run/secrets/kubernetes.io/serviceaccount": "is in /var/run/secrets/kubernetes.io/serviceaccount",
			"/run/secrets/kubernetes.io/serviceaccount/x":   "write another path",
		},
	},
	"refresh-interval": {
		valid: map[string]any{"10s": 10 * time.Second, "1h30m": 90 * time.Minute, "0": time.Duration(0), "0s": time.Duration(0)},
		get:   func(s Spec) any { return s.RefreshInterval },
		invalid: map[string]string{"": "is not a duration", "9s": "at least 10s", "300": "is not a duration", "-5m": "at least 10s",
			"5 min": "such as 90s, 5m or 1h"},
		contradictions: map[string]string{"mode: init=5m": "contradicts mode: init",
			"on-change: signal:HUP:x=0": "on-change: contradicts refresh-interval: 0"},
	},
	"on-change": {
		valid: map[string]any{"http://127.0.0.1:8080/-/reload?a=b": "http://127.0.0.1:8080/-/reload?a=b", "signal:HUP:nginx": "signal:HUP:nginx",
			"signal:SIGUSR1:a.out": "signal:SIGUSR1:a.out"},
		get: func(s Spec) any { return s.OnChange },
		invalid: map[string]string{
			"": "is not a notification", "https://127.0.0.1:1/": "https is not possible", "http://localhost:80/": "must be 127.0.0.1",
			"http://127.0.0.1/x":       "names no port",
			"http://u:p@127.0.0.1:80/": "is not of the form", "signal:KILL:x": `"KILL" is not one of HUP`, "signal:HUP": "the process is missing",
			"signal:HUP:/bin/sh":                "without a path",
			"http://127.0.0.1:80/\r\nX-Evil: 1": "is not a notification", "exec:rm -rf /": "http://127.0.0.1:<port>/<path>",
		},
		contradictions: map[string]string{"mode: init=signal:HUP:x": "contradicts mode: init",
			"refresh-interval: 0=signal:HUP:x": "contradicts refresh-interval: 0"},
	},
	"api": {
		valid:   map[string]any{"true": true, "false": false},
		get:     func(s Spec) any { return s.API != nil },
		invalid: map[string]string{"": "neither", "on": `"on" is neither "true" nor "false"`},
		contradictions: map[string]string{"mode: init=true": "api: contradicts mode: init",
			"api-port: 3000=false": "api-port: has no effect without the local API"},
	},
	"api-port": {
		with:           []string{"api: true"},
		valid:          map[string]any{"1024": 1024, "65535": 65535},
		get:            func(s Spec) any { return s.API.Port },
		invalid:        map[string]string{"": "1024 to 65535", "80": "1024 to 65535", "65536": "1024 to 65535", "http": "1024 to 65535"},
		contradictions: map[string]string{"api-socket: s=3000": "api-port: contradicts api-socket", "api: false=3000": "api-port: has no effect"},
	},
	"api-socket": {
		with:  []string{"api: true"},
		valid: map[string]any{"x.sock": "/var/run/kmstoken/x.sock", "/var/run/kmstoken/s": "/var/run/kmstoken/s"},
		get:   func(s Spec) any { return s.API.Socket },
		invalid: map[string]string{"": "is not a file's name", "/tmp/s": "in /var/run/kmstoken", "../s": "is not a file's name",
			"token": "is the token's own file", "..data": "is not a file's name"},
		contradictions: map[string]string{"api-port: 3000=s": "contradicts api-socket", "api: false=s": "api-socket: has no effect"},
	},
	"api-allow": {
		with:           []string{"api: true"},
		valid:          map[string]any{"*": []string{"*"}, "app/*, acs:kms:*:secret/x,app/*": []string{"app/*", "acs:kms:*:secret/x"}},
		get:            func(s Spec) any { return s.API.Allow },
		invalid:        map[string]string{"": "empty pattern", "a,": "empty pattern", "a b": "is not a pattern", "a#b": "is not a pattern"},
		contradictions: map[string]string{"api: false=*": "api-allow: has no effect"},
	},
	"app-identity": {
		valid:          map[string]any{"true": true, "false": false},
		get:            func(s Spec) any { return s.AppIdentity },
		invalid:        map[string]string{"": "neither", "app": "neither"},
		contradictions: map[string]string{"identity: node-role=true": "app-identity: contradicts identity: node-role"},
	},
	"init-position": {
		valid:          map[string]any{"first": false, "last": true},
		get:            func(s Spec) any { return s.InitLast },
		invalid:        map[string]string{"": "is not one of first, last", "frist": `did you mean "first"?`},
		contradictions: map[string]string{"mode: single=first": "contradicts mode: single"},
	},
	"agent-requests": {
		valid: map[string]any{
			"cpu=5m, memory=16Mi":   map[string]string{"cpu": "5m", "memory": "16Mi"},
			"ephemeral-storage=1Mi": map[string]string{"ephemeral-storage": "1Mi"},
			"cpu=1,cpu=1":           map[string]string{"cpu": "1"},
		},
		get: func(s Spec) any { return s.AgentRequests },
		invalid: map[string]string{
			"": "<resource>=<quantity>", "cpu:10m": "<resource>=<quantity>", "memry=1Mi": `did you mean "memory"?`,
			"memory=1MB": "is not a quantity", "cpu=-1": "is not a quantity",
			"cpu=1,memory=1Mi,cpu=2": "cpu is there twice, as 1 and as 2; keep one of the two",
		},
	},
	"agent-limits": {
		valid: map[string]any{"memory=64Mi": map[string]string{"memory": "64Mi"}, "cpu=1": map[string]string{"cpu": "1"}},
		get:   func(s Spec) any { return s.AgentLimits },
		invalid: map[string]string{
			"": "<resource>=<quantity>", "nvidia.com/gpu=1": "is not one of cpu, memory, ephemeral-storage", "memory=": "is not a quantity",
			"memory=1Gi, memory=64Mi": "memory is there twice, as 1Gi and as 64Mi; keep one of the two",
		},
	},
	"log-level": {
		valid:   map[string]any{"debug": "debug", "info": "info", "error": "error"},
		get:     func(s Spec) any { return s.LogLevel },
		invalid: map[string]string{"": "is not one of debug, info, error", "debg": `did you mean "debug"?`, "trace": "is not one of"},
	},
	"log-format": {
		valid:   map[string]any{"json": "json", "text": "text"},
		get:     func(s Spec) any { return s.LogFormat },
		invalid: map[string]string{"": "is not one of json, text", "logfmt": "is not one of", "txt": `did you mean "text"?`},
	},
	"region": {
		valid: map[string]any{"cn-hangzhou": "cn-hangzhou", "ap-southeast-1": "ap-southeast-1"},
		get:   func(s Spec) any { return s.Region },
		invalid: map[string]string{"": "is not a region", "Hangzhou": "write for example cn-hangzhou", "cn-hangzhou.evil.com/": "is not a region",
			"cn-" + strings.Repeat("x", 64): "is not a region"},
	},
	"endpoint": {
		valid: map[string]any{"kms.cn-beijing.aliyuncs.com": "kms.cn-beijing.aliyuncs.com"},
		get:   func(s Spec) any { return s.Endpoint },
		invalid: map[string]string{"": "is not a host name", "https://kms.example.com": "without scheme", "kms.example.com:443": "and port",
			"KMS.example.com": "small letters", "a..b": "is not a host name", strings.Repeat("a.", 127) + "a": "is not a host name"},
	},
}

// TestAnnotation has a sub-test for each annotation by its name: what is valid, what is not, and what it does not go with.
func TestAnnotation(t *testing.T) {
	for _, r := range rows() {
		name := r.key + r.argument()
		tests, found := annotationTests[name]
		if !found {
			t.Errorf("%s has no test", name)
			continue
		}
		if tests.with == nil {
			tests.with = []string{"secret.other: app/other"}
		}
		annotated := func(value string, more ...string) map[string]string {
			a := annotate(slices.Concat([]string{"inject: true"}, tests.with, more)...)
			a[Prefix+strings.NewReplacer("<file>", "db", "<NAME>", "DB_URL").Replace(name)] = value
			return a
		}
		t.Run(name, func(t *testing.T) {
			for value, want := range tests.valid {
				t.Run("valid/"+value, func(t *testing.T) {
					spec, err := Parse(annotated(value))
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(named(want), tests.get(spec)); diff != "" {
						t.Error(diff)
					}
				})
			}
			for value, want := range tests.invalid {
				t.Run("invalid/"+value, func(t *testing.T) { mistaken(t, annotated(value), want) })
			}
			for contradiction, want := range tests.contradictions {
				other, value, _ := strings.Cut(contradiction, "=")
				t.Run("contradiction/"+other, func(t *testing.T) { mistaken(t, annotated(value, other), want) })
			}
		})
	}
	if len(annotationTests) != len(rows()) {
		t.Errorf("%d annotations are tested, of %d", len(annotationTests), len(rows()))
	}
}

// named is what is expected of an annotation with a name in it.
func named(want any) any {
	switch want := want.(type) {
	case string:
		return strings.ReplaceAll(want, "<file>", "db")
	case config.Variable:
		want.Name = "DB_URL"
		return want
	}
	return want
}

// mistaken checks that the message says something, and of which annotation.
func mistaken(t *testing.T, annotations map[string]string, want string) {
	t.Helper()
	_, err := Parse(annotations)
	if err == nil {
		t.Fatal("no mistake")
	}
	for _, want := range []string{want, Prefix} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%q is not in the message:\n%s", want, err)
		}
	}
}
