package podconfig

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// annotate makes annotations from lines "key: value", where key is without Prefix.
func annotate(lines ...string) map[string]string {
	m := map[string]string{}
	for _, line := range lines {
		key, value, _ := strings.Cut(line, ": ")
		m[Prefix+key] = value
	}
	return m
}

func TestParse(t *testing.T) {
	mode := uint32(0o440)
	defaults := Spec{
		Inject: true, TokenExpiration: 3600, Mode: ModeSidecar, MountPath: "/var/run/kms/secrets",
		RefreshInterval: 5 * time.Minute, LogLevel: "info", LogFormat: "json",
	}
	with := func(change func(*Spec)) Spec {
		s := defaults
		s.Secrets = []Secret{{File: "db", Name: "app/db", Format: config.Raw, Path: "db"}}
		change(&s)
		return s
	}
	for name, c := range map[string]struct {
		annotations map[string]string
		want        Spec
	}{
		"nothing of ours":       {map[string]string{"example.com/a": "b"}, Spec{}},
		"only our own mark":     {annotate("injected: v1"), Spec{}},
		"an explicit no":        {annotate("inject: false", "secret.db: app/db", "nonsense: x"), Spec{}},
		"the short form":        {annotate("inject: true", "secret.db: app/db"), with(func(*Spec) {})},
		"an injected pod again": {annotate("inject: true", "secret.db: app/db", "injected: v1"), with(func(*Spec) {})},
		"an ARN": {annotate("inject: true", "secret.db: acs:kms:cn-hangzhou:123:secret/app/db"), with(func(s *Spec) {
			s.Secrets[0].Name = "acs:kms:cn-hangzhou:123:secret/app/db"
		})},
		"a name that YAML takes for something else": {annotate("inject: true", "secret.db: @1"),
			with(func(s *Spec) { s.Secrets[0].Name = "@1" })},
		"the long form": {annotate("inject: true",
			"secret.db: {name: app/db, versionStage: ACSPrevious, format: env, keys: {USER: AccountName, PASSWORD: 'a.b[0]'}, path: conf/db.env, "+
				"mode: \"0440\", optional: true}"),
			with(func(s *Spec) {
				s.Secrets[0] = Secret{File: "db", Name: "app/db", VersionStage: "ACSPrevious", Format: config.Env, Path: "conf/db.env", Mode: &mode,
					Optional: true,
					Keys:     []config.Key{{Name: "USER", Path: "AccountName"}, {Name: "PASSWORD", Path: "a.b[0]"}}}
			})},
		"everything else": {annotate("inject: true", "secret.db: app/db", "role-name: reader", "token-expiration: 600", "mode: single",
			"containers: web, worker",
			"mount-path: /etc/app", "refresh-interval: 90s", "app-identity: true", "agent-requests: cpu=5m,memory=16Mi", "agent-limits: memory=32Mi",
			"log-level: debug", "log-format: text", "region: cn-beijing", "endpoint: kms.cn-beijing.aliyuncs.com"),
			with(func(s *Spec) {
				s.RoleName, s.TokenExpiration, s.Mode, s.Containers = "reader", 600, ModeSingle, []string{"web", "worker"}
				s.MountPath, s.RefreshInterval, s.AppIdentity = "/etc/app", 90*time.Second, true
				s.AgentRequests, s.AgentLimits = map[string]string{"cpu": "5m", "memory": "16Mi"}, map[string]string{"memory": "32Mi"}
				s.LogLevel, s.LogFormat, s.Region, s.Endpoint = "debug", "text", "cn-beijing", "kms.cn-beijing.aliyuncs.com"
			})},
		"variables": {annotate("inject: true", "env.DB_PASSWORD: app/db#AccountPassword", "env.API_KEY: acs:kms:cn-hangzhou:42:secret/key",
			"secret.db: app/db", `env._x: a#b."c-d"`), with(func(s *Spec) {
			s.Env = []config.Variable{{Name: "API_KEY", Secret: "acs:kms:cn-hangzhou:42:secret/key", Key: "", Annotation: "env.API_KEY"},
				{Name: "DB_PASSWORD", Secret: "app/db", Key: "AccountPassword", Annotation: "env.DB_PASSWORD"},
				{Name: "_x", Secret: "a", Key: `b."c-d"`, Annotation: "env._x"}}
		})},
		"few containers": {annotate("inject: true", "secret.db: {name: app/db, containers: [worker, web, web]}"), with(func(s *Spec) {
			s.Secrets[0].Containers = []string{"web", "worker"}
		})},
		"variables alone": {annotate("inject: true", "env.DB: app/db"), with(func(s *Spec) {
			s.Secrets, s.Env = nil, []config.Variable{{Name: "DB", Secret: "app/db", Key: "", Annotation: "env.DB"}}
		})},
		"templates": {annotate("inject: true", "secret.db: {name: app/db, format: template, template: '{{ .a }}', roleArn: "+
			"'acs:ram::42:role/reader', onChange: 'signal:SIGUSR1:web'}",
			"secret.x: {format: template, from: {z: app/z, a: 'acs:kms:cn-hangzhou:42:secret/a'}, template: x}"),
			with(func(s *Spec) {
				s.Secrets[0].Format, s.Secrets[0].Template, s.Secrets[0].RoleARN, s.Secrets[0].OnChange = config.Template, "{{ .a }}",
					"acs:ram::42:role/reader", "signal:SIGUSR1:web"
				s.Secrets = append(s.Secrets, Secret{File: "x", Path: "x", Format: config.Template, Template: "x",
					From: []config.Source{{Name: "z", Secret: "app/z"}, {Name: "a", Secret: "acs:kms:cn-hangzhou:42:secret/a"}}})
			})},
		"the local API": {annotate("inject: true", "secret.db: app/db", "api: true"), with(func(s *Spec) {
			s.API = &config.LocalAPI{Port: 2025, TokenFile: "/var/run/kmstoken/token"}
		})},
		"the local API alone": {annotate("inject: true", "api: true", "api-port: 1024", "api-allow: app/*, acs:kms:*:secret/x,app/*"),
			with(func(s *Spec) {
				s.Secrets = nil
				s.API = &config.LocalAPI{Port: 1024, TokenFile: "/var/run/kmstoken/token", Allow: []string{"app/*", "acs:kms:*:secret/x"}}
			})},
		"its socket, by name": {annotate("inject: true", "api: true", "api-socket: api.sock"), with(func(s *Spec) {
			s.Secrets = nil
			s.API = &config.LocalAPI{Socket: "/var/run/kmstoken/api.sock", TokenFile: "/var/run/kmstoken/token"}
		})},
		"its socket, by path": {annotate("inject: true", "api: true", "api-socket: /var/run/kmstoken/s"), with(func(s *Spec) {
			s.Secrets = nil
			s.API = &config.LocalAPI{Socket: "/var/run/kmstoken/s", TokenFile: "/var/run/kmstoken/token"}
		})},
		"an explicit rrsa": {annotate("inject: true", "secret.db: app/db", "identity: rrsa"), with(func(s *Spec) {})},
		"an access key": {annotate("inject: true", "secret.db: app/db", "identity: access-key:kms.keys",
			"on-change: http://127.0.0.1:8080/-/reload?x=y"), with(func(s *Spec) {
			s.Identity, s.OnChange = config.Identity{Kind: config.AccessKey, Secret: "kms.keys"}, "http://127.0.0.1:8080/-/reload?x=y"
		})},
		"never refreshed": {annotate("inject: true", "secret.db: app/db", "refresh-interval: 0"), with(func(s *Spec) { s.RefreshInterval = 0 })},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse(c.annotations)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Each mistake must name the annotation and say what to write instead.
func TestParseMistakes(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        []string // all must be in the message
	}{
		"a typo": {annotate("inject: true", "secrt.db: app/db", "secret.db: a"),
			[]string{"kms.alibabacloud.com/secrt.db", "did you mean kms.alibabacloud.com/secret.db?"}},
		"another typo":            {annotate("inject: true", "mod: init", "secret.db: a"), []string{"did you mean kms.alibabacloud.com/mode?"}},
		"nothing near":            {annotate("inject: true", "zzzzzzzzz: init", "secret.db: a"), []string{"the known ones are inject, secret"}},
		"inject is missing":       {annotate("secret.db: app/db"), []string{"kms.alibabacloud.com/inject: is missing", `"true"`}},
		"inject is not a boolean": {annotate("inject: yes", "secret.db: app/db"), []string{`"yes" is neither "true" nor "false"`}},
		"no secret":               {annotate("inject: true"), []string{"no secret is asked for", "secret.<file>"}},
		"no file name":            {annotate("inject: true", "secret.: app/db"), []string{"a name after the dot is missing"}},
		"empty secret":            {annotate("inject: true", "secret.db: "), []string{"name or ARN is missing"}},
		"malformed ARN":           {annotate("inject: true", "secret.db: acs:ram::1:role/x"), []string{"is not the ARN of a KMS secret"}},
		"a key in the short form": {annotate("inject: true", "secret.db: app/db#key"), []string{"use the long form"}},
		"malformed YAML":          {annotate("inject: true", "secret.db: {name: app/db"), []string{"secret.db: not YAML", "line 1"}},
		"a list":                  {annotate("inject: true", "secret.db: [app/db]"), []string{"a list is not a secret"}},
		"unknown field": {annotate("inject: true", "secret.db: {name: a, fromat: env}"),
			[]string{`there is no field "fromat"`, `did you mean "format"?`}},
		"wrong type": {annotate("inject: true", "secret.db: {name: a, optional: maybe}"),
			[]string{"line 1", "optional is neither true nor false"}},
		"several wrong fields": {annotate("inject: true", "secret.db: {name: [a], fromat: env, name: b}"),
			[]string{"line 1: name is text", `"name" is there twice`, `did you mean "format"?`}},
		"two documents": {annotate("inject: true", "secret.db: name: a\n---\nname: b"), []string{"more than one YAML document"}},
		"unknown format": {annotate("inject: true", "secret.db: {name: a, format: ini}"),
			[]string{"use raw, json, env, properties, yaml or template"}},
		"keys as a list": {annotate("inject: true", "secret.db: {name: a, format: env, keys: [A]}"),
			[]string{"keys must be a mapping"}},
		"a key twice": {annotate("inject: true", "secret.db: {name: a, format: env, keys: {A: x, A: y}}"),
			[]string{`keys: "A" is there twice`}},
		"raw with two keys": {annotate("inject: true", "secret.db: {name: a, keys: {A: x, B: y}}"),
			[]string{"format raw writes one value"}},
		"a path that leaves":      {annotate("inject: true", "secret.db: {name: a, path: ../../etc/passwd}"), []string{"leaves the mount path"}},
		"a path that hides":       {annotate("inject: true", "secret.db: {name: a, path: x/../../y}"), []string{"leaves the mount path"}},
		"an absolute path":        {annotate("inject: true", "secret.db: {name: a, path: /etc/passwd}"), []string{"is absolute"}},
		"the switch's own names":  {annotate("inject: true", "secret.db: {name: a, path: ..data/x}"), []string{"begin with two dots"}},
		"the switch's own, short": {annotate("inject: true", "secret...data: a"), []string{"begin with two dots"}},
		"two secrets for one file": {annotate("inject: true", "secret.a: {name: x, path: f}", "secret.b: {name: y, path: f}"),
			[]string{"secret.b: writes f, which secret.a writes too"}},
		"a file that is a folder": {annotate("inject: true", "secret.a: {name: x, path: f}", "secret.b: {name: y, path: f/g}"),
			[]string{"a file and a folder"}},
		"a bad mode of a file": {annotate("inject: true", "secret.db: {name: a, mode: \"0999\"}"), []string{"mode:", "octal"}},
		"an unreadable mode":   {annotate("inject: true", "secret.db: {name: a, mode: \"0040\"}"), []string{"let the owner read"}},
		"containers as a word": {annotate("inject: true", "secret.db: {name: a, containers: web}"), []string{"containers must be a list"}},
		"no containers":        {annotate("inject: true", "secret.db: {name: a, containers: []}"), []string{"containers must be a list"}},
		"containers and the API": {annotate("inject: true", "api: true", "secret.db: {name: a, containers: [web]}"),
			[]string{"secret.db: containers contradicts api"}},
		"variable's name":      {annotate("inject: true", "env.1-DB: a"), []string{"env.1-DB", "not the name of an environment variable"}},
		"variable's secret":    {annotate("inject: true", "env.DB: a b"), []string{"env.DB", "white space"}},
		"variable without key": {annotate("inject: true", "env.DB: a#"), []string{"env.DB", "names no key after the #"}},
		"on-change without file": {annotate("inject: true", "env.DB: a", "on-change: signal:HUP:nginx"),
			[]string{"on-change", "no file that could change"}},
		"role ARN": {annotate("inject: true", "secret.db: a", "role-arn: reader"), []string{"acs:ram::<account>:role/<name>"}},
		"role twice": {annotate("inject: true", "secret.db: a", "role-arn: acs:ram::1:role/a", "role-name: a"),
			[]string{"role-name: contradicts role-arn"}},
		"token-expiration": {annotate("inject: true", "secret.db: a", "token-expiration: 1h"), []string{"600 to 43200"}},
		"mode":             {annotate("inject: true", "secret.db: a", "mode: sidecr"), []string{`did you mean "sidecar"?`}},
		"containers and skip": {annotate("inject: true", "secret.db: a", "containers: a", "skip-containers: b"),
			[]string{"contradicts containers"}},
		"empty container":  {annotate("inject: true", "secret.db: a", "containers: a,,b"), []string{"empty name"}},
		"mount-path":       {annotate("inject: true", "secret.db: a", "mount-path: /"), []string{"clean absolute path"}},
		"refresh-interval": {annotate("inject: true", "secret.db: a", "refresh-interval: 1s"), []string{"at least 10s"}},
		"init that refreshes": {annotate("inject: true", "secret.db: a", "mode: init", "refresh-interval: 1m"),
			[]string{"contradicts mode: init"}},
		"single with a position": {annotate("inject: true", "secret.db: a", "mode: single", "init-position: last"),
			[]string{"contradicts mode: single"}},
		"requests":            {annotate("inject: true", "secret.db: a", "agent-requests: cpu:10m"), []string{"<resource>=<quantity>"}},
		"unknown resource":    {annotate("inject: true", "secret.db: a", "agent-requests: memry=1Mi"), []string{`did you mean "memory"?`}},
		"quantity":            {annotate("inject: true", "secret.db: a", "agent-limits: memory=1MB"), []string{"is not a quantity"}},
		"region":              {annotate("inject: true", "secret.db: a", "region: Hangzhou"), []string{"cn-hangzhou"}},
		"endpoint":            {annotate("inject: true", "secret.db: a", "endpoint: https://kms.example.com"), []string{"without scheme"}},
		"identity":            {annotate("inject: true", "secret.db: a", "identity: node-rol"), []string{`did you mean "node-role"?`}},
		"identity, no Secret": {annotate("inject: true", "secret.db: a", "identity: access-key"), []string{"access-key:kms-credentials"}},
		"identity, bad Secret": {annotate("inject: true", "secret.db: a", "identity: client-key:a/b"),
			[]string{"does not name a Kubernetes Secret"}},
		"identity, needless": {annotate("inject: true", "secret.db: a", "identity: node-role:a"), []string{"node-role has no Secret"}},
		"node role and role": {annotate("inject: true", "secret.db: a", "identity: node-role", "role-name: a"),
			[]string{"role-name: contradicts identity: node-role"}},
		"access key and role": {annotate("inject: true", "secret.db: a", "identity: access-key:a", "role-arn: acs:ram::1:role/a"),
			[]string{"the Secret's key rolearn"}},
		"access key and token": {annotate("inject: true", "secret.db: a", "identity: access-key:a", "token-expiration: 600"),
			[]string{"needs no ServiceAccount token"}},
		"node role for the app": {annotate("inject: true", "secret.db: a", "identity: node-role", "app-identity: true"),
			[]string{"app-identity: contradicts"}},
		"client key and role": {annotate("inject: true", "secret.db: {name: a, roleArn: 'acs:ram::1:role/a'}", "identity: client-key:a"),
			[]string{"roleArn contradicts identity: client-key:a"}},
		"second role": {annotate("inject: true", "secret.db: {name: a, roleArn: reader}"),
			[]string{"roleArn:", "acs:ram::<account>:role/<name>"}},
		"on-change, nothing": {annotate("inject: true", "secret.db: a", "on-change: reload"),
			[]string{"http://127.0.0.1:<port>/<path> or signal:<SIG>:<process>"}},
		"on-change, https": {annotate("inject: true", "secret.db: a", "on-change: https://127.0.0.1:1/"),
			[]string{"https is not possible"}},
		"on-change, elsewhere": {annotate("inject: true", "secret.db: a", "on-change: http://169.254.169.254:80/"),
			[]string{"leaves the pod"}},
		"on-change, by name": {annotate("inject: true", "secret.db: a", "on-change: http://localhost:80/"), []string{"must be 127.0.0.1"}},
		"on-change, no port": {annotate("inject: true", "secret.db: a", "on-change: http://127.0.0.1/x"), []string{"names no port"}},
		"on-change, a user": {annotate("inject: true", "secret.db: a", "on-change: http://u:p@127.0.0.1:80/"),
			[]string{"http://127.0.0.1:<port>/<path>"}},
		"on-change, a signal": {annotate("inject: true", "secret.db: a", "on-change: signal:SIGUP:nginx"),
			[]string{`"UP" is not one of HUP`}},
		"on-change, no process": {annotate("inject: true", "secret.db: a", "on-change: signal:HUP"), []string{"the process is missing"}},
		"on-change, a path":     {annotate("inject: true", "secret.db: a", "on-change: signal:HUP:/bin/sh"), []string{"without a path"}},
		"on-change, init": {annotate("inject: true", "secret.db: {name: a, onChange: 'signal:HUP:x'}", "on-change: signal:HUP:x",
			"mode: init"), []string{"2 mistakes", "on-change: contradicts mode: init", "onChange contradicts mode: init"}},
		"on-change, never": {annotate("inject: true", "secret.db: a", "on-change: signal:HUP:x", "refresh-interval: 0"),
			[]string{"on-change: contradicts refresh-interval: 0"}},
		"on-change, no file": {annotate("inject: true", "api: true", "on-change: signal:HUP:x"), []string{"no file that could change"}},
		"api-port without api": {annotate("inject: true", "secret.db: a", "api-port: 3000"),
			[]string{"api-port: has no effect", `api: "true"`}},
		"api-allow, api is off": {annotate("inject: true", "secret.db: a", "api: false", "api-allow: x"),
			[]string{"api-allow: has no effect"}},
		"api-port and socket": {annotate("inject: true", "api: true", "api-port: 3000", "api-socket: s"),
			[]string{"api-port: contradicts api-socket"}},
		"api-port, privileged": {annotate("inject: true", "api: true", "api-port: 80"), []string{"1024 to 65535"}},
		"api-socket elsewhere": {annotate("inject: true", "api: true", "api-socket: /tmp/api.sock"),
			[]string{"is not a file's name in /var/run/kmstoken"}},
		"api-socket, tricks": {annotate("inject: true", "api: true", "api-socket: /var/run/kmstoken/../x"),
			[]string{"is not a file's name"}},
		"api-socket, the token": {annotate("inject: true", "api: true", "api-socket: token"), []string{"is the token's own file"}},
		"api-allow, empty":      {annotate("inject: true", "api: true", "api-allow: a,"), []string{"empty pattern"}},
		"api-allow, nonsense":   {annotate("inject: true", "api: true", "api-allow: a b"), []string{"is not a pattern"}},
		"api in an init": {annotate("inject: true", "secret.db: a", "api: true", "mode: init"),
			[]string{"api: contradicts mode: init"}},
		"template without format": {annotate("inject: true", "secret.db: {name: a, template: x}"), []string{"template needs format: template"}},
		"template without text": {annotate("inject: true", "secret.db: {name: a, format: template}"),
			[]string{"needs the text in the field template"}},
		"template and keys": {annotate("inject: true", "secret.db: {name: a, format: template, template: x, keys: {a: b}}"),
			[]string{"keys has no effect with format template"}},
		"from without template": {annotate("inject: true", "secret.db: {from: {a: b}}"),
			[]string{"from, several secrets in one file, needs format: template"}},
		"from and name": {annotate("inject: true", "secret.db: {name: a, from: {a: b}, format: template, template: x}"),
			[]string{"from contradicts name"}},
		"from and a version": {annotate("inject: true", "secret.db: {from: {a: b}, versionId: v1, format: template, template: x}"),
			[]string{"which of the secrets of from"}},
		"from a list": {annotate("inject: true", "secret.db: {from: [a], format: template, template: x}"),
			[]string{"from must be a mapping"}},
		"from with a bad alias": {annotate("inject: true", "secret.db: {from: {api-key: a}, format: template, template: x}"),
			[]string{`"api-key" cannot be reached as .api-key`}},
		"from with a bad secret": {annotate("inject: true", "secret.db: {from: {a: 'x y'}, format: template, template: x}"),
			[]string{"from: a:", "white space"}},
		"all of them together": {annotate("mode: x", "region: X", "secret.db: {name: a, format: x, path: /a}"),
			[]string{"5 mistakes", "kms.alibabacloud.com/mode", "kms.alibabacloud.com/region", "format", "path", "kms.alibabacloud.com/inject"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.annotations)
			if err == nil {
				t.Fatal("no error")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in the message:\n%s", want, err)
				}
			}
			if strings.Contains(err.Error(), "config.") || strings.Contains(err.Error(), "longSecret") {
				t.Errorf("the message shows this program's types:\n%s", err)
			}
		})
	}
}

// TestPastedValue: a secret's value, pasted where its name belongs, is not in messages, events and audit logs.
func TestPastedValue(t *testing.T) {
	for _, value := range []string{"hunter2!", "Tr0ub4dor$3", "((1)", "a;b", "p^w|d", strings.Repeat("QUJD", 100), "{name: 'hunter2!'}",
		"{from: {a: hunter2!}, format: template, template: x}"} {
		for _, key := range []string{"secret.db", "env.DB"} {
			_, err := Parse(map[string]string{Prefix + "inject": "true", Prefix + key: value})
			if err == nil || !strings.Contains(err.Error(), "never a secret's own value") || strings.Contains(err.Error(), value) ||
				strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%s: %s: %v", key, value, err)
			}
		}
	}
	for _, name := range []string{"a", "acs/ram/user/x", "Uber_1+2=3.@-", strings.Repeat("a", 192)} {
		if err := config.CheckSecretName(name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
