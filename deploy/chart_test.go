//go:build chart

package deploy_test

import (
	"bytes"
	"errors"
	"flag"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
)

var update = flag.Bool("update", false, "write the manifests anew from the chart")

const chart = "chart/kms-agent-injector"

// required are the values without a default.
var required = []string{"--set", "accountID=1234567890123456", "--set", "clusterID=c0ffee", "--set", "region=cn-hangzhou"}

// pinnedHelm returns the path of the pinned Helm. The tests run it a hundred times; "go tool" takes half a second longer.
var pinnedHelm = sync.OnceValues(func() (string, error) {
	path, err := exec.Command("../test/tools/run.sh", "-n", "helm").Output() //nolint:noctx // of no test
	return strings.TrimSpace(string(path)), err
})

// helm runs the pinned Helm and returns its output. The error has its error output.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	program, err := pinnedHelm()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", errors.New(stderr.String())
	}
	return stdout.String(), nil
}

// render returns the chart's objects, rendered into the namespace ns with the required values and others, without the pod of helm test.
func render(t *testing.T, ns string, args ...string) (objects, string) {
	t.Helper()
	text, err := helm(t, slices.Concat([]string{"template", "kms-agent-injector", chart, "--namespace", ns, "--skip-tests"}, required,
		args)...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, ns, []byte(text)), text
}

// The pod of helm test is admitted wherever the webhook is, and the webhook's Service does not select it.
func TestProbe(t *testing.T) {
	text, err := helm(t, slices.Concat([]string{"template", "kms-agent-injector", chart, "--namespace", "kms", "--show-only",
		"templates/tests/probe.yaml",
		"--set", "image.registry=registry.example.com,image.pullSecrets={pull},nodeSelector.pool=system"}, required)...)
	if err != nil {
		t.Fatal(err)
	}
	pod := only[*corev1.Pod](t, decode(t, "kms", []byte(text)))
	restricted(t, &pod.ObjectMeta, &pod.Spec)
	installed, _ := render(t, "kms", "--set", "image.registry=registry.example.com")
	if selector := only[*corev1.Service](t, installed).Spec.Selector; labels.SelectorFromSet(selector).Matches(labels.Set(pod.Labels)) {
		t.Errorf("the webhook's Service chooses the pod by %v", selector)
	}
	webhook := installed.deployment(listening).Spec.Template.Spec
	if pod.Namespace != "kms" || pod.Spec.ServiceAccountName != webhook.ServiceAccountName ||
		pod.Spec.Containers[0].Image != webhook.Containers[0].Image {
		t.Errorf("the pod is not of the webhook's namespace, ServiceAccount and image:\n%s", text)
	}
	if !reflect.DeepEqual(pod.Spec.ImagePullSecrets, []corev1.LocalObjectReference{{Name: "pull"}}) ||
		pod.Spec.NodeSelector["pool"] != "system" {
		t.Errorf("the pod cannot run where the webhook does:\n%s", text)
	}
}

func TestLint(t *testing.T) {
	if out, err := helm(t, slices.Concat([]string{"lint", "--strict", chart}, required)...); err != nil {
		t.Errorf("%s\n%v", out, err)
	}
}

// GitOps tools render the chart repeatedly and apply differences, so equal values must give equal output. All options are on.
func TestRenderingsAreEqual(t *testing.T) {
	args := []string{"--set", "monitoring.serviceMonitor.enabled=true,monitoring.podMonitor.enabled=true",
		"--set", "monitoring.prometheusRule.enabled=true,monitoring.dashboard.enabled=true,agent.metricsPort=9464",
		"--set", "networkPolicy.enabled=true,networkPolicy.from={10.0.0.0/28}"}
	for _, mode := range []string{"self-signed", "cert-manager"} {
		mode := "certificates.mode=" + mode
		_, first := render(t, "kms", append(args, "--set", mode)...)
		_, again := render(t, "kms", append(args, "--set", mode)...)
		if again != first {
			t.Errorf("%s: two renderings differ:\n%s", mode, cmp.Diff(first, again))
		}
		if _, upgrade := render(t, "kms", append(args, "--set", mode, "--is-upgrade")...); upgrade != first {
			t.Errorf("%s: an upgrade to the same differs from the installation:\n%s", mode, cmp.Diff(first, upgrade))
		}
	}
}

// source matches the comment with which a template begins in Helm's output.
var source = regexp.MustCompile(`(?m)^---\n# Source: kms-agent-injector/templates/(\S+)\n`)

// helmsOwn matches the labels of Helm, which the plain manifests do not have.
var helmsOwn = regexp.MustCompile(`(?m)^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n`)

func TestManifestsAreTheChart(t *testing.T) {
	for _, v := range variants {
		t.Run(v.mode, func(t *testing.T) {
			_, text := render(t, manifestsNamespace, "--set", "certificates.mode="+v.mode)
			want := templates(text)
			if v.dir != manifestsDir {
				maps.Copy(want, derived(t, slices.Sorted(maps.Keys(want))))
			}
			for name, text := range want {
				path := filepath.Join(v.dir, name)
				if *update {
					if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				if got, err := os.ReadFile(path); err != nil || string(got) != text {
					t.Errorf("%s is not what the chart gives now; run make manifests", path)
				}
			}
			for _, name := range readKustomization(t, v.dir).Resources {
				if _, ok := want[name]; !ok && name != "namespace.yaml" {
					t.Errorf("kustomization.yaml lists %s, which the chart does not make", name)
				}
			}
		})
	}
}

// templates splits Helm's output by template file, without Helm's labels and without the webhook's configuration, whose ConfigMap kustomize
// generates.
func templates(text string) map[string]string {
	want := map[string]string{}
	matches := source.FindAllStringSubmatchIndex(text, -1)
	for i, m := range matches {
		end := len(text)
		if i+1 < len(matches) {
			end = matches[i+1][0]
		}
		name, part := text[m[2]:m[3]], strings.TrimSpace(text[m[1]:end])
		if name == "configmap.yaml" {
			continue
		}
		if before, more := want[name]; more {
			part = before + "---\n" + part
		} else {
			part = "# Made from deploy/chart by make manifests; changes are lost.\n" + part
		}
		want[name] = helmsOwn.ReplaceAllString(part+"\n", "")
	}
	return want
}

// resourceLines matches the list of resources in a kustomization.
var resourceLines = regexp.MustCompile(`(?m)^resources:\n(  - .*\n)+`)

// derived are files of another variant that equal those of deploy/manifests, except for the list of resources.
func derived(t *testing.T, resources []string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, name := range []string{"config.yaml", "namespace.yaml", "kustomization.yaml"} {
		text, err := os.ReadFile(filepath.Join(manifestsDir, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = string(text)
	}
	list := "resources:\n  - namespace.yaml\n"
	for _, name := range resources {
		list += "  - " + name + "\n"
	}
	_, body, _ := strings.Cut(files["kustomization.yaml"], "\napiVersion:")
	files["kustomization.yaml"] = "# The webhook without Helm, with a certificate of cert-manager's, which must be in the cluster. Fill in " +
		"config.yaml, then:\n#\n" +
		"#   kubectl apply -k deploy/manifests/cert-manager\n#\n" +
		"# Or write a kustomization over it, as kustomization.yaml in the folder above says. All files here are made by make manifests.\n" +
		resourceLines.ReplaceAllString("apiVersion:"+body, list)
	return files
}

// The configurations of the manifests and of the chart are equal for the same account.
func TestDocumentsMeanTheSame(t *testing.T) {
	o, _ := render(t, "kms")
	fromChart := readConfig(t, o)
	text, err := os.ReadFile("manifests/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fromManifests, err := clusterconfig.Read(filled(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []*clusterconfig.Config{&fromChart, &fromManifests} { // an empty list or map equals none
		in.Agent.MaxLimits, in.Allow.Regions, in.Allow.Endpoints, in.Allow.Identities, in.Namespaces = nil, nil, nil, nil, nil
	}
	if !reflect.DeepEqual(fromChart, fromManifests) {
		t.Errorf("the chart gives\n%+v\nthe manifests give\n%+v", fromChart, fromManifests)
	}
}

func readConfig(t *testing.T, o objects) clusterconfig.Config {
	t.Helper()
	in, err := clusterconfig.Read([]byte(only[*corev1.ConfigMap](t, o).Data["config.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	return in
}
