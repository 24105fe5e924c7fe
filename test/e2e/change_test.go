//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// Several secrets in one file, by a template.
func TestTemplate(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	user, key := value(), value()
	db, api := secretName("db"), secretName("api")
	put(t, db, `{"AccountName": "`+user+`", "port": 3306}`)
	put(t, api, key)
	apply(t, workload{name: "web", annotations: []string{"inject: true", fmt.Sprintf(
		"secret.app.toml: {format: template, from: {db: %s, api: %s}, template: 'user = {{ .db.AccountName | quote }}, port = {{ .db.port }}, "+
			"key = {{ .api | quote }}'}", db, api)}}.pod(ns))
	ready(t, ns, "web")
	if got, want := in(t, ns, "web", "app", "cat", dir+"/app.toml"), fmt.Sprintf("user = %q, port = 3306, key = %q", user, key); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The application is told after a change, by HTTP and by a signal, and not at the first write.
func TestOnChange(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	posted, signalled := secretName("posted"), secretName("signalled")
	put(t, posted, value())
	put(t, signalled, value())
	listen := `while true; do printf 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n' | nc -l -p 8080 >> /tmp/posts; done`
	trap := `trap 'echo hup >> /tmp/signals' HUP; while true; do sleep 1; done`
	apply(t, workload{
		name: "web", podSecurity: "runAsUser: 2000", spec: "shareProcessNamespace: true",
		annotations: []string{
			"inject: true", "refresh-interval: 10s", "on-change: signal:HUP:ash", "secret.signalled: " + signalled,
			"secret.posted: {name: " + posted + ", onChange: 'http://127.0.0.1:8080/-/reload'}",
		},
		containers: strings.Replace(container("app"), `[sleep, "100000"]`, fmt.Sprintf("[sh, -c, %q]", listen), 1) +
			strings.Replace(container("trap"), `[sleep, "100000"]`, fmt.Sprintf("[ash, -c, %q]", trap), 1),
	}.pod(ns))
	ready(t, ns, "web")
	for _, c := range []struct{ container, file string }{{"app", "/tmp/posts"}, {"trap", "/tmp/signals"}} {
		if out := in(t, ns, "web", c.container, "sh", "-c", "cat "+c.file+" 2>/dev/null; true"); strings.Contains(out, "POST") ||
			strings.Contains(out, "hup") {
			t.Errorf("told at the first write: %s", out)
		}
	}
	// The agent is in the same process namespace, of the same user, and yet shows neither what it was told nor its files.
	look := `for p in /proc/[0-9]*; do if tr '\0' ' ' <$p/cmdline | grep -q '^/kms-agent run'; then ` +
		`echo found; cat $p/environ; ls $p/root/; fi; done 2>&1; true`
	if out := in(t, ns, "web", "app", "sh", "-c", look); !strings.Contains(out, "found") || strings.Count(out, "Permission denied") != 2 {
		t.Errorf("what a neighbour sees of the agent: %s", out)
	}
	rotate(t, posted, value())
	rotate(t, signalled, value())
	eventually(t, patience, func() error {
		posts := in(t, ns, "web", "app", "sh", "-c", "cat /tmp/posts 2>/dev/null; true")
		signals := in(t, ns, "web", "trap", "sh", "-c", "cat /tmp/signals 2>/dev/null; true")
		if !strings.Contains(posts, "POST /-/reload") || !strings.Contains(posts, `"path":"posted"`) || !strings.Contains(signals, "hup") {
			return fmt.Errorf("posts %q, signals %q", posts, signals)
		}
		return nil
	})
}

// The local API serves what the pod declares and what api-allow adds, to those who have the token.
func TestLocalAPI(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	declared, allowed, other := secretName("declared"), secretName("allowed"), secretName("other")
	want := map[string]string{declared: value(), allowed: value(), other: value()}
	for name, v := range want {
		put(t, name, v)
	}
	apply(t, workload{name: "web", annotations: []string{"inject: true", "api: true", "api-allow: e2e/*/allowed", "secret.f: " +
		declared}}.pod(ns))
	ready(t, ns, "web")
	get := func(secret, token string) string {
		request := `'GET /secretsmanager/get?secretId=%s HTTP/1.0\r\nHost: localhost\r\nX-KMS-Token: %s\r\n\r\n'`
		return in(t, ns, "web", "app", "sh", "-c", "(printf "+request+" "+secret+` "`+token+`"; sleep 1) | nc 127.0.0.1 2025`)
	}
	const token = "$(cat /var/run/kmstoken/token)"
	for _, c := range []struct{ secret, token, status, body string }{
		{declared, token, "200", want[declared]},
		{allowed, token, "200", want[allowed]},
		{other, token, "403", "Forbidden.SecretNotAllowed"},
		{declared, "wrong", "403", "Forbidden.BadToken"},
	} {
		eventually(t, patience, func() error { // a client that has closed its side before it is answered is cut off
			answer := get(c.secret, c.token)
			if status, _, _ := strings.Cut(answer, "\r\n"); !strings.Contains(status, c.status) || !strings.Contains(answer, c.body) {
				return fmt.Errorf("%s with token %s: want %s and %s in\n%s", c.secret, c.token, c.status, c.body, answer)
			}
			return nil
		})
	}
	// What the files are made of is not fetched again for the API.
	if got := calls(t, "*GetSecretValue", declared); got != 1 {
		t.Errorf("%d calls of KMS for the declared secret, want 1", got)
	}
	if got := in(t, ns, "web", "kms-agent", "/kms-agent", "get", allowed); strings.TrimSuffix(got, "\n") != want[allowed] {
		t.Error("kms-agent get does not print the value")
	}
	if out, err := tryKubectl(t.Context(), "", "get", "--raw", "/api/v1/namespaces/"+ns+"/pods/web:2026/proxy/metrics"); err != nil ||
		!strings.Contains(out, `kms_agent_kms_requests_total{code="OK"}`) ||
		!strings.Contains(out, `kms_agent_secret_last_success_timestamp_seconds{secret="`+declared+`"}`) {
		t.Errorf("the agent's metrics: %v\n%s", err, out)
	}
	if out, err := tryKubectl(t.Context(), "", "get", "--raw", "/api/v1/namespaces/"+ns+"/pods/web:2026/proxy/readyz"); err != nil ||
		out != "ok\n" {
		t.Errorf("/readyz: %v %s", err, out)
	}
}

// A pod may have the API and no file.
func TestLocalAPIAlone(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name, want := secretName("alone"), value()
	put(t, name, want)
	apply(t, workload{name: "web", annotations: []string{"inject: true", "api: true", "api-socket: kms.sock", "api-allow: e2e/*"}}.pod(ns))
	ready(t, ns, "web")
	in(t, ns, "web", "app", "test", "-S", "/var/run/kmstoken/kms.sock")
	if got := in(t, ns, "web", "kms-agent", "/kms-agent", "get", name); strings.TrimSuffix(got, "\n") != want {
		t.Error("kms-agent get does not print the value")
	}
}
