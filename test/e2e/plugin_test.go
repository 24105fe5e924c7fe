//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	k8syaml "sigs.k8s.io/yaml"
)

var apiAccess = regexp.MustCompile(`kube-api-access-[a-z0-9]{5}`)

// buildPlugin is done once.
var buildPlugin = sync.OnceValues(func() (string, error) {
	path := filepath.Join(repository, "bin", "kubectl-kms")
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", path, "./cmd/kubectl-kms")
	cmd.Dir, cmd.Env = repository, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build kubectl-kms: %w\n%s", err, out)
	}
	return path, nil
})

// plugin runs kubectl kms and returns its exit code and what it printed.
func plugin(t testing.TB, stdin string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	path, err := buildPlugin()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), kubectlPath, append([]string{"kms"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+kubeconfig, "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"))
	cmd.Stdin = strings.NewReader(stdin)
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// What inject prints is what the cluster makes of the pod, after the API server's defaults.
func TestPluginInject(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	for name, w := range map[string]workload{
		"plain": {annotations: []string{"inject: true", "secret.db: e2e/db"}, podSecurity: "runAsUser: 2000"},
		"rich": {annotations: []string{"inject: true", "secret.db: {name: e2e/db, format: env}", "env.PASSWORD: e2e/db#password", "api: true",
			"app-identity: true", "init-position: last"}, containers: container("one") + container("two")},
		"init": {annotations: []string{"inject: true", "secret.db: e2e/db", "mode: init", "mount-path: /etc/app"},
			podSecurity: "fsGroup: 3000"},
		"refused": {annotations: []string{"inject: true", "secret.db: e2e/db", "containers: none"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.name = name
			code, injected, stderr := plugin(t, w.pod(ns), "inject", "-f", "-")
			if name == "refused" {
				if said := refused(t, w.pod(ns)); code != 1 || injected != "" || !strings.Contains(said, "there is no container none") ||
					!strings.Contains(stderr, "there is no container none") {
					t.Errorf("%d, the cluster says %s, the plugin %s", code, said, stderr)
				}
				return
			}
			if code != 0 {
				t.Fatal(stderr)
			}
			cluster, plugin := stored(t, w.pod(ns)), stored(t, injected)
			if !reflect.DeepEqual(cluster, plugin) {
				t.Errorf("the cluster makes\n%s\nand the plugin\n%s", encoded(t, cluster), encoded(t, plugin))
			}
		})
	}
}

// stored is what the API server would store, without what is another each time.
func stored(t *testing.T, manifest string) map[string]any {
	t.Helper()
	out, err := tryKubectl(t.Context(), manifest, "create", "--dry-run=server", "-o", "json", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	var pod map[string]any
	if err := json.Unmarshal([]byte(out), &pod); err != nil {
		t.Fatal(err)
	}
	meta := pod["metadata"].(map[string]any)
	for _, field := range []string{"uid", "creationTimestamp", "managedFields"} {
		delete(meta, field)
	}
	// The ServiceAccount's own token has a random name, and its index depends on the order of the admission plugins.
	var spec any
	text, err := json.Marshal(pod["spec"])
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(apiAccess.ReplaceAll(text, []byte("kube-api-access")), &spec); err != nil {
		t.Fatal(err)
	}
	pod["spec"] = spec
	sortNamed(spec.(map[string]any), "volumes")
	for _, list := range []string{"initContainers", "containers"} {
		for _, c := range spec.(map[string]any)[list].([]any) {
			sortNamed(c.(map[string]any), "volumeMounts")
		}
	}
	return pod
}

func sortNamed(of map[string]any, list string) {
	items, _ := of[list].([]any)
	slices.SortStableFunc(items, func(a, b any) int {
		return strings.Compare(fmt.Sprint(a.(map[string]any)["name"], a.(map[string]any)["mountPath"]),
			fmt.Sprint(b.(map[string]any)["name"], b.(map[string]any)["mountPath"]))
	})
}

func encoded(t *testing.T, value any) string {
	t.Helper()
	text, err := k8syaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// validate holds manifests to the administrator's policy and the ServiceAccounts of the cluster.
func TestPluginValidate(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	right := workload{name: "web", annotations: []string{"inject: true", "secret.db: e2e/db"}, podSecurity: "runAsUser: 2000"}
	for name, c := range map[string]struct {
		change func(*workload)
		code   int
		says   string
	}{
		"right":        {func(*workload) {}, 0, "(policy: the cluster's): 0 mistakes, 0 warnings"},
		"typing error": {func(w *workload) { w.annotations[1] = "secrt.db: e2e/db" }, 1, "did you mean kms.alibabacloud.com/secret.db?"},
		"policy": {func(w *workload) { w.annotations = append(w.annotations, "identity: node-role") }, 1,
			"does not allow the identity"},
		"no such account": {func(w *workload) { w.serviceAccount = "missing" }, 1, "ServiceAccount " + ns +
			"/missing, with which the pod runs, does not exist"},
		"account of no role": {func(w *workload) { w.serviceAccount = "default" }, 1, "no RAM role is set for ServiceAccount " + ns + "/default"},
	} {
		w := right
		w.annotations = slices.Clone(right.annotations)
		c.change(&w)
		code, stdout, stderr := plugin(t, w.pod(ns), "validate", "-f", "-")
		if code != c.code || !strings.Contains(stdout, c.says) {
			t.Errorf("%s: exit code %d: %s%s", name, code, stdout, stderr)
		}
	}
	if code, _, stderr := plugin(t, "", "validate", "-f", "/nowhere.yaml"); code != 2 {
		t.Errorf("a file that does not exist: exit code %d: %s", code, stderr)
	}
}

// The plugin is installed as its page says, and a shell completes what it takes.
func TestPluginIsInstalled(t *testing.T) {
	t.Parallel()
	install := regexp.MustCompile("`(CGO_ENABLED=0 go build -o ~/.local/bin/kubectl-kms [^`]+)`").FindStringSubmatch(
		page(t, "docs/kubectl-kms.md").Text)
	if install == nil {
		t.Fatal("docs/kubectl-kms.md does not say how the plugin is installed")
	}
	home := t.TempDir()
	bin := filepath.Join(home, ".local", "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	environment := append(os.Environ(), "HOME="+home, "KUBECONFIG="+kubeconfig,
		"PATH="+bin+":"+filepath.Dir(kubectlPath)+":"+os.Getenv("PATH"))
	entered := func(command string, more ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", command)
		cmd.Dir, cmd.Env = repository, append(environment, more...)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, &stderr)
		}
		return string(out)
	}
	entered(install[1], "GOPATH="+goEnv(t, "GOPATH"), "GOCACHE="+goEnv(t, "GOCACHE"), "GOFLAGS=-buildvcs=false")

	entered("ln -s kubectl-kms ~/.local/bin/kubectl_complete-kms") // as the page says
	ns := namespace(t)
	apply(t, workload{name: "completed"}.pod(ns))
	for typed, want := range map[string]string{
		"kms d":                       "doctor\t",
		"kms explain refresh":         "refresh-interval\t",
		"kms doctor -n " + ns + " ''": "completed\n",
		"kms status -o ''":            "yaml",
	} {
		if got := entered("kubectl __complete " + typed); !strings.Contains(got, want) {
			t.Errorf("kubectl %s completes to\n%s\nwant %q", typed, got, want)
		}
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// status knows which version a pod has, and sees it change.
func TestPluginStatus(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("status")
	put(t, name, value())
	apply(t, workload{name: "web", annotations: []string{"inject: true", "secret.db: " + name, "refresh-interval: 10s", "api: true"}}.pod(ns))
	apply(t, workload{name: "once", annotations: []string{"inject: true", "secret.db: " + name, "mode: init"}}.pod(ns))
	apply(t, workload{name: "broken", serviceAccount: "app",
		annotations: []string{"inject: true", "secret.db: " + name + "/none", "mode: init"}}.pod(ns))
	ready(t, ns, "web")
	ready(t, ns, "once")
	whyNot(t, ns, "broken")
	first := pods(t, ns)
	for pod, want := range map[string]string{"web": "fresh", "once": "at start", "broken": "failing"} {
		p := first[pod]
		if p.State != want || p.RoleARN != role || p.Injected == "" || len(p.Secrets) != 1 || want != "failing" && p.Secrets[0].Version == "" {
			t.Errorf("%s: %+v", pod, p)
		}
	}
	if p := first["broken"]; !strings.Contains(p.Problem, "Forbidden.ResourceNotFound") {
		t.Errorf("broken: %q", p.Problem)
	}
	rotate(t, name, value())
	eventually(t, patience, func() error {
		now := pods(t, ns)
		if now["web"].Secrets[0].Version == first["web"].Secrets[0].Version {
			return errNotYet
		}
		if now["once"].Secrets[0].Version != first["once"].Secrets[0].Version {
			t.Fatal("a pod of mode init cannot have another version than the one that it started with")
		}
		return nil
	})
	var listed []podLine
	code, text, stderr := plugin(t, "", "status", "-n", ns, "web", "-o", "yaml")
	if err := k8syaml.Unmarshal([]byte(text), &listed); err != nil || code != 0 || !strings.HasPrefix(text, "- ") || len(listed) != 1 ||
		!reflect.DeepEqual(listed[0], pods(t, ns)["web"]) {
		t.Errorf("%d %v %s in YAML:\n%s", code, err, stderr, text)
	}
	_, table, _ := plugin(t, "", "status", "-n", ns)
	for _, want := range []string{"POD ", "\nweb ", "sidecar", "127.0.0.1:2025", "fresh", " ago", name + "@", "\nonce ",
		"/broken is failing:"} {
		if !strings.Contains(table, want) {
			t.Errorf("the table is without %q:\n%s", want, table)
		}
	}
}

type podLine struct {
	Name, Injected, RoleARN, State, Problem string
	Secrets                                 []struct{ Name, Version string }
	LastError                               *struct{ Attempts int }
}

func pods(t *testing.T, ns string) map[string]podLine {
	t.Helper()
	code, stdout, stderr := plugin(t, "", "status", "-n", ns, "-o", "json")
	var list []podLine
	if err := json.Unmarshal([]byte(stdout), &list); err != nil || code > 1 {
		t.Fatalf("%d %v %s%s", code, err, stdout, stderr)
	}
	byName := map[string]podLine{}
	for _, p := range list {
		byName[p.Name] = p
	}
	return byName
}

// A user with the role view sees what the API server shows, and doctor calls nothing of a healthy pod broken.
func TestPluginOfViewers(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("viewers")
	put(t, name, value())
	apply(t, workload{name: "web", annotations: []string{"inject: true", "secret.db: " + name}, podSecurity: "runAsUser: 2000"}.pod(ns))
	ready(t, ns, "web")
	kubectl(t, "-n", ns, "create", "rolebinding", "viewer", "--clusterrole=view", "--user=viewer")
	const silent = "the agent cannot be asked: you are not allowed to create pods/exec in namespace "
	code, stdout, stderr := plugin(t, "", "status", "-n", ns, "--as", "viewer")
	if code != 2 || !strings.Contains(stdout, "\nweb ") || !strings.Contains(stdout, name+"@v1") ||
		!strings.HasSuffix(stdout, "/web is unknown:\n  "+silent+ns+"; the pod is ready, and started with these versions\n") {
		t.Errorf("status: %d %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = plugin(t, "", "doctor", "-n", ns, "web", "--as", "viewer")
	for _, want := range []string{"? webhook ", "? configuration the webhook's configuration could not be read", "✓ injection ",
		"assumes " + role + "\n", "? sts           " + silent + ns} {
		if code != 2 || !strings.Contains(stdout, want) || strings.Contains(stdout, "✗") {
			t.Errorf("doctor: %d, want %q:\n%s%s", code, want, stdout, stderr)
		}
	}
}
