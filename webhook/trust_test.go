package webhook_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// TestTrust tries annotations that ask for more than the administrator allows, on a pod and on the template of a Deployment, and checks
// the answers.
func TestTrust(t *testing.T) {
	f := start(t, func(f *fixture, _ *webhook.Options) {
		document := strings.Replace(configuration, "agent: {", "agent: {maxLimits: {memory: 128Mi}, ", 1)
		if err := os.WriteFile(f.config, []byte(document), 0o600); err != nil {
			t.Fatal(err)
		}
	}).ready(t)
	f.namespace("shop", map[string]any{"kms.alibabacloud.com/injection": "enabled"})
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})

	template := func(text string) string {
		return fmt.Sprintf("{from: {db: app/db}, format: template, template: %q}", text)
	}
	huge := strings.Repeat("a", 1<<20)
	bomb := "a: &a [x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += fmt.Sprintf("%c: &%c [%s]\n", c, c, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*%c,", c-1), 9), ","))
	}

	for _, c := range []struct {
		name, annotation, value string
		code                    int32
		reason                  string // a part of the answer
	}{
		{"an attacker's KMS", "endpoint", "kms.attacker.example", 403,
			`does not allow the endpoint "kms.attacker.example" in namespace shop; remove it`},
		{"a host that begins as Alibaba Cloud's", "endpoint", "kms.cn-hangzhou.aliyuncs.com.attacker.example", 403,
			"does not allow the endpoint"},
		{"the nodes' metadata service", "endpoint", "100.100.100.200", 403, "does not allow the endpoint"},
		{"a scheme", "endpoint", "http://kms.attacker.example", 400, "not a host name in small letters without scheme and port"},
		{"a user before the host", "endpoint", "kms-vpc.cn-hangzhou.aliyuncs.com@attacker.example", 400, "not a host name"},
		{"another region", "region", "cn-beijing", 403, `does not allow the region "cn-beijing"`},
		{"a region that is more of a host", "region", "cn-x.attacker.example/", 400, "is not a region"},

		{"another account's role", "role-arn", "acs:ram::42:role/admin", 403,
			"does not allow the role acs:ram::42:role/admin in namespace shop; allowed: acs:ram::1234567890123456:role/*"},
		{"an account in a role's name", "role-name", "../../42:role/admin", 400, "is not the name of a RAM role"},
		{"another account's role for one secret", "secret.x", "{name: app/x, roleArn: 'acs:ram::42:role/admin'}", 403,
			`does not allow the role "acs:ram::42:role/admin"`},
		{"a user instead of a role", "role-arn", "acs:ram::1234567890123456:user/root", 400, "not the ARN of a RAM role"},
		{"another account's secret", "secret.x", "acs:kms:cn-hangzhou:42:secret/app/db", 403,
			`does not allow the secret "acs:kms:cn-hangzhou:42:secret/app/db"`},
		{"another team's secret", "secret.x", "finance/db", 403, `does not allow the secret "finance/db" in namespace shop; allowed: app/*`},
		{"another team's secret in a template", "secret.x", "{from: {a: app/a, b: finance/db}, format: template, template: '{{ .b }}'}", 403,
			"finance/db"},
		{"another team's secret in a variable", "env.X", "finance/db", 403, "finance/db"},
		{"a pattern for a name", "secret.x", "app/*", 400, "is not the name of a KMS secret"},
		{"a parameter in a name", "secret.x", "app/db&VersionId=1", 400, "is not the name of a KMS secret"},

		{"another pod's Secret", "identity", "access-key:admin", 403, `does not allow the identity "access-key:admin"`},
		{"a path to a Secret", "identity", "access-key:../kube-system/admin", 400, "identity"},
		{"no identity", "identity", "none", 400, "identity"},

		{"a file above the volume", "secret.x", "{name: app/x, path: ../../etc/passwd}", 400, "leaves the mount path"},
		{"a file above the volume, on a way round", "secret.x", "{name: app/x, path: a/../../etc/passwd}", 400, "leaves the mount path"},
		{"a file of the root", "secret.x", "{name: app/x, path: /etc/passwd}", 400, "is absolute"},
		{"the link that switches directories", "secret.x", "{name: app/x, path: ..data}", 400, "begin with two dots"},
		{"the file with the variables", "secret.x", "{name: app/x, path: ..env}", 400, "begin with two dots"},
		{"the same by the annotation's name", "secret...env", "app/x", 400, "begin with two dots"},
		{"a path with a line's end", "secret.x", `{name: app/x, path: "a\nb"}`, 400, "control characters"},
		{"a path that ends early", "secret.x", `{name: app/x, path: "a\0b"}`, 400, "control characters"},
		{"the root as the volume's place", "mount-path", "/", 400, "not a clean absolute path"},
		{"a way to the root", "mount-path", "/app/../", 400, "not a clean absolute path"},
		{"an option of the mount", "mount-path", "/app:rw", 400, "not a clean absolute path"},
		{"a socket elsewhere", "api-socket", "../../../run/containerd.sock", 400, "not a file's name"},
		{"the token's file", "api-socket", "token", 400, "the token's own file"},
		{"a set-user-ID file", "secret.x", `{name: app/x, mode: "4755"}`, 400, "is not a mode of a file"},

		{"a megabyte", "secret.x", huge, 400, "has 1048576 bytes; at most 65536 are allowed"},
		{"a megabyte for another row", "mode", huge, 400, "has 1048576 bytes"},
		{"a megabyte under no row", "modus", huge, 400, "unknown annotation"},
		{"many lines of YAML", "secret.x", strings.Repeat("a: b\n", 10000), 400, "is too much YAML"},
		{"a YAML bomb", "secret.x", bomb, 400, `there is no field "a"`},
		{"a YAML bomb in a field", "secret.x", "{name: app/x, containers: [&a [x,x,x,x], &b [*a,*a,*a,*a], &c [*b,*b,*b,*b], [*c,*c,*c,*c]]}",
			400, "containers must be a list"},
		{"YAML that contains itself", "secret.x", "&a {name: app/x, keys: *a, format: json}", 400, "keys"},
		{"YAML of great depth", "secret.x", "{keys: " + strings.Repeat("[", 20000), 400, "is too much YAML"},
		{"a Go type", "secret.x", "!!binary YXBwL2Ri", 400, "secret.x"},

		{"a template that reads files", "secret.x", template(`{{ readFile "/etc/passwd" }}`), 400,
			"function readFile is not available: a file is made of secrets"},
		{"a template that reads the environment", "secret.x", template(`{{ env "ALIBABA_CLOUD_ACCESS_KEY_SECRET" }}`), 400,
			"function env is not available"},
		{"a template that runs programs", "secret.x", template(`{{ exec "sh" }}`), 400, "function exec is not known"},
		{"a template that calls", "secret.x", template(`{{ call .db.f }}`), 400, "call"},
		{"a template that includes", "secret.x", template(`{{ template "other" }}`), 400, "template"},

		{"a header in a notification", "on-change", "http://127.0.0.1:8080/\r\nX-KMS-Token: x", 400, "on-change"},
		{"a notification that leaves the pod", "on-change", "http://100.100.100.200:80/latest/meta-data/", 400, "leaves the pod"},
		{"a notification by a name", "on-change", "http://localhost:8080/", 400, "leaves the pod"},
		{"a notification to the host behind the @", "on-change", "http://127.0.0.1:80@attacker.example:80/", 400, "leaves the pod"},
		{"a notification with a password", "on-change", "http://user:word@127.0.0.1:8080/", 400, "is not of the form"},
		{"a file to notify", "on-change", "file:///etc/passwd", 400, "file is not possible"},
		{"a signal that kills", "on-change", "signal:KILL:init", 400, `"KILL" is not one of`},
		{"a signal by path", "on-change", "signal:HUP:../../bin/sh", 400, "is not the name of a process"},
		{"a header in one secret's notification", "secret.x", `{name: app/x, onChange: "http://127.0.0.1:8080/\r\nHost: x"}`, 400, "onChange"},

		{"the node's memory", "agent-limits", "memory=64Gi", 400, "more than the administrator allows, 128Mi"},
		{"a port of the node's", "api-port", "22", 400, "api-port"},
		{"a line in the log", "log-level", "info\nx=y", 400, "is not one of debug, info, error"},
		{"an image of one's own", "agent-image", "attacker.example/agent", 400, "unknown annotation"},
	} {
		t.Run(c.name, func(t *testing.T) {
			annotations := map[string]any{"secret.db": "app/db", c.annotation: c.value}
			deployment := map[string]any{"spec": map[string]any{"template": pod("web", annotations)}}
			for path, object := range map[string]map[string]any{webhook.MutatePath: pod("web", annotations), webhook.ValidatePath: deployment} {
				r := f.review(t, path, "CREATE", object, nil)
				if r.Allowed || r.Patch != nil {
					t.Fatalf("%s allows it", path)
				}
				said := r.Result.Message
				if r.Result.Code != c.code || !strings.Contains(said, c.reason) || !strings.Contains(said, "kms.alibabacloud.com/"+c.annotation) {
					t.Errorf("%s: %d, %.500s", path, r.Result.Code, said)
				}
				if len(said) > 4<<10 {
					t.Errorf("%s answers with %d bytes", path, len(said))
				}
			}
		})
	}
}

// TestTrustMany is a pod with more mistakes than an answer lists.
func TestTrustMany(t *testing.T) {
	f := start(t).ready(t)
	annotations := map[string]any{}
	for i := range 5000 {
		annotations[fmt.Sprintf("secrt.%d", i)] = "app/db"
	}
	r := f.review(t, webhook.MutatePath, "CREATE", pod("web", annotations), nil)
	if r.Allowed || !strings.Contains(r.Result.Message, "5000 mistakes:") || !strings.HasSuffix(r.Result.Message, "and 4950 more") {
		t.Errorf("%.300s … %d bytes", r.Result.Message, len(r.Result.Message))
	}
}

// TestTrustImpostors are pods whose own parts take the names of the agent's.
func TestTrustImpostors(t *testing.T) {
	f := start(t).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": "acs:ram::1234567890123456:role/shop"})
	for _, c := range []struct {
		name   string
		change func(spec map[string]any)
		reason string
	}{
		{"a container with the agent's name", func(spec map[string]any) {
			spec["containers"] = append(spec["containers"].([]any), map[string]any{"name": "kms-agent", "image": "attacker.example/agent"})
		}, "container kms-agent: has a name that the injector needs"},
		{"a directory of the node in the secrets' place", func(spec map[string]any) {
			spec["volumes"] = []any{map[string]any{"name": "kms-secrets", "hostPath": map[string]any{"path": "/tmp"}}}
		}, "volume kms-secrets: would hold secrets but is not in memory"},
		{"a disk in the state's place", func(spec map[string]any) {
			spec["volumes"] = []any{map[string]any{"name": "kms-agent", "emptyDir": map[string]any{}}}
		}, "volume kms-agent: would hold secrets but is not in memory"},
		{"another volume in the token's place", func(spec map[string]any) {
			spec["volumes"] = []any{map[string]any{"name": "rrsa-oidc-token", "configMap": map[string]any{"name": "x"}}}
		}, "volume rrsa-oidc-token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pod("web", map[string]any{"secret.db": "app/db"})
			c.change(p["spec"].(map[string]any))
			r := f.review(t, webhook.MutatePath, "CREATE", p, nil)
			if r.Allowed || r.Result.Code != 400 || !strings.Contains(r.Result.Message, c.reason) {
				t.Errorf("%v %+v", r.Allowed, r.Result)
			}
		})
	}
}
