//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/test/docs"
)

// The manifests that the migration pages end with do what those say: "after: …" above one of them names the files, the variables
// or the local API that its container then has.
func TestMigrations(t *testing.T) {
	t.Parallel()
	pages, err := docs.Read(repository)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pages {
		found := false
		for _, b := range p.Blocks {
			promises, after := strings.CutPrefix(b.Note, "after: ")
			if !after {
				continue
			}
			found = true
			t.Run(p.File, func(t *testing.T) {
				t.Parallel()
				migrated(t, b.Text, strings.Fields(promises))
			})
		}
		if !found && strings.HasPrefix(p.File, "docs/migrate/") {
			t.Errorf("%s ends with no manifest", p.File)
		}
	}
}

var (
	secretOf = regexp.MustCompile(`\b(shop/prod|app/dev)/([a-z-]+)`)
	imageOf  = regexp.MustCompile(`(?m)^( +)image: .*\n( +command: .*\n)?`)
)

func migrated(t *testing.T, manifest string, promises []string) {
	ns := namespace(t)
	kubectl(t, "label", "namespace", ns, "pod-security.kubernetes.io/enforce-") // the pages leave out what does not matter there
	want, prefix := value(), secretName("docs")
	secrets := map[string]bool{"db": true}
	for _, m := range secretOf.FindAllStringSubmatch(manifest, -1) {
		secrets[m[2]] = true
	}
	for name := range secrets {
		put(t, prefix+"/"+name, fmt.Sprintf(`{"AccountName":"web","AccountPassword":%q}`, want))
	}
	manifest = secretOf.ReplaceAllString(manifest, prefix+"/$2")
	manifest = strings.ReplaceAll(manifest, "app/dev/*", prefix+"/*")
	manifest = imageOf.ReplaceAllString(manifest, "${1}image: kms-agent-injector/demo-app:dev\n${1}command: [sleep, \"100000\"]\n")
	manifest = regexp.MustCompile(`(?m)^( +serviceAccountName:) .*$`).ReplaceAllString(manifest, "$1 app")
	manifest = regexp.MustCompile(`(?m)^( +namespace:) .*$`).ReplaceAllString(manifest, "$1 "+ns)
	apply(t, manifest)
	deployment := "deploy/" + regexp.MustCompile(`(?m)^  name: (.*)$`).FindStringSubmatch(manifest)[1]
	kubectl(t, "-n", ns, "rollout", "status", deployment, "--timeout=5m")
	for _, promise := range promises {
		command := "cat " + promise
		switch {
		case promise == "api":
			command = fmt.Sprintf(`(printf 'GET /secretsmanager/get?secretId=%s/db HTTP/1.0\r\nX-KMS-Token:%%s\r\n\r\n' `+
				`"$(cat /var/run/kmstoken/token)"; sleep 1) | nc 127.0.0.1 2025`, prefix)
		case !strings.HasPrefix(promise, "/"):
			command = "tr '\\0' '\\n' </proc/1/environ | grep ^" + promise + "="
		}
		eventually(t, patience, func() error { // a client that has closed its side before it is answered is cut off
			if got := kubectl(t, "-n", ns, "exec", deployment, "--", "sh", "-c", command); !strings.Contains(got, want) {
				return fmt.Errorf("%s does not hold the secret's value", promise)
			}
			return nil
		})
	}
}

// The examples of kinds that every Kubernetes has start, with other images and secrets.
func TestExamples(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(repository, "docs/examples/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	started := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !builtIn.Match(text) {
			continue
		}
		started++
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			exampleStarts(t, string(text))
		})
	}
	if started < 7 {
		t.Errorf("found %d examples", started)
	}
}

var (
	builtIn     = regexp.MustCompile(`(?m)^kind: (Deployment|StatefulSet|Job|CronJob)$`)
	nameOf      = regexp.MustCompile(`app/prod/([a-z-]+)`)
	programOf   = regexp.MustCompile(`(?m)^( +)image: .*\n( +(?:command|args): .*\n)?`)
	accountOf   = regexp.MustCompile(`(?s)^(#.*?)?apiVersion: v1\nkind: ServiceAccount.*?\n---\n`)
	serviceOf   = regexp.MustCompile(`(?m)^( +serviceAccountName:) .*$`)
	namespaceOf = regexp.MustCompile(`(?m)^( +namespace:) .*$`)
	claimsOf    = regexp.MustCompile(`(?s)  volumeClaimTemplates:.*`)
)

// exampleStarts applies an example to a namespace of its own, and waits until its pod has its files and its program runs.
func exampleStarts(t *testing.T, manifest string) {
	ns := namespace(t)
	kubectl(t, "label", "namespace", ns, "pod-security.kubernetes.io/enforce-") // the examples leave out what does not matter here
	want, prefix := value(), secretName("examples")
	for _, m := range nameOf.FindAllStringSubmatch(manifest, -1) {
		put(t, prefix+"/"+m[1], fmt.Sprintf(`{"AccountName":"web","AccountPassword":%q,"crt":%q,"key":%q}`, want, want, want))
	}
	manifest = accountOf.ReplaceAllString(manifest, "") // the namespace has its own, whose role exists
	manifest = serviceOf.ReplaceAllString(manifest, "$1 app")
	manifest = namespaceOf.ReplaceAllString(manifest, "$1 "+ns)
	manifest = nameOf.ReplaceAllString(manifest, prefix+"/$1")
	manifest = programOf.ReplaceAllString(manifest, "${1}image: kms-agent-injector/demo-app:dev\n${1}command: [sleep, \"100000\"]\n")
	manifest = claimsOf.ReplaceAllString(manifest, "      volumes: [{name: data, emptyDir: {}}]\n") // the test cluster has no disks
	apply(t, manifest)
	if name := regexp.MustCompile(`(?s)kind: CronJob\nmetadata:\n  name: (\w+)`).FindStringSubmatch(manifest); name != nil {
		kubectl(t, "-n", ns, "create", "job", "now", "--from=cronjob/"+name[1])
	}
	eventually(t, patience, func() error {
		var pods corev1.PodList
		if err := json.Unmarshal([]byte(kubectl(t, "-n", ns, "get", "pods", "-o", "json")), &pods); err != nil {
			return err
		}
		if len(pods.Items) == 0 {
			return errNotYet
		}
		for _, pod := range pods.Items {
			if !podReady(&pod) {
				return fmt.Errorf("pod %s is not ready", pod.Name)
			}
			app := pod.Spec.Containers[0].Name
			look := "cat /var/run/kms/secrets/* /proc/1/environ"
			if got, _ := tryKubectl(t.Context(), "", "-n", ns, "exec", pod.Name, "-c", app, "--", "sh", "-c", look); !strings.Contains(got, want) {
				return fmt.Errorf("container %s of pod %s has neither a file nor a variable with the value", app, pod.Name)
			}
		}
		return nil
	})
}
