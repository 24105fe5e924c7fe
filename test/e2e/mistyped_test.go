//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// mistypes has, for each annotation, a mistake in its key or value and what to type instead.
var mistypes = map[string]struct{ annotation, say string }{
	"inject":           {"inject: yes", `neither "true" nor "false"`},
	"secret.<file>":    {"secrte.db: app/db", "did you mean kms.alibabacloud.com/secret.db?"},
	"env.<NAME>":       {"evn.DB: app/db", "did you mean kms.alibabacloud.com/env.DB?"},
	"env":              {"env: DB=app/db", "{DB_PASSWORD: app/prod/db#AccountPassword}"},
	"role-arn":         {"role-arn: web", "acs:ram::<account>:role/<name>"},
	"role-name":        {"rolename: web", "did you mean kms.alibabacloud.com/role-name?"},
	"identity":         {"identity: noderole", `did you mean "node-role"?`},
	"token-expiration": {"token-expiration: 1h", "600 to 43200"},
	"mode":             {"mode: sidcar", `did you mean "sidecar"?`},
	"containers":       {"containers: ap", "its containers are app"},
	"skip-containers":  {"skip-container: app", "did you mean kms.alibabacloud.com/skip-containers?"},
	"mount-path":       {"mount-path: etc/app", "for example /etc/app/secrets"},
	"refresh-interval": {"refresh-intervall: 5m", "did you mean kms.alibabacloud.com/refresh-interval?"},
	"on-change":        {"on-change: signal:HUPP:nginx", `did you mean "HUP"?`},
	"api":              {"api: on", `neither "true" nor "false"`},
	"api-port":         {"api-port: 80", "1024 to 65535"},
	"api-socket":       {"api-socket: /tmp/kms.sock", "write for example api.sock"},
	"api-allow":        {"api-alow: app/*", "did you mean kms.alibabacloud.com/api-allow?"},
	"app-identity":     {"app-identitiy: true", "did you mean kms.alibabacloud.com/app-identity?"},
	"init-position":    {"init-position: frist", `did you mean "first"?`},
	"agent-requests":   {"agent-requests: cpu:10m", "cpu=10m,memory=16Mi"},
	"agent-limits":     {"agent-limits: memroy=64Mi", `did you mean "memory"?`},
	"log-level":        {"log-level: debg", `did you mean "debug"?`},
	"log-format":       {"log-fromat: text", "did you mean kms.alibabacloud.com/log-format?"},
	"region":           {"region: Hangzhou", "cn-hangzhou"},
	"endpoint":         {"endpoint: https://kms.cn-hangzhou.aliyuncs.com", "without scheme"},
}

// The error of kubectl apply says how to correct a mistyped annotation, for a pod and for a Deployment.
func TestMistypedAnnotations(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	var manifests strings.Builder
	for i, a := range podconfig.Annotations() {
		mistype, found := mistypes[strings.TrimPrefix(a.Key, podconfig.Prefix)]
		if !found {
			t.Errorf("%s has no test", a.Key)
			continue
		}
		annotations := []string{"secret.f: e2e/f", mistype.annotation}
		if !strings.HasPrefix(mistype.annotation, "inject:") {
			annotations = append(annotations, "inject: true")
		}
		w := workload{name: fmt.Sprintf("p%d", i), annotations: annotations}
		fmt.Fprintf(&manifests, "---\n%[1]s---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %[2]s, namespace: %[3]s}\nspec:\n  "+
			"selector: {matchLabels: {app: %[2]s}}\n  template:\n%[4]s",
			w.pod(ns), w.name, ns, w.body(ns, "    "))
	}
	out, err := tryKubectl(t.Context(), manifests.String(), "create", "--dry-run=server", "-o", "name", "-f", "-")
	if out != "" || err == nil {
		t.Fatalf("accepted: %s", out)
	}
	said := strings.Split(err.Error(), "Error from server")
	for _, a := range podconfig.Annotations() {
		name := strings.TrimPrefix(a.Key, podconfig.Prefix)
		t.Run(name, func(t *testing.T) {
			mistype, told := mistypes[name], 0
			key, _, _ := strings.Cut(mistype.annotation, ": ")
			for _, message := range said {
				if strings.Contains(message, podconfig.Prefix+key+":") && strings.Contains(message, mistype.say) {
					told++
				}
			}
			if told != 2 {
				t.Errorf("%s: %d of 2 messages say %q", mistype.annotation, told, mistype.say)
			}
		})
	}
}

// The same in every kind of object that makes pods.
func TestMistypedInWorkloads(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	mistyped := workload{name: "w", spec: "restartPolicy: Never", annotations: []string{"inject: true", "secret.f: e2e/f", "mode: sidcar"}}
	running := mistyped
	running.spec = ""
	const selector = "  selector: {matchLabels: {app: w}}\n  template:\n"
	for kind, spec := range map[string]string{
		"apps/v1 Deployment":  selector + running.body(ns, "    "),
		"apps/v1 StatefulSet": selector + running.body(ns, "    "),
		"apps/v1 DaemonSet":   selector + running.body(ns, "    "),
		"apps/v1 ReplicaSet":  selector + running.body(ns, "    "),
		"batch/v1 Job":        "  template:\n" + mistyped.body(ns, "    "),
		"batch/v1 CronJob":    "  schedule: 0 0 1 1 *\n  jobTemplate:\n    spec:\n      template:\n" + mistyped.body(ns, "        "),
	} {
		t.Run(kind, func(t *testing.T) {
			version, name, _ := strings.Cut(kind, " ")
			message := refused(t, fmt.Sprintf("apiVersion: %s\nkind: %s\nmetadata: {name: w, namespace: %s}\nspec:\n%s", version, name, ns, spec))
			for _, want := range []string{"workloads.kms.alibabacloud.com",
				`kms.alibabacloud.com/mode: "sidcar" is not one of sidecar, init, single; did you mean "sidecar"?`} {
				if name == "CronJob" {
					want = strings.Replace(want, "workloads.kms", "cronjobs.kms", 1)
				}
				if !strings.Contains(message, want) {
					t.Errorf("%q is not in the message:\n%s", want, message)
				}
			}
		})
	}
}
