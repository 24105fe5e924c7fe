package command

import (
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

type object = map[string]any

func kinds(version string, named map[string]string) object {
	var resources []any
	for name, kind := range named {
		resources = append(resources, object{"name": name, "kind": kind, "namespaced": true, "verbs": []string{"get", "list"}})
	}
	return object{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources}
}

func list(version, kind string, items ...any) object {
	return object{"kind": kind + "List", "apiVersion": version, "metadata": object{"resourceVersion": "1"}, "items": items}
}

func group(name string) object {
	version := object{"groupVersion": name + "/v1", "version": "v1"}
	return object{"name": name, "versions": []any{version}, "preferredVersion": version}
}

// shop is a cluster without a webhook, whose Deployment web has made no pod, because it was refused.
func shop() *fakekube.Server {
	web := object{"kind": "Deployment", "apiVersion": "apps/v1", "metadata": object{"name": "web", "namespace": "shop"},
		"spec": object{"template": object{
			"metadata": object{"labels": object{"app": "web"},
				"annotations": object{"kms.alibabacloud.com/inject": "true", "kms.alibabacloud.com/secrt.db": "app/db"}},
			"spec": object{"containers": []any{object{"name": "web", "image": "web"}}},
		}}}
	// The template of a CronJob's pods may have no labels.
	nightly := object{"kind": "CronJob", "apiVersion": "batch/v1", "metadata": object{"name": "nightly", "namespace": "shop"},
		"spec": object{"jobTemplate": object{"spec": object{
			"template": object{"spec": object{"containers": []any{object{"name": "web", "image": "web"}}}},
		}}}}
	ofJob := func(job string) object {
		return object{"kind": "Pod", "apiVersion": "v1",
			"metadata": object{"name": job + "-x7x7x", "namespace": "shop", "labels": object{"batch.kubernetes.io/job-name": job}}}
	}
	plain := object{"kind": "Pod", "apiVersion": "v1", "metadata": object{"name": "plain", "namespace": "shop"},
		"spec": object{"containers": []any{object{"name": "web", "image": "web"}}}}
	return &fakekube.Server{Objects: map[string]any{
		"/version": object{"gitVersion": "v1.36.3"},
		"/api":     object{"kind": "APIVersions", "versions": []string{"v1"}},
		"/apis":    object{"kind": "APIGroupList", "apiVersion": "v1", "groups": []any{group("apps"), group("batch")}},
		"/api/v1":  kinds("v1", map[string]string{"pods": "Pod"}),
		"/apis/apps/v1": kinds("apps/v1",
			map[string]string{"deployments": "Deployment", "statefulsets": "StatefulSet", "daemonsets": "DaemonSet", "replicasets": "ReplicaSet"}),
		"/apis/batch/v1": kinds("batch/v1", map[string]string{"jobs": "Job", "cronjobs": "CronJob"}),
		"/api/v1/namespaces/shop": object{"metadata": object{"name": "shop",
			"labels": object{"kms.alibabacloud.com/injection": "enabled"}}},
		"/api/v1/namespaces/shop/pods":                    list("v1", "Pod", ofJob("nightly-full-29000"), plain, ofJob("nightly-29001")),
		"/api/v1/namespaces/shop/pods/plain":              plain,
		"/apis/apps/v1/namespaces/shop/deployments":       list("apps/v1", "Deployment", web),
		"/apis/apps/v1/namespaces/shop/deployments/web":   web,
		"/apis/apps/v1/namespaces/shop/statefulsets":      list("apps/v1", "StatefulSet"),
		"/apis/apps/v1/namespaces/shop/daemonsets":        list("apps/v1", "DaemonSet"),
		"/apis/apps/v1/namespaces/shop/replicasets":       list("apps/v1", "ReplicaSet"),
		"/apis/batch/v1/namespaces/shop/jobs":             list("batch/v1", "Job"),
		"/apis/batch/v1/namespaces/shop/cronjobs":         list("batch/v1", "CronJob"),
		"/apis/batch/v1/namespaces/shop/cronjobs/nightly": nightly,
		"/api/v1/namespaces/shop/events": list("v1", "Event",
			object{"metadata": object{"name": "1"}, "reason": "FailedCreate", "message": "denied long ago",
				"involvedObject": object{"kind": "ReplicaSet", "name": "web-58c5759d8d"}, "lastTimestamp": "2026-01-01T00:00:00Z"},
			object{"metadata": object{"name": "2"}, "reason": "FailedCreate", "message": "denied by the webhook",
				"involvedObject": object{"kind": "ReplicaSet", "name": "web-58c5759d8d"}, "lastTimestamp": "2026-01-02T00:00:00Z"},
			object{"metadata": object{"name": "3"}, "reason": "FailedCreate", "message": "another's",
				"involvedObject": object{"kind": "ReplicaSet", "name": "web-site-58c5759d8d"}, "lastTimestamp": "2026-01-03T00:00:00Z"},
			object{"metadata": object{"name": "4"}, "reason": "FailedCreate", "message": "another's",
				"involvedObject": object{"kind": "StatefulSet", "name": "web-db"}, "lastTimestamp": "2026-01-03T00:00:00Z"},
		),
	}}
}

func TestDoctorFinds(t *testing.T) {
	server := shop().Start(t)
	for target, c := range map[string]struct {
		code int
		says string
	}{
		"plain":                {1, "Pod shop/plain\n"},
		"pod/plain":            {1, "Pod shop/plain\n"},
		"deployment/web":       {1, "Deployment shop/web\n"},
		"deployments.apps/web": {1, "no pod can be made: denied by the webhook"},
		"web-58c5759d8d-vcpdf": {1, "did you mean kms.alibabacloud.com/secret.db?"},
		"web":                  {1, "there is no MutatingWebhookConfiguration kms-agent-injector"},
		"wep":                  {2, "there is no pod wep in namespace shop"},
		"deployment/none":      {2, "not found"},
		"cronjob/nightly":      {1, "CronJob shop/nightly, newest pod nightly-29001-x7x7x\n"},
	} {
		t.Run(target, func(t *testing.T) {
			code, stdout, stderr := run(t, "", "--server", server, "--cache-dir", t.TempDir(), "-n", "shop", "doctor", target)
			if code != c.code || !strings.Contains(stdout+stderr, c.says) {
				t.Errorf("exit code %d, want %d and %q:\n%s%s", code, c.code, c.says, stdout, stderr)
			}
		})
	}
}

func TestStatusOfNobody(t *testing.T) {
	server := shop().Start(t)
	if code, stdout, stderr := run(t, "", "--server", server, "-n", "shop", "status"); code != 0 || stdout != "" ||
		stderr != "No pods that ask for the agent found in namespace shop.\n" {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := run(t, "", "--server", server, "-n", "shop", "status", "plain", "-o", "json"); code != 2 || stdout != "[]\n" ||
		!strings.Contains(stderr, "Pod shop/plain does not ask for the agent") {
		t.Error(code, stdout, stderr)
	}
	for _, choice := range []string{"-A", "-l=app=web"} {
		if code, _, stderr := run(t, "", "--server", server, "-n", "shop", "status", "plain", choice); code != 2 ||
			!strings.Contains(stderr, "not both") {
			t.Error(choice, code, stderr)
		}
	}
	if code, _, stderr := run(t, "", "--server", server, "-n", "shop", "status", "none"); code != 2 || !strings.Contains(stderr, "not found") {
		t.Error(code, stderr)
	}
}

// A cluster that has no webhook, or does not show its document, is still asked for ServiceAccounts and namespaces.
func TestValidateWithoutThePolicy(t *testing.T) {
	server := shop().Start(t)
	code, stdout, stderr := run(t, deployment, "--server", server, "validate", "-f", "-")
	if code != 0 || !strings.Contains(stderr, "there is no webhook in namespace kms-agent-injector") ||
		!strings.Contains(stdout, "ServiceAccount shop/web, with which the pod runs, does not exist") {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
}

// The webhook's version is the one that its Deployment is labelled with.
func TestVersion(t *testing.T) {
	fake := shop()
	server := fake.Start(t)
	code, stdout, stderr := run(t, "", "version", "--server", server)
	if code != 1 || stdout != "kubectl-kms v1.2.3\n" || !strings.Contains(stderr, "there is no webhook in namespace kms-agent-injector") {
		t.Errorf("without a webhook: %d %s%s", code, stdout, stderr)
	}
	fake = shop()
	fake.Objects["/apis/apps/v1/namespaces/kms-agent-injector/deployments/kms-webhook"] = object{"kind": "Deployment", "apiVersion": "apps/v1",
		"metadata": object{"name": "kms-webhook", "labels": object{"app.kubernetes.io/version": "v1.1.0"}}}
	code, stdout, stderr = run(t, "", "version", "--server", fake.Start(t))
	if code != 0 || stdout != "kubectl-kms v1.2.3\nkms-webhook v1.1.0\n" {
		t.Errorf("%d %s%s", code, stdout, stderr)
	}
}
