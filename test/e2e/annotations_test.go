//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// The annotations that have no story of their own, all in one pod, which has no token for the API server.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	// The role is the pod's own to name.
	kubectl(t, "-n", ns, "annotate", "serviceaccount", "app", "ack.alibabacloud.com/role-arn-")
	name, want := secretName("all"), value()
	put(t, name, want)
	apply(t, workload{
		name: "web",
		annotations: []string{
			"inject: true", "secret.f: " + name, "role-name: e2e", "app-identity: true", "token-expiration: 7200", "init-position: last",
			"skip-containers: other,first", "agent-requests: cpu=5m,memory=20Mi", "agent-limits: memory=48Mi", "log-level: debug",
			"log-format: text",
			"region: cn-hangzhou", "refresh-interval: 0",
		},
		spec: "automountServiceAccountToken: false\ninitContainers:\n" +
			strings.Replace(container("first"), `[sleep, "100000"]`, `["true"]`, 1),
		containers: container("app") + container("other"),
	}.pod(ns))
	ready(t, ns, "web")
	if got := in(t, ns, "web", "app", "cat", dir+"/f"); got != want {
		t.Error("the file does not hold the secret's value")
	}
	get := func(path string) string { return kubectl(t, "-n", ns, "get", "pod", "web", "-o", "jsonpath="+path) }
	for path, want := range map[string]string{
		`{.spec.initContainers[*].name}`:          "first kms-agent-init kms-agent",
		`{.spec.initContainers[2].restartPolicy}`: "Always",
		`{.spec.initContainers[2].resources}`:     `{"limits":{"memory":"48Mi"},"requests":{"cpu":"5m","memory":"20Mi"}}`,
		`{.spec.volumes[?(@.name=="rrsa-oidc-token")].projected.sources[0].serviceAccountToken}`: `{"audience":"sts.aliyuncs.com",` +
			`"expirationSeconds":7200,"path":"token"}`,
		`{.spec.containers[1].volumeMounts[?(@.name=="kms-secrets")].mountPath}`: "",
		`{.metadata.annotations.kms\.alibabacloud\.com/injected}`:                "devel",
	} {
		if got := get(path); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	env := in(t, ns, "web", "app", "env")
	for _, want := range []string{
		"ALIBABA_CLOUD_ROLE_ARN=" + role, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN=acs:ram::" + account + ":oidc-provider/ack-rrsa-c0ffee",
		"ALIBABA_CLOUD_OIDC_TOKEN_FILE=/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token", "ALIBABA_CLOUD_STS_REGION=cn-hangzhou",
	} {
		if !strings.Contains(env, want+"\n") {
			t.Errorf("with app-identity the application lacks %s:\n%s", want, env)
		}
	}
	in(t, ns, "web", "app", "test", "-s", "/var/run/secrets/ack.alibabacloud.com/rrsa-tokens/token")
	if logs := kubectl(t, "-n", ns, "logs", "web", "-c", "kms-agent"); !strings.Contains(logs, `level=INFO msg="refresh-interval is 0`) {
		t.Errorf("the log is not text, or lacks that nothing is refreshed:\n%s", logs)
	}
}

// The local API's answers besides the secrets themselves, each as a row of its documentation.
func TestLocalAPIRows(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("rows")
	put(t, name, value())
	unreachable, silent := secretName("unreachable"), secretName("silent")
	for secret, fault := range map[string]string{unreachable: "--cut=headers", silent: "--hang=headers"} {
		put(t, secret, value())
		id := strings.Fields(cloud(t, "", "fault", "--secret", secret, fault))[1]
		defer cloud(t, "", "remove-fault", id)
	}
	apply(t, workload{name: "web", annotations: []string{"inject: true", "api: true", "api-port: 2100", "api-allow: e2e/*", "secret.f: " +
		name}}.pod(ns))
	ready(t, ns, "web")
	const token = `X-KMS-Token: $(cat /var/run/kmstoken/token)\r\n`
	ask := func(line, headers, status string, seconds int) {
		t.Helper()
		request := `printf "` + strings.ReplaceAll(line, "%", "%%") + ` HTTP/1.0\r\nHost: localhost\r\n` + headers + `\r\n"`
		eventually(t, patience, func() error { // a client that has closed its side before it is answered is cut off
			answer := in(t, ns, "web", "app", "sh", "-c",
				fmt.Sprintf("(%s; sleep %d) | timeout %d nc 127.0.0.1 2100; true", request, seconds, seconds+2))
			if got, _, _ := strings.Cut(answer, "\r\n"); !strings.Contains(got, " "+status+" ") {
				return fmt.Errorf("%s with %q: want %s in\n%s", line, headers, status, answer)
			}
			return nil
		})
	}
	for _, c := range []struct{ line, headers, status string }{
		{"GET /ping", "", "200"},
		{"GET /v1/" + name, token, "200"},
		{"GET /v1/" + name, strings.Replace(token, "X-KMS", "X-Vault", 1), "200"},
		{"GET /secretsmanager/get?secretId=" + name + "&versionId=v1&refreshNow=true", token, "200"},
		{"GET /secretsmanager/get?secretId=" + name, token + `X-Forwarded-For: 10.0.0.1\r\n`, "400"},
		{"GET /secretsmanager/get", token, "400"},
		{"GET /secretsmanager/get?secretId=" + name + "&nonsense=1", token, "400"},
		{"GET /secretsmanager/get?secretId=" + name + "&refreshNow=perhaps", token, "400"},
		{"GET /secretsmanager/get?secretId=" + name, "", "403"},
		{"POST /secretsmanager/get?secretId=" + name, token, "405"},
		{"GET /elsewhere", token, "404"},
		{"GET /v1/e2e/not/there", token, "404"}, // KMS's own answer
		{"GET /v1/" + unreachable, token, "502"},
		{"GET /v1/watch?secretId=" + name, token, "200"},
	} {
		ask(c.line, c.headers, c.status, 1)
	}
	// Longer than a call of KMS may take.
	ask("GET /v1/"+silent, token, "504", 12)
}

// A single sidecar that gets no files says why, in the pod's status, and the application does not start. While it tries, it can be
// asked, and the pod can be deleted.
func TestSingleWithoutFiles(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	missing, silent := secretName("missing"), secretName("silent")
	put(t, silent, value())
	fault := strings.Fields(cloud(t, "", "fault", "--secret", silent, "--status", "503"))[1]
	defer cloud(t, "", "remove-fault", fault)
	for name, secret := range map[string]string{"missing": missing, "silent": silent} {
		apply(t, workload{name: name, annotations: []string{"inject: true", "mode: single", "secret.f: " + secret}}.pod(ns))
	}
	eventually(t, patience, func() error {
		c := status(t, ns, "missing").container("kms-agent")
		for _, s := range []containerState{c.State, c.LastState} {
			if s.Terminated != nil && strings.Contains(s.Terminated.Message, "Forbidden.ResourceNotFound") {
				return nil
			}
		}
		return errNotYet
	})
	eventually(t, patience, func() error {
		held, err := tryKubectl(t.Context(), "", "-n", ns, "exec", "silent", "-c", "kms-agent", "--", "/kms-agent", "status", "--probe")
		if err == nil && !strings.Contains(held, "ServiceUnavailableTemporary") {
			err = fmt.Errorf("the agent says %s", held)
		}
		return err
	})
	log, err := tryKubectl(t.Context(), "", "-n", ns, "logs", "silent", "-c", "kms-agent")
	t.Logf("kubectl logs while the agent tries: %.200q, %v", log, err)
	for _, name := range []string{"missing", "silent"} {
		t.Logf("%s: %s", name, kubectl(t, "-n", ns, "get", "pod", name, "-o", "jsonpath={.status.initContainerStatuses[*].state}"))
		if s := status(t, ns, name); s.Status.Phase != "Pending" {
			t.Errorf("pod %s is %s", name, s.Status.Phase)
		}
	}
	begun := time.Now()
	kubectl(t, "-n", ns, "delete", "pod", "silent", "--timeout=3m") // the kubelet ends its hook first, which the agent does after a minute
	t.Logf("a pod whose agent tries was deleted in %s", time.Since(begun).Round(time.Second/10))
}
