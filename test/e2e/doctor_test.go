//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// diagnosis is what kubectl kms doctor says.
type diagnosis struct {
	Checks []check

	TrustPolicy, PermissionPolicy string
}

type check struct{ Link, Secret, State, Says, Cure string }

// doctor returns the links that are broken, with what is said about them.
func doctor(t testing.TB, ns, target string) (broken []string, d diagnosis, text string) {
	t.Helper()
	code, stdout, stderr := plugin(t, "", "doctor", "-n", ns, target, "-o", "json")
	if err := json.Unmarshal([]byte(stdout), &d); err != nil {
		t.Fatalf("%d %v %s%s", code, err, stdout, stderr)
	}
	for _, c := range d.Checks {
		if c.State == "broken" {
			broken = append(broken, c.Link)
			if c.Cure == "" {
				t.Errorf("%s: %s has no cure: %s", target, c.Link, c.Says)
			}
		}
	}
	want := 0
	switch {
	case len(broken) > 0:
		want = 1
	case slices.ContainsFunc(d.Checks, func(c check) bool { return c.State == "unknown" }):
		want = 2
	}
	if code != want {
		t.Errorf("%s: exit code %d with broken links %v", target, code, broken)
	}
	return slices.Compact(broken), d, stdout
}

// diagnosed waits until the doctor names these links, and no other, and says what is wrong with them.
func diagnosed(t *testing.T, ns, target, links, says string) {
	t.Helper()
	eventually(t, patience, func() error {
		broken, _, text := doctor(t, ns, target)
		if got := strings.Join(broken, " "); got != links || !strings.Contains(text, says) {
			return fmt.Errorf("%s: the doctor names %q, want %q and %q:\n%s", target, got, links, says, text)
		}
		return nil
	})
}

func asking(name, secret string, annotations ...string) workload {
	return workload{name: name, annotations: append([]string{"inject: true", "secret.db: " + secret}, annotations...),
		podSecurity: "runAsUser: 2000"}
}

// unscaled is a Deployment that makes no pods until it is scaled.
func (w workload) unscaled(ns string) string {
	return fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %s, namespace: %s}\nspec:\n  replicas: 0\n  selector: "+
		"{matchLabels: {app: %s}}\n  template:\n%s", w.name, ns, w.name, w.body(ns, "    "))
}

func serviceAccount(t *testing.T, ns, name, role string) {
	t.Helper()
	apply(t, fmt.Sprintf("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: %s, namespace: %s, annotations: "+
		"{ack.alibabacloud.com/role-arn: 'acs:ram::%s:role/%s'}}\n", name, ns, account, role))
}

// Each link between a pod and its secrets is broken in turn, and the doctor names it and no other.
func TestDoctor(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("doctor")
	put(t, name, value())
	serviceAccount(t, ns, "stranger", "shop") // which trusts shop/web only
	serviceAccount(t, ns, "lost", "nowhere")
	cloud(t, value(), "put-secret", name+"/untagged", "--value-stdin")

	for target, c := range map[string]struct {
		make        func(t *testing.T, name string) string // returns what to examine
		links, says string
	}{
		"whole": {func(t *testing.T, pod string) string {
			apply(t, asking(pod, name).pod(ns))
			return pod
		}, "", "gives " + name},
		"init": {func(t *testing.T, pod string) string {
			apply(t, asking(pod, name, "mode: init").pod(ns))
			return "pod/" + pod
		}, "", "at the start"},
		"namespace": {func(t *testing.T, pod string) string {
			other := namespace(t)
			kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection-")
			apply(t, asking(pod, name).pod(other))
			return other + " " + pod
		}, "namespace injection", "does not have the label kms.alibabacloud.com/injection=enabled"},
		"annotation": {func(t *testing.T, pod string) string {
			other := namespace(t)
			kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection-")
			apply(t, asking(pod, name, "refresh-intervall: 1m").unscaled(other))
			kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection=enabled")
			kubectl(t, "-n", other, "scale", "deployment", pod, "--replicas=1")
			return other + " deployment/" + pod
		}, "annotations injection", "did you mean kms.alibabacloud.com/refresh-interval?"},
		"account": {func(t *testing.T, pod string) string {
			w := asking(pod, name)
			w.serviceAccount = "default"
			apply(t, w.unscaled(ns))
			kubectl(t, "-n", ns, "scale", "deployment", pod, "--replicas=1")
			return pod + "-5b9d7c4f6-x2x2x" // a pod that never was
		}, "injection role", "no RAM role is set for ServiceAccount " + ns + "/default"},
		"trust": {func(t *testing.T, pod string) string {
			w := asking("web", name)
			w.serviceAccount = "stranger"
			apply(t, w.pod(ns))
			return "web"
		}, "sts", "the trust policy of acs:ram::" + account + ":role/shop does not let this pod in"},
		"no-role": {func(t *testing.T, pod string) string {
			w := asking(pod, name)
			w.serviceAccount = "lost"
			apply(t, w.pod(ns))
			return pod
		}, "sts", "EntityNotExist.Role"},
		"provider": {func(t *testing.T, pod string) string {
			other := namespace(t)
			_, injected, _ := plugin(t, asking(pod, name).pod(other), "inject", "-f", "-")
			kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection-") // the webhook would refuse it
			apply(t, strings.ReplaceAll(injected, "oidc-provider/ack-rrsa-c0ffee", "oidc-provider/ack-rrsa-other"))
			kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection=enabled")
			return other + " " + pod
		}, "injection oidc-provider", "ack-rrsa-other"},
		"token": {func(t *testing.T, pod string) string {
			other := namespace(t)
			_, injected, _ := plugin(t, asking(pod, name).pod(other), "inject", "-f", "-")
			kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection-") // the webhook would refuse it
			apply(t, strings.ReplaceAll(injected, "audience: sts.aliyuncs.com", "audience: other"))
			kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection=enabled")
			return other + " " + pod
		}, "annotations token", "must both be sts.aliyuncs.com"},
		"audience": {func(t *testing.T, pod string) string {
			other := namespace(t)
			kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection-")
			w := asking(pod, name)
			w.spec = "volumes: [{name: rrsa-oidc-token, projected: {sources: [{serviceAccountToken: {audience: other, path: token}}]}}]"
			apply(t, w.unscaled(other))
			kubectl(t, "label", "namespace", other, "kms.alibabacloud.com/injection=enabled")
			kubectl(t, "-n", other, "scale", "deployment", pod, "--replicas=1")
			return other + " deployment/" + pod
		}, "annotations injection", "project serviceAccountToken: {audience: sts.aliyuncs.com"},
		"permission": {func(t *testing.T, pod string) string {
			apply(t, asking(pod, name+"/untagged").pod(ns))
			return pod
		}, "kms", "Forbidden.NoPermission"},
		"absent": {func(t *testing.T, pod string) string {
			apply(t, asking(pod, name+"/none").pod(ns))
			return pod
		}, "kms", "Forbidden.ResourceNotFound"},
		"outage": {func(t *testing.T, pod string) string {
			put(t, name+"/outage", value())
			apply(t, asking(pod, name+"/outage").pod(ns))
			ready(t, ns, pod)
			fault := strings.Fields(cloud(t, "", "fault", "--secret", name+"/outage", "--status", "503"))[1]
			t.Cleanup(func() {
				tryKubectl(context.Background(), "", "-n", "kms-emulator", "exec", "deploy/kms-emulator", "--", "/kms-emulator", "remove-fault", fault)
			})
			return pod
		}, "kms", "ServiceUnavailableTemporary"},
		"stale": {func(t *testing.T, pod string) string {
			put(t, name+"/stale", value())
			w := asking(pod, name+"/stale", "refresh-interval: 10s")
			w.spec = "shareProcessNamespace: true"
			apply(t, w.pod(ns))
			ready(t, ns, pod)
			in(t, ns, pod, "app", "sh", "-c", "kill -STOP $(pidof kms-agent)")
			return pod
		}, "files", "should be fetched every 10s"},
	} {
		t.Run(target, func(t *testing.T) {
			t.Parallel()
			where, what, elsewhere := strings.Cut(c.make(t, target), " ")
			if !elsewhere {
				where, what = ns, where
			}
			diagnosed(t, where, what, c.links, c.says)
			_, d, text := doctor(t, where, what)
			if target == "trust" && own != nil {
				pictured(t, strings.NewReplacer(ns, "shop", name, "shop/prod/db").Replace(text))
			}
			if target == "whole" && (!strings.Contains(d.TrustPolicy, `"oidc:sub": "system:serviceaccount:`+ns+`:app"`) ||
				!strings.Contains(d.TrustPolicy, "oidc-provider/ack-rrsa-c0ffee") || !strings.Contains(d.TrustPolicy, `"oidc:iss": "https://`) ||
				!strings.Contains(d.PermissionPolicy, `"acs:kms:cn-hangzhou:`+account+":secret/"+name+`"`)) {
				t.Errorf("the policies to paste are\n%s\n%s", d.TrustPolicy, d.PermissionPolicy)
			}
		})
	}
}

// pictured compares a report, but for what is different each time, to that of the documents' pictures. After -update, test/picture.sh
// draws them anew.
func pictured(t *testing.T, report string) {
	t.Helper()
	const golden = "../../cmd/kubectl-kms/internal/doctor/testdata/untrusted.json"
	report = regexp.MustCompile(`[0-9A-F]{8}(-[0-9A-F]{4}){3}-[0-9A-F]{12}`).ReplaceAllString(report, "0A370861-9D64-425E-ADB4-380C705EC66B")
	report = regexp.MustCompile(`good until [0-9-]+`).ReplaceAllString(report, "good until 2027-11-22")
	if *update {
		if err := os.WriteFile(golden, []byte(report), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(golden); err != nil || report != string(want) {
		t.Errorf("%s is not the present report (%v), which -update writes:\n%s", golden, err, report)
	}
}

// What is broken for the whole cluster: nothing else runs meanwhile, and everything is put back.
func TestDoctorOfTheWebhook(t *testing.T) {
	ns := namespace(t)
	name := secretName("doctor")
	put(t, name, value())
	kustomization := filepath.Join(installDir(), "webhook")
	apply(t, asking("web", name).pod(ns))
	ready(t, ns, "web")
	diagnosed(t, ns, "web", "", "gives "+name)
	restore := func() {
		kubectl(t, "apply", "-k", kustomization)
		kubectl(t, "-n", "kms-agent-injector", "rollout", "status", "deployment/kms-webhook", "--timeout=5m")
		diagnosed(t, ns, "web", "", "gives "+name)
	}
	for _, c := range []struct {
		name        string
		breakIt     func()
		links, says string
	}{
		{"no configuration", func() {
			kubectl(t, "delete", "mutatingwebhookconfiguration", "kms-agent-injector")
		}, "webhook", "there is no MutatingWebhookConfiguration"},
		{"a lenient configuration", func() {
			kubectl(t, "patch", "mutatingwebhookconfiguration", "kms-agent-injector", "--type=json", "-p",
				`[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`)
		}, "webhook", "failurePolicy is not Fail"},
		{"no replicas", func() {
			kubectl(t, "-n", "kms-agent-injector", "scale", "deployment", "kms-webhook", "--replicas=0")
		}, "endpoints", "has no ready endpoint"},
		{"another authority", func() {
			kubectl(t, "delete", "clusterrolebinding", "kms-webhook-certificates") // else the right caBundle is back at once
			kubectl(t, "patch", "mutatingwebhookconfiguration", "kms-agent-injector", "--type=json", "-p",
				`[{"op":"replace","path":"/webhooks/0/clientConfig/caBundle","value":"`+otherAuthority(t)+`"}]`)
		}, "certificate", "the API server does not accept the webhook's certificate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer restore()
			c.breakIt()
			diagnosed(t, ns, "web", c.links, c.says)
		})
	}
}

// otherAuthority is the cluster's own certificate authority, which has not signed the webhook's certificate, in base64.
func otherAuthority(t *testing.T) string {
	t.Helper()
	return kubectl(t, "config", "view", "--raw", "--minify", "--flatten", "-o", "jsonpath={.clusters[0].cluster.certificate-authority-data}")
}
