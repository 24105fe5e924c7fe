//go:build e2e

package e2e

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/docs"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// The commands, policies and manifests of the quickstarts do what they say, with their placeholders filled in: Helm installs the
// webhook instead, and the pod gets the secret by the page's role. The lines of aliyun are not executed: the emulator's own client
// makes a role of the page's two policies, and the secret.
func TestQuickstart(t *testing.T) {
	kustomization := filepath.Join(installDir(), "webhook")
	kubectl(t, "delete", "-k", kustomization, "--timeout=5m")
	defer func() {
		kubectl(t, "apply", "-k", kustomization)
		kubectl(t, "-n", "kms-agent-injector", "rollout", "status", "deployment/kms-webhook", "--timeout=5m")
	}()
	pages, err := docs.Read(repository)
	if err != nil {
		t.Fatal(err)
	}
	page := func(file string) docs.Page {
		return pages[slices.IndexFunc(pages, func(p docs.Page) bool { return p.File == file })]
	}
	t.Run("README.md", func(t *testing.T) { // which begins where there is an application
		r := newReader(t)
		kubectl(t, "create", "namespace", r.namespace)
		kubectl(t, "-n", r.namespace, "create", "serviceaccount", r.serviceAccount)
		r.follow(t, page("README.md"))
		kubectl(t, "-n", r.namespace, "rollout", "status", "deployment/web", "--timeout=5m")
		r.check(t)
	})
	t.Run("docs/quickstart.md", func(t *testing.T) {
		r := newReader(t)
		r.follow(t, page("docs/quickstart.md"))
		r.check(t)
	})
}

// reader follows a quickstart with other names than the page's: none that the emulator knows already.
type reader struct {
	namespace, serviceAccount, role, secret, value string

	fill    *strings.Replacer
	entered map[string]bool
	printed strings.Builder
}

func newReader(t *testing.T) *reader {
	t.Helper()
	id := strings.ToLower(rand.Text()[:8])
	r := &reader{
		namespace: "e2e-" + id, serviceAccount: "reader", role: "reader-" + id, secret: secretName("quick"), value: value(),
		entered: map[string]bool{},
	}
	var discovery struct{ Issuer string }
	if err := json.Unmarshal([]byte(kubectl(t, "get", "--raw", "/.well-known/openid-configuration")), &discovery); err != nil {
		t.Fatal(err)
	}
	r.fill = strings.NewReplacer("<issuer>", discovery.Issuer, "<account>", account, "<cluster id>", "c0ffee",
		"<region>", "cn-hangzhou", "<role>", r.role, "<service account>", r.serviceAccount,
		"<your registry>", "registry.example.com", "<namespace>", r.namespace, "shop/prod/db", r.secret,
		"app/prod/db", r.secret, "<value>", r.value)
	t.Cleanup(func() {
		helm(t, "uninstall", "kms-agent-injector", "--namespace", "kms-agent-injector", "--ignore-not-found", "--wait")
		if !t.Failed() {
			tryKubectl(context.Background(), "", "delete", "namespace", r.namespace, "--wait=false") //nolint:errcheck // it may not be there
		}
	})
	return r
}

// administer makes a role of the page's two policies, and the secret.
func (r *reader) administer(t *testing.T, p docs.Page) {
	t.Helper()
	block := func(note string) string {
		i := slices.IndexFunc(p.Blocks, func(b docs.Block) bool { return b.Note == note })
		if i < 0 {
			t.Fatalf("%s has no policy %q", p.File, note)
		}
		return r.fill.Replace(p.Blocks[i].Text)
	}
	role, err := json.Marshal(emulator.Role{Name: r.role, TrustPolicy: block("trust"), Policies: []string{block("permission")}})
	if err != nil {
		t.Fatal(err)
	}
	cloud(t, string(role), "put-role")
	put(t, r.secret, r.value)
}

// follow makes the page's role, enters its commands and applies its manifests, in their order.
func (r *reader) follow(t *testing.T, p docs.Page) {
	t.Helper()
	r.administer(t, p)
	applied := false
	for _, b := range p.Blocks {
		switch {
		case b.Note == "manifest":
			applied = true
			apply(t, imageOf.ReplaceAllString(r.fill.Replace(b.Text),
				"${1}image: kms-agent-injector/demo-app:dev\n${1}command: [sleep, \"100000\"]\n"))
		case b.Note == "prints":
			if line := docs.Unprinted(r.fill.Replace(b.Text), r.printed.String()); line != "" {
				t.Errorf("%s shows a line that was not printed, or not there: %s\n%s", p.File, line, r.printed.String())
			}
		case b.Language == "sh":
			for _, command := range b.Commands() {
				r.enter(t, command)
			}
		}
	}
	if !r.entered["helm install"] || !applied {
		t.Errorf("%s does not install the chart, or has no manifest", p.File)
	}
}

// enter runs what a person types.
func (r *reader) enter(t *testing.T, command string) {
	t.Helper()
	command = r.fill.Replace(command)
	words := strings.Fields(command)
	r.entered[words[0]+" "+words[1]] = true
	switch words[0] {
	case "make": // TestDemo and TestDemoOnNamedCluster run demo-cluster, a unit test runs demo, and make test runs this
	case "aliyun": // see administer
	case "helm":
		// The images are on the node already, and the emulator's certificate authority is its own.
		helm(t, append(words[1:], "--set", "image.registry=,image.tag=dev,kms.caFile=ca.pem,sts.caFile=ca.pem", "--set-file",
			`caFiles.ca\.pem=`+filepath.Join(installDir(), "webhook", "emulator-ca.pem"), "--wait", "--timeout", "5m")...)
	case "kubectl":
		if words[1] != "kms" {
			r.printed.WriteString(kubectl(t, words[1:]...) + "\n")
			return
		}
		code, out, errs := plugin(t, "", words[2:]...)
		if code != 0 {
			t.Errorf("%s: exit code %d\n%s%s", command, code, out, errs)
		}
		r.printed.WriteString(out)
	default:
		t.Fatalf("a quickstart has a command that this test does not know: %s", command)
	}
}

// check looks whether the container web of the Deployment has the secret's value, and got it by the reader's role.
func (r *reader) check(t *testing.T) {
	t.Helper()
	if got := kubectl(t, "-n", r.namespace, "exec", "deploy/web", "-c", "web", "--", "cat", dir+"/db"); got != r.value {
		t.Error("the file does not hold the secret's value")
	}
	var counts emulator.CallCounts
	if err := json.Unmarshal([]byte(cloud(t, "", "calls", "-o", "json")), &counts); err != nil {
		t.Fatal(err)
	}
	if counts.Sum(emulator.Call{Action: "*GetSecretValue", Secret: r.secret, Role: "acs:ram::" + account + ":role/" + r.role,
		Code: emulator.CodeOK}) == 0 {
		t.Errorf("no call read %s by the role %s: %v", r.secret, r.role, counts)
	}
}
