//go:build chart

package deploy_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

var update = flag.Bool("update", false, "write the manifests anew from the chart")

const chart = "chart/kms-agent-injector"

// required are the values that have no default.
var required = []string{"--set", "accountID=1234567890123456", "--set", "clusterID=c0ffee", "--set", "region=cn-hangzhou"}

// helm runs the pinned Helm and returns what it wrote, and its error with what it said.
func helm(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"tool", "-modfile=../test/tools/helm/go.mod", "helm"}, args...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", errors.New(stderr.String())
	}
	return stdout.String(), nil
}

// render is the chart with the required values and others, installed into the namespace ns.
func render(t *testing.T, ns string, args ...string) (objects, string) {
	t.Helper()
	text, err := helm(t, slices.Concat([]string{"template", "kms-agent-injector", chart, "--namespace", ns}, required, args)...)
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, ns, []byte(text)), text
}

func TestLint(t *testing.T) {
	if out, err := helm(t, slices.Concat([]string{"lint", "--strict", chart}, required)...); err != nil {
		t.Errorf("%s\n%v", out, err)
	}
}

// source finds where a template's part of Helm's output begins.
var source = regexp.MustCompile(`(?m)^---\n# Source: kms-agent-injector/templates/(\S+)\n`)

// helmsOwn are the labels that say who manages an object: not Helm, where it comes out of a file.
var helmsOwn = regexp.MustCompile(`(?m)^ +(helm\.sh/chart|app\.kubernetes\.io/managed-by): .*\n`)

func TestManifestsAreTheChart(t *testing.T) {
	_, text := render(t, manifestsNamespace)
	want := map[string]string{}
	matches := source.FindAllStringSubmatchIndex(text, -1)
	for i, m := range matches {
		end := len(text)
		if i+1 < len(matches) {
			end = matches[i+1][0]
		}
		name, part := text[m[2]:m[3]], strings.TrimSpace(text[m[1]:end])
		if name == "configmap.yaml" { // made of config.yaml by kustomize
			continue
		}
		if before, more := want[name]; more {
			part = before + "---\n" + part
		} else {
			part = "# Made from deploy/chart by make manifests; changes are lost.\n" + part
		}
		want[name] = helmsOwn.ReplaceAllString(part+"\n", "")
	}
	for _, name := range readKustomization(t).Resources {
		if _, ok := want[name]; !ok && name != "namespace.yaml" {
			t.Errorf("kustomization.yaml lists %s, which the chart does not make", name)
		}
	}
	for name, text := range want {
		path := filepath.Join("manifests", name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s is not what the chart gives now; run make manifests", path)
		}
	}
}

// The manifests' document and the chart's, given the same account, mean the same.
func TestDocumentsMeanTheSame(t *testing.T) {
	o, _ := render(t, "kms")
	fromChart := readConfig(t, o)
	text, err := os.ReadFile("manifests/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fromManifests, err := config.ReadInjector(filled(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	for _, in := range []*config.Injector{&fromChart, &fromManifests} { // none and an empty list or map mean the same
		in.Agent.MaxLimits, in.Allow.Regions, in.Allow.Endpoints, in.Allow.Identities, in.Namespaces = nil, nil, nil, nil, nil
	}
	if !reflect.DeepEqual(fromChart, fromManifests) {
		t.Errorf("the chart gives\n%+v\nthe manifests give\n%+v", fromChart, fromManifests)
	}
}

func readConfig(t *testing.T, o objects) config.Injector {
	t.Helper()
	in, err := config.ReadInjector([]byte(only[*corev1.ConfigMap](t, o).Data["config.yaml"]))
	if err != nil {
		t.Fatal(err)
	}
	return in
}
