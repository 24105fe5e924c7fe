//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/docs"
)

// The demo ends well, and the README shows what it prints.
func TestDemo(t *testing.T) {
	var transcript bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "make", "demo")
	cmd.Dir = repository
	cmd.Env = os.Environ()
	if own != nil {
		cmd.Env = append(cmd.Env, "CLUSTER_DIR="+own.Dir())
	}
	cmd.Stdout = io.MultiWriter(&transcript, os.Stdout)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	printed := strings.Split(normal(transcript.String()), "\n")
	shown := strings.Split(normal(section(t, "demo")), "\n")
	if len(shown) < 20 {
		t.Fatalf("the README shows only %d lines of the demo", len(shown))
	}
	for _, line := range shown {
		line = strings.TrimSpace(line)
		if line == "" || line == "…" || strings.HasPrefix(line, "```") {
			continue
		}
		next := 0
		for next < len(printed) && !strings.Contains(printed[next], line) {
			next++
		}
		if next == len(printed) {
			t.Fatalf("the README shows a line that the demo did not print (there): %q", line)
		}
		printed = printed[next+1:]
	}
}

// The steps of make test that the README shows are those of its script.
func TestReadmeSteps(t *testing.T) {
	script, err := os.ReadFile(filepath.Join(repository, "test/run.sh"))
	if err != nil {
		t.Fatal(err)
	}
	steps := regexp.MustCompile(`(?m)^\[ *[0-9.]+s\] (.*)$`).FindAllStringSubmatch(section(t, "test"), -1)
	if len(steps) < 6 {
		t.Fatalf("the README shows only %d steps of make test", len(steps))
	}
	for _, s := range steps {
		if !strings.Contains(string(script), `step "`+s[1]+`"`) {
			t.Errorf("the README shows a step that make test does not have: %s", s[1])
		}
	}
}

// The commands of the quickstarts do what they say, with their placeholders filled in: the webhook is installed by Helm instead,
// and injects.
func TestQuickstart(t *testing.T) {
	kustomization := filepath.Join(installDir(), "webhook")
	kubectl(t, "delete", "-k", kustomization, "--timeout=60s")
	defer func() {
		kubectl(t, "apply", "-k", kustomization)
		kubectl(t, "-n", "kms-agent-injector", "rollout", "status", "deployment/kms-webhook", "--timeout=120s")
	}()
	pages, err := docs.Read(repository)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		switch p.File {
		case "README.md":
			t.Run(p.File, func(t *testing.T) {
				ns := namespace(t)
				kubectl(t, "label", "namespace", ns, "kms.alibabacloud.com/injection-")
				name, want := secretName("quick"), value()
				put(t, name, want)
				follow(t, p, ns, name)
				apply(t, workload{name: "web", annotations: []string{"inject: true", "secret.db: " + name}}.pod(ns))
				ready(t, ns, "web")
				if got := in(t, ns, "web", "app", "cat", dir+"/db"); got != want {
					t.Error("the file does not hold the secret's value")
				}
			})
		case "docs/quickstart.md":
			t.Run(p.File, func(t *testing.T) {
				ns := "e2e-" + strings.ToLower(rand.Text()[:8])
				defer tryKubectl(context.Background(), "", "delete", "namespace", ns, "--wait=false") //nolint:errcheck // it may not be there
				name, want := secretName("quick"), value()
				put(t, name, want)
				follow(t, p, ns, name)
				if got := kubectl(t, "-n", ns, "exec", "deploy/web", "-c", "web", "--", "cat", dir+"/db"); got != want {
					t.Error("the file does not hold the secret's value")
				}
			})
		}
	}
}

// follow does what a quickstart says, in its order, and removes the chart's release at the end.
func follow(t *testing.T, p docs.Page, ns, secret string) {
	t.Helper()
	t.Cleanup(func() {
		helm(t, "uninstall", "kms-agent-injector", "--namespace", "kms-agent-injector", "--ignore-not-found", "--wait")
	})
	fill := strings.NewReplacer("<account>", account, "<cluster id>", "c0ffee", "<region>", "cn-hangzhou", "<role>", "e2e",
		"<service account>", "app", "<your registry>", "registry.example.com", "<namespace>", ns, "shop/prod/db", secret)
	ran := map[string]bool{}
	for _, b := range p.Blocks {
		switch {
		case b.Note == "manifest":
			apply(t, imageOf.ReplaceAllString(fill.Replace(b.Text), "${1}image: kms-agent-injector/demo-app:dev\n${1}command: [sleep, \"100000\"]\n"))
		case b.Language == "sh":
			for _, command := range b.Commands() {
				words := strings.Fields(fill.Replace(command))
				ran[words[0]+" "+words[1]] = true
				typed(t, words)
			}
		}
	}
	if !ran["helm install"] {
		t.Errorf("%s does not install the chart", p.File)
	}
}

// typed runs what a person types.
func typed(t *testing.T, words []string) {
	t.Helper()
	switch words[0] {
	case "make": // make demo is TestDemo; make test runs this
	case "helm":
		// The images are on the node already, and the emulator's certificate authority is its own.
		helm(t, append(words[1:], "--set", "image.registry=,image.tag=dev,kms.caFile=ca.pem,sts.caFile=ca.pem", "--set-file",
			`caFiles.ca\.pem=`+filepath.Join(installDir(), "webhook", "emulator-ca.pem"), "--wait", "--timeout", "120s")...)
	case "kubectl":
		kubectl(t, words[1:]...)
	default:
		t.Fatalf("a quickstart has a command that this test does not know: %s", strings.Join(words, " "))
	}
}

func helm(t *testing.T, args ...string) {
	t.Helper()
	// Not the test's context: it is used for cleaning up too.
	cmd := exec.Command(filepath.Join(repository, "test/tools/run.sh"), append([]string{"helm"}, args...)...)
	cmd.Dir = repository
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("helm %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func section(t *testing.T, name string) string {
	t.Helper()
	_, rest, found := strings.Cut(readme(t), "<!-- "+name+" -->\n")
	text, _, closed := strings.Cut(rest, "<!-- /"+name+" -->")
	if !found || !closed {
		t.Fatalf("README.md has no section %q", name)
	}
	return strings.TrimSpace(text)
}

var differs = regexp.MustCompile(`\[ *[0-9.]+s\]|-[a-z0-9]{6,10}-[a-z0-9]{5}\b|[0-9A-F]{8}-[0-9A-F-]+|\b([0-9]+[dhms])+\b|[0-9]+(\.[0-9]+)?|[ \t]+`)

// normal leaves out of a transcript what is different each time: times, numbers, names of pods, ids of requests.
func normal(text string) string {
	return differs.ReplaceAllStringFunc(text, func(s string) string {
		if strings.TrimSpace(s) == "" {
			return " "
		}
		return "#"
	})
}
