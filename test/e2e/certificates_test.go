//go:build e2e

package e2e

import (
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files of this package anew")

// keeper is the Deployment that writes certificates and the caBundle, apart from what listens.
const keeper = "kms-webhook-certificates"

// All that the ServiceAccount of what listens may do, in its own namespace and in all others, as the API server says; without the paths
// that every client may read, such as /healthz, which are the cluster's.
func TestRightsOfWhatListens(t *testing.T) {
	var got strings.Builder
	for _, ns := range []string{webhookNamespace, "default"} {
		list := kubectl(t, "auth", "can-i", "--list", "--namespace", ns, "--as", "system:serviceaccount:"+webhookNamespace+":kms-webhook")
		var rules []string
		for line := range strings.Lines(list) {
			if rule := strings.Join(strings.Fields(line), " "); !strings.HasPrefix(rule, "[/") && !strings.HasPrefix(rule, "Resources ") {
				rules = append(rules, rule)
			}
		}
		slices.Sort(rules)
		got.WriteString("# In the namespace " + ns + ": resource, URLs, names, verbs\n" + strings.Join(rules, "\n") + "\n")
	}
	file := filepath.Join("testdata", "rights.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("what listens has other rights (-want +got):\n%s", diff)
	}
}

// Whatever is done to what writes certificates, and to what it has written, no pod is refused.
func TestCertificatesAreKeptApart(t *testing.T) {
	l := startLoad(t)

	l.during("the replicas start anew, nothing writes certificates")
	scaleKeeper(t, 0)
	kubectl(t, "-n", webhookNamespace, "rollout", "restart", "deployment/kms-webhook")
	kubectl(t, "-n", webhookNamespace, "rollout", "status", "deployment/kms-webhook", "--timeout=5m")
	serving(t)
	l.during("the serving certificate is deleted meanwhile")
	before := expiries(t)
	kubectl(t, "-n", webhookNamespace, "delete", "secret", "kms-webhook-tls")
	l.during("it comes back, with another certificate")
	scaleKeeper(t, 1)
	renewed(t, before)
	l.during("the serving certificate is deleted")
	rotated(t, func() { kubectl(t, "-n", webhookNamespace, "delete", "secret", "kms-webhook-tls") })
	l.during("the authority and the serving certificate are deleted")
	rotated(t, func() { kubectl(t, "-n", webhookNamespace, "delete", "secret", "kms-webhook-tls", "kms-webhook-ca") })
	l.during("what writes certificates is killed and the authority deleted")
	kubectl(t, "-n", webhookNamespace, "delete", "pod", "-l", "app.kubernetes.io/component=certificates", "--force", "--grace-period=0")
	rotateAuthority(t)
	kubectl(t, "-n", webhookNamespace, "rollout", "status", "deployment/"+keeper, "--timeout=5m")
	l.end(t, 500)
}

func scaleKeeper(t *testing.T, replicas int) {
	t.Helper()
	scale := func(ctx context.Context, to string) error {
		_, err := tryKubectl(ctx, "", "-n", webhookNamespace, "scale", "deployment/"+keeper, "--replicas="+to)
		return err
	}
	if replicas == 0 {
		t.Cleanup(func() {
			if err := scale(context.Background(), "1"); err != nil {
				t.Error(err)
			}
		})
	}
	if err := scale(t.Context(), map[int]string{0: "0", 1: "1"}[replicas]); err != nil {
		t.Fatal(err)
	}
	if replicas == 0 {
		kubectl(t, "-n", webhookNamespace, "wait", "pods", "-l", "app.kubernetes.io/component=certificates", "--for=delete", "--timeout=5m")
	}
}

// A first start of everything but what writes certificates: no pod starts without its secrets, and as soon as it comes, none is
// refused.
func TestFirstStartWithoutCertificates(t *testing.T) {
	kustomization := filepath.Join(installDir(), "webhook")
	all := kubectl(t, "kustomize", kustomization)
	kubectl(t, "delete", "-k", kustomization, "--wait=true", "--timeout=5m")
	t.Cleanup(func() {
		for _, args := range [][]string{{"apply", "-k", kustomization},
			{"-n", webhookNamespace, "rollout", "status", "deployment/kms-webhook", "--timeout=5m"}} {
			if out, err := tryKubectlAnyway(args...); err != nil {
				t.Errorf("install again: %v\n%s", err, out)
			}
		}
	})
	var without []string
	for document := range strings.SplitSeq(all, "\n---\n") {
		if !strings.Contains(document, "kind: Deployment\n") || !strings.Contains(document, "\n  name: "+keeper+"\n") {
			without = append(without, document)
		}
	}
	if left := len(strings.Split(all, "\n---\n")) - len(without); left != 1 {
		t.Fatalf("%d documents are the Deployment %s", left, keeper)
	}
	apply(t, strings.Join(without, "\n---\n"))
	eventually(t, patience, func() error {
		if running := kubectl(t, "-n", webhookNamespace, "get", "pods", "-l", "app.kubernetes.io/component=webhook", "-o",
			"jsonpath={.items[*].status.phase}"); running != "Running Running" {
			return errors.New(running)
		}
		return nil
	})
	ns := namespace(t)
	annotated := workload{name: "p", annotations: []string{"inject: true", "secret.f: x"}}
	for range 20 {
		if message := refused(t, annotated.pod(ns)); !strings.Contains(message, `failed calling webhook "pods.kms.alibabacloud.com"`) {
			t.Errorf("refused for another reason: %s", message)
		}
	}
	if states := readiness(t); strings.Contains(states, "True") {
		t.Errorf("without a certificate the replicas' readiness is %q", states)
	}

	began := time.Now()
	apply(t, all)
	serving(t)
	t.Logf("ready %s after what writes certificates was created", time.Since(began).Round(100*time.Millisecond))
	startLoad(t).end(t, 100)
}

// undivided is the last commit in which what listens had its own authority and wrote the caBundle itself.
const undivided = "3353e98df38a80d5f1d1778400a76cf60dda7b18"

// testUndivided upgrades from that commit's chart and image, and goes back to it, while pods are created.
func testUndivided(t *testing.T) {
	if own == nil {
		t.Skip("the image of then is built and loaded into the project's own cluster only")
	}
	source := t.TempDir()
	run := func(dir, name string, args ...string) error {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		t.Logf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		return err
	}
	if run(repository, "git", "clone", "--quiet", "--shared", "--no-checkout", ".", source) != nil ||
		run(source, "git", "checkout", "--quiet", undivided) != nil {
		t.Skip("the repository does not have the commit " + undivided)
	}
	images := t.TempDir()
	roots := filepath.Join(installDir(), "webhook", "emulator-ca.pem") // the webhook needs none, and nothing is downloaded
	if err := run(source, "go", "run", "./deploy/images", "-platforms", "linux/"+runtime.GOARCH, "-out", images, "-repository", "undivided",
		"-ca-roots", roots, "kms-webhook"); err != nil {
		t.Fatal(err)
	}
	if err := own.run(t.Context(), os.Stdout, "load", filepath.Join(images, "kms-webhook.tar")); err != nil {
		t.Fatal(err)
	}
	helm(t, "install", "kms-agent-injector", filepath.Join(source, "deploy/chart/kms-agent-injector"), "--namespace", webhookNamespace,
		"--wait", "--timeout=5m",
		"--set", "accountID=1234567890123456,clusterID=c0ffee,region=cn-hangzhou,image.repository=undivided,image.tag=dev")
	l := startLoad(t)
	l.during("helm upgrade from the undivided form")
	authority := caBundle(t)
	chart(t, "upgrade")
	serving(t)
	if now := caBundle(t); now != authority {
		t.Errorf("the authority is another one:\n%s\nbefore:\n%s", now, authority)
	}
	l.during("helm rollback to it")
	helm(t, "rollback", "kms-agent-injector", "1", "--namespace", webhookNamespace, "--wait", "--timeout=5m")
	serving(t)
	l.during("helm upgrade again")
	chart(t, "upgrade")
	serving(t)
	l.end(t, 200)
	uninstall(t)
	nothingLeft(t)
}
