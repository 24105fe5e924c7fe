package command

import (
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

const syncedPath = "/apis/alibabacloud.com/v1alpha1/namespaces/shop/externalsecrets"

// sync is the cluster shop with an ExternalSecret of one condition.
func sync(status, reason string) *fakekube.Server {
	server := shop()
	es := object{"kind": "ExternalSecret", "apiVersion": "alibabacloud.com/v1alpha1",
		"metadata": object{"namespace": "shop", "name": "db", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
		"spec":     object{"refreshPolicy": "OnChange", "data": []any{object{"key": "app/db", "name": "db"}}},
		"status": object{"observedGeneration": 1, "refreshTime": "2026-01-01T00:00:00Z", "secretName": "db",
			"secrets": []any{object{"key": "app/db", "versionId": "v7"}},
			"conditions": []any{object{"type": "Ready", "status": status, "reason": reason, "message": "why and how", "observedGeneration": 1,
				"lastTransitionTime": "2026-01-01T00:00:00Z"}}}}
	server.Objects[syncedPath] = list("alibabacloud.com/v1alpha1", "ExternalSecret", es)
	server.Objects[syncedPath+"/db"] = es
	server.Objects["/apis/alibabacloud.com/v1alpha1"] = kinds("alibabacloud.com/v1alpha1",
		map[string]string{"externalsecrets": "ExternalSecret"})
	return server
}

// ExternalSecrets are listed where the cluster has the kind, and judged as pods are; elsewhere nothing is said of them.
func TestStatusOfExternalSecrets(t *testing.T) {
	forbidden := map[string]string{syncedPath: "it is forbidden"}
	without := shop()
	without.Forbids = forbidden
	blind := sync("True", "Synced")
	blind.Forbids = forbidden
	for name, c := range map[string]struct {
		server         *fakekube.Server
		args           string
		code           int
		stdout, stderr string
	}{
		"well":                       {sync("True", "Synced"), "", 0, "app/db@v7\n", ""},
		"not well":                   {sync("False", "NotFound"), "", 1, "shop/ExternalSecret/db is failing:\n  why and how\n", ""},
		"json":                       {sync("False", "NotFound"), "-o json", 1, `"name": "ExternalSecret/db"`, ""},
		"yaml":                       {sync("True", "Synced"), "-o yaml", 0, "reason: Synced\n", ""},
		"no right":                   {blind, "", 2, "", "ExternalSecrets not looked at: it is forbidden\n"},
		"no right to what is not":    {without, "", 0, "", "No pods that ask for the agent found in namespace shop.\n"},
		"a pod by its name":          {sync("False", "NotFound"), "plain", 2, "", "Pod shop/plain does not ask for the agent"},
		"pods that labels are given": {sync("False", "NotFound"), "-l app=web", 0, "", "No pods"},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--server", c.server.Start(t), "-n", "shop", "status"}, strings.Fields(c.args)...)
			code, stdout, stderr := run(t, "", args...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) ||
				(c.stdout == "") != (strings.Trim(stdout, "[]\n") == "") || (c.stderr == "") != (stderr == "") {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}

// The exit code of doctor is that of the chain, whatever the cluster has of the injector.
func TestDoctorOfAnExternalSecret(t *testing.T) {
	server := sync("False", "NotFound").Start(t)
	for target, c := range map[string]struct {
		code int
		says string
	}{
		"externalsecret/db":   {1, "✗ name          why and how\n"},
		"externalsecret/none": {2, "there is no ExternalSecret none of kms-sync in namespace shop"},
	} {
		code, stdout, stderr := run(t, "", "--server", server, "--cache-dir", t.TempDir(), "-n", "shop", "doctor", target)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("%s: exit code %d\n%s%s", target, code, stdout, stderr)
		}
	}
}
