//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/docs"
)

// The demo ends well on the project's own cluster, and its page shows what it prints.
func TestDemo(t *testing.T) {
	if own == nil {
		t.Skip("is on the project's own cluster; TestDemoOnNamedCluster is on any")
	}
	printed, err := demo(t, "CLUSTER_DIR="+own.dir)
	removeSync(t)
	if err != nil {
		t.Fatal(err)
	}
	transcript := page(t, "docs/demo-cluster.md").Section("demo")
	if n := strings.Count(transcript, "\n"); n < 20 {
		t.Errorf("the page shows only %d lines of the demo", n)
	}
	if line := docs.Unprinted(transcript, printed); line != "" {
		t.Errorf("docs/demo-cluster.md shows a line that the demo did not print (there): %q", line)
	}
}

// The demo ends well on a cluster that is named for it, whatever KUBECONFIG says, and leaves alone what is not its own.
func TestDemoOnNamedCluster(t *testing.T) {
	dir := t.TempDir()
	loaded, loader := filepath.Join(dir, "loaded"), filepath.Join(dir, "load")
	load := ":"
	if own != nil {
		load = fmt.Sprintf(`CLUSTER_DIR=%q %q load "$1"`, own.dir, own.program)
		defer func() { // the demo's webhook calls its emulator by another name
			for _, part := range []string{"emulator", "webhook"} {
				kubectl(t, "apply", "-k", filepath.Join(installDir(), part))
			}
			scale := []string{"-n", "kms-agent-injector", "scale", "deployment/kms-webhook", "--replicas"} // as install.sh does
			kubectl(t, append(scale, "0")...)
			kubectl(t, "-n", "kms-agent-injector", "wait", "--for=delete", "pod", "-l", "app.kubernetes.io/component=webhook",
				"--timeout=2m")
			kubectl(t, append(scale, "2")...)
			kubectl(t, "-n", "kms-emulator", "rollout", "status", "deployment/kms-emulator", "--timeout=5m")
			kubectl(t, "-n", "kms-agent-injector", "rollout", "status", "deployment/kms-webhook", "--timeout=5m")
		}()
	}
	script := fmt.Sprintf("#!/bin/sh -e\necho \"$1\" >>%q\n%s\n", loaded, load)
	if err := os.WriteFile(loader, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	env := []string{"DEMO_KUBECONFIG=" + kubeconfig, "LOAD_IMAGES=" + loader, "KUBECONFIG=" + filepath.Join(dir, "none"),
		"PATH=" + filepath.Dir(kubectlPath) + ":" + os.Getenv("PATH")}

	kubectl(t, "delete", "namespace", "--field-selector=metadata.name=shop", "-l", "kms-agent-injector/demo=true")
	kubectl(t, "create", "namespace", "shop")
	kubectl(t, "-n", "shop", "create", "configmap", "not-the-demos")
	if printed, err := demo(t, env...); err == nil ||
		!strings.Contains(printed, "namespace/shop without the label kms-agent-injector/demo=true") {
		t.Errorf("a namespace that is not the demo's was not refused: %v", err)
	}
	kubectl(t, "-n", "shop", "get", "configmap", "not-the-demos")
	kubectl(t, "delete", "namespace", "shop")

	printed, err := demo(t, env...)
	if err != nil {
		t.Fatal(err)
	}
	archives, err := os.ReadFile(loaded)
	if err != nil {
		t.Fatal(err)
	}
	for _, image := range []string{"kms-webhook", "kms-agent", "kms-sync", "kms-emulator", "demo-app"} {
		if !strings.Contains(string(archives), "/"+image+".tar\n") {
			t.Errorf("the image %s was not loaded:\n%s", image, archives)
		}
	}
	if !strings.Contains(printed, "\nexternalsecret.alibabacloud.com/license condition met\n") {
		t.Error("the demo left kms-sync out")
	}
	if own == nil {
		removeSync(t)
		return // the other tests need what else would be removed
	}
	remove := regexp.MustCompile(`(?m)^Remove it:  kubectl (delete -l \S+ (\S+))$`).FindStringSubmatch(printed)
	if remove == nil {
		t.Fatal("the demo does not say how it is removed")
	}
	kubectl(t, strings.Fields(remove[1])...)
	there := kubectl(t, "get", remove[2], "-o", "name")
	if left := regexp.MustCompile(`\S+/(kms-\S+|shop|\S+\.alibabacloud\.com)`).FindAllString(there, -1); left != nil {
		t.Errorf("it leaves %s", left)
	}
}

// removeSync removes the demo's kms-sync: TestSync has one of its own.
func removeSync(t *testing.T) {
	t.Helper()
	helm(t, "uninstall", "kms-sync", "--namespace", "kms-sync", "--ignore-not-found", "--wait")
	kubectl(t, "delete", "customresourcedefinitions", "-l", "kms-agent-injector/demo=true")
	kubectl(t, "delete", "namespace", "kms-sync", "--ignore-not-found")
}

// demo runs make demo-cluster and returns what it printed.
func demo(t *testing.T, env ...string) (string, error) {
	t.Helper()
	var printed bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "make", "demo-cluster")
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout = io.MultiWriter(&printed, os.Stdout)
	cmd.Stderr = cmd.Stdout
	err := cmd.Run()
	return printed.String(), err
}

// The steps of make test that its page shows are those of its script.
func TestSteps(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(repository, "test/run.sh"))
	if err != nil {
		t.Fatal(err)
	}
	steps := regexp.MustCompile(`(?m)^\[ *[0-9.]+s\] (.*)$`).FindAllStringSubmatch(page(t, "docs/development.md").Section("test"), -1)
	if len(steps) < 6 {
		t.Fatalf("the page shows only %d steps of make test", len(steps))
	}
	for _, s := range steps {
		if !strings.Contains(string(script), `"`+s[1]+`"`) {
			t.Errorf("the page shows a step that make test does not have: %s", s[1])
		}
	}
}

func page(t *testing.T, file string) docs.Page {
	t.Helper()
	pages, err := docs.Read(repository)
	if err != nil {
		t.Fatal(err)
	}
	return pages[slices.IndexFunc(pages, func(p docs.Page) bool { return p.File == file })]
}
