//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

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
			command = fmt.Sprintf(`(printf 'GET /secretsmanager/get?secretId=%s/db HTTP/1.0\r\nX-KMS-Token:%%s\r\n\r\n' "$(cat /var/run/kmstoken/token)"; sleep 1) | nc 127.0.0.1 2025`, prefix)
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
