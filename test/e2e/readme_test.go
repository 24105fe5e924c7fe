//go:build e2e

package e2e

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
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

// The commands of the quickstart do what it says, with its placeholders filled in.
func TestQuickstart(t *testing.T) {
	ns := namespace(t)
	kubectl(t, "label", "namespace", ns, "kms.alibabacloud.com/injection-")
	fill := strings.NewReplacer("<account>", account, "<cluster id>", "c0ffee", "<region>", "cn-hangzhou", "<role>", "e2e",
		"<service account>", "app", "<your registry>", "registry.example.com", "<namespace>", ns, "\\\n", " ")
	ran := map[string]bool{}
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(readme(t), -1) {
		for line := range strings.Lines(fill.Replace(block[1])) {
			words := strings.Fields(line)
			if len(words) == 0 || words[0] == "make" { // make demo is TestDemo; make test runs this
				continue
			}
			name := words[0] + " " + words[1]
			cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
			if words[0] == "helm" {
				// The webhook is installed already. The server checks the objects as it would to install them.
				cmd = exec.CommandContext(t.Context(), filepath.Join(repository, "test/tools/run.sh"), append(words, "--dry-run=server")...)
			}
			cmd.Dir = repository
			cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "PATH="+filepath.Dir(kubectlPath)+":"+os.Getenv("PATH"))
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
			ran[name] = true
		}
	}
	for _, name := range []string{"helm install", "kubectl label", "kubectl annotate"} {
		if !ran[name] {
			t.Errorf("the README's quickstart has no %q", name)
		}
	}
	if got := kubectl(t, "get", "namespace", ns, "-o", "jsonpath={.metadata.labels.kms\\.alibabacloud\\.com/injection}"); got != "enabled" {
		t.Errorf("the namespace's label: %q", got)
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

var differs = regexp.MustCompile(`-[a-z0-9]{6,10}-[a-z0-9]{5}\b|[0-9A-F]{8}-[0-9A-F-]+|[0-9]+(\.[0-9]+)?|[ \t]+`)

// normal leaves out of a transcript what is different each time: times, numbers, names of pods, ids of requests.
func normal(text string) string {
	return differs.ReplaceAllStringFunc(text, func(s string) string {
		if strings.TrimSpace(s) == "" {
			return " "
		}
		return "#"
	})
}
