//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A night is the table of what each tool says of each thing that breaks.
type night struct {
	mu   sync.Mutex
	rows []nightRow
}

// A nightRow is one thing that is broken, and what each tool must say of it: one of the words between ||, or not the one after !.
type nightRow struct {
	name                        string
	ns, target                  string // of doctor
	describe, status, sees, log []string
	said                        [4]string // the cells: what was found
	code                        [2]int    // of status and doctor; -1: any
}

// look asks all tools until each says what it must.
func (n *night) look(t *testing.T, r nightRow) {
	t.Helper()
	pod := r.target[strings.LastIndex(r.target, "/")+1:]
	tell := func(args ...string) string {
		out, _ := tryKubectl(t.Context(), "", append([]string{"-n", r.ns}, args...)...)
		return out
	}
	texts := [4]string{}
	eventually(t, patience, func() error {
		var codes [2]int
		texts[0] = tell("describe", "pods", "-l", "app="+pod) + tell("get", "events", "-o", "custom-columns=:.message")
		codes[0], texts[1], _ = plugin(t, "", "status", "-n", r.ns)
		codes[1], texts[2], _ = plugin(t, "", "doctor", "-n", r.ns, r.target)
		texts[3] = tell("logs", "-l", "app="+pod, "-c", "kms-agent", "--tail=50") +
			tell("logs", "-l", "app="+pod, "-c", "kms-agent-init", "--tail=50")
		for i, words := range [][]string{r.describe, r.status, r.sees, r.log} {
			r.said[i] = ""
			for _, word := range words {
				without, no := strings.CutPrefix(word, "!")
				line := lineOf(texts[i], strings.Split(without, "||"))
				if (line != "") == no {
					return fmt.Errorf("%s: want %q:\n%s", r.name, word, texts[i])
				}
				if !strings.Contains(r.said[i], line) {
					r.said[i] = strings.TrimPrefix(r.said[i]+" … "+line, " … ")
				}
			}
		}
		for i, want := range r.code {
			if want >= 0 && codes[i] != want {
				return fmt.Errorf("%s: exit codes %v, want %v:\n%s\n%s", r.name, codes, r.code, texts[1], texts[2])
			}
		}
		for _, text := range texts[1:3] {
			if strings.Contains(text, "<invalid>") || strings.Contains(text, "state.json") || strings.Contains(text, "report.json") {
				t.Errorf("%s: it says something useless:\n%s", r.name, text)
			}
		}
		return nil
	})
	n.mu.Lock()
	defer n.mu.Unlock()
	n.rows = append(n.rows, r)
}

// lineOf is the first line that has one of the words in it, cut to what a table can show.
func lineOf(text string, words []string) string {
	for line := range strings.Lines(text) {
		for _, word := range words {
			if at := strings.Index(line, word); at >= 0 {
				begin, fields := max(0, at-40), strings.Fields(line)
				if len(line) < 140 || word == "" {
					return strings.Join(fields, " ")
				}
				return strings.TrimSpace(strings.ToValidUTF8(line[begin:min(len(line), at+100)], ""))
			}
		}
	}
	return ""
}

func (n *night) String() string {
	var b strings.Builder
	b.WriteString("\n| break | describe, events | status | doctor | log |\n|---|---|---|---|---|\n")
	for _, r := range n.rows {
		b.WriteString("| " + r.name)
		for i, cell := range r.said {
			cell = cmp.Or(cell, "–")
			if i == 1 || i == 2 {
				cell += fmt.Sprintf(" (exit %d)", r.code[i-1])
			}
			b.WriteString(" | " + strings.ReplaceAll(cell, "|", "\\|"))
		}
		b.WriteString(" |\n")
	}
	return b.String()
}

// strike makes calls for a secret go wrong until the test ends.
func strike(t *testing.T, args ...string) {
	t.Helper()
	fault := strings.Fields(cloud(t, "", append([]string{"fault"}, args...)...))[1]
	t.Cleanup(func() {
		tryKubectl(context.Background(), "", "-n", "kms-emulator", "exec", "deploy/kms-emulator", "--", "/kms-emulator", "remove-fault", fault)
	})
}

// large are annotations of files that take 9 MB in all, made of one secret; a volume has 16.
func large(secret string) []string {
	annotations := []string{"inject: true", "refresh-interval: 10s"}
	template := strings.Repeat("{{ . }}", 20)
	for i := range 15 {
		annotations = append(annotations, fmt.Sprintf("secret.big%d: {name: %s, format: template, template: '%s'}", i, secret, template))
	}
	return annotations
}

// What a platform engineer sees at three in the morning: each thing that breaks, and what each tool says of it.
func TestThreeInTheMorning(t *testing.T) {
	ns := namespace(t)
	one, two := secretName("one"), secretName("two")
	put(t, one, value())
	put(t, two, value())
	table := &night{}
	both := func(name string, annotations ...string) workload {
		return workload{name: name, podSecurity: "runAsUser: 2000", annotations: append([]string{"inject: true", "secret.one: " + one,
			"secret.two: " + two, "refresh-interval: 10s"}, annotations...)}
	}
	group := func(name string, rows map[string]func(t *testing.T, where string) nightRow) {
		t.Run(name, func(t *testing.T) {
			for row, breaks := range rows {
				t.Run(row, func(t *testing.T) {
					t.Parallel()
					where := namespace(t)
					r := breaks(t, where)
					if r.name = row; r.ns == "" {
						r.ns = where
					}
					table.look(t, r)
				})
			}
		})
	}
	// Each has a namespace and secrets of its own, so that what is struck is that alone.
	group("pods", map[string]func(t *testing.T, ns string) nightRow{
		"KMS 503, running": func(t *testing.T, ns string) nightRow {
			one, two := secretName("one"), secretName("two")
			put(t, one, value())
			put(t, two, value())
			apply(t, asking("web", one, "secret.two: "+two, "refresh-interval: 10s").pod(ns))
			ready(t, ns, "web")
			strike(t, "--secret", one, "--status", "503")
			strike(t, "--secret", two, "--status", "503")
			return nightRow{target: "web", code: [2]int{1, 1},
				status: []string{"ServiceUnavailableTemporary", "failed", ", next ", "fix: change nothing in the cluster", one + "@v1"},
				sees:   []string{"✗ kms           file db: get secret " + one, "✗ kms           file two: get secret " + two, "!✓ kms"},
				log:    []string{"refresh failed, the files stay as they are"}}
		},
		"KMS 503, new pod": func(t *testing.T, ns string) nightRow {
			one := secretName("one")
			put(t, one, value())
			strike(t, "--secret", one, "--status", "503")
			apply(t, asking("web", one).pod(ns))
			return nightRow{target: "web", code: [2]int{1, 1},
				status: []string{"starting||failing", "no secrets yet: the last||no secrets within", "ServiceUnavailableTemporary"},
				sees:   []string{"✗ kms           "}, log: []string{"no secrets yet, trying again"}}
		},
		"KMS hangs, new pod": func(t *testing.T, ns string) nightRow {
			one := secretName("one")
			put(t, one, value())
			strike(t, "--secret", one, "--hang", "headers")
			apply(t, asking("web", one).pod(ns))
			return nightRow{target: "web", code: [2]int{1, 1}, status: []string{"took the request and did not answer for 10s"},
				sees: []string{"✗ kms           ", "did not answer"}, log: []string{"did not answer for 10s"}}
		},
		"trust policy": func(t *testing.T, ns string) nightRow {
			serviceAccount(t, ns, "stranger", "shop") // which trusts shop/web only
			w := asking("web", two)
			w.serviceAccount = "stranger"
			apply(t, w.pod(ns))
			const says = "the trust policy of acs:ram::" + account + ":role/shop does not let this pod in"
			return nightRow{target: "web", code: [2]int{1, 1}, describe: []string{says}, status: []string{"failing", says},
				sees: []string{"✗ sts", says, "Trust policy that"}, log: []string{says}}
		},
		"role missing": func(t *testing.T, ns string) nightRow {
			serviceAccount(t, ns, "lost", "nowhere")
			w := asking("web", two)
			w.serviceAccount = "lost"
			apply(t, w.pod(ns))
			const says = "the role acs:ram::" + account + ":role/nowhere does not exist"
			return nightRow{target: "web", code: [2]int{1, 1}, describe: []string{says}, status: []string{"failing", says},
				sees: []string{"✗ sts", says}, log: []string{says}}
		},
		"secret deleted, new pod": func(t *testing.T, ns string) nightRow {
			apply(t, asking("web", two+"/none").pod(ns))
			return nightRow{target: "web", code: [2]int{1, 1}, describe: []string{"Forbidden.ResourceNotFound"},
				status: []string{"failing", "fix: check the name"}, sees: []string{"✗ kms", "check the name"},
				log: []string{"Forbidden.ResourceNotFound"}}
		},
		"secret deleted, running": func(t *testing.T, ns string) nightRow {
			one := secretName("one")
			put(t, one, value())
			apply(t, asking("web", one, "refresh-interval: 10s").pod(ns))
			ready(t, ns, "web")
			cloud(t, "", "delete-secret", one)
			return nightRow{target: "web", code: [2]int{1, 1}, status: []string{"Forbidden.ResourceNotFound", ", next ", one + "@v1"},
				sees: []string{"✗ kms", "check the name"}, log: []string{"Forbidden.ResourceNotFound"}}
		},
		"account without a role": func(t *testing.T, ns string) nightRow {
			w := asking("web", two)
			w.serviceAccount = "default"
			apply(t, w.unscaled(ns))
			kubectl(t, "-n", ns, "scale", "deployment", "web", "--replicas=1")
			const says = "no RAM role is set for ServiceAccount "
			return nightRow{target: "deployment/web", code: [2]int{1, 1}, describe: []string{says},
				status: []string{"not made", "1 missing: ", says}, sees: []string{"✗ role", says}}
		},
		"namespace without label": func(t *testing.T, ns string) nightRow {
			kubectl(t, "label", "namespace", ns, "kms.alibabacloud.com/injection-")
			apply(t, asking("web", two).pod(ns))
			const says = "does not have the label kms.alibabacloud.com/injection=enabled"
			return nightRow{target: "web", code: [2]int{1, 1}, status: []string{"not injected", says},
				sees: []string{"✗ namespace", says, "✗ injection"}}
		},
		"wrong audience": func(t *testing.T, ns string) nightRow {
			kubectl(t, "label", "namespace", ns, "kms.alibabacloud.com/injection-")
			w := asking("web", two)
			w.spec = "volumes: [{name: rrsa-oidc-token, projected: {sources: [{serviceAccountToken: {audience: other, path: token}}]}}]"
			apply(t, w.unscaled(ns))
			kubectl(t, "label", "namespace", ns, "kms.alibabacloud.com/injection=enabled")
			kubectl(t, "-n", ns, "scale", "deployment", "web", "--replicas=1")
			const says = "serviceAccountToken: {audience: sts.aliyuncs.com"
			return nightRow{target: "deployment/web", code: [2]int{1, 1}, describe: []string{says}, status: []string{"not made", says},
				sees: []string{"✗ annotations", says}}
		},
		"Secret of the access key missing": func(t *testing.T, ns string) nightRow {
			apply(t, asking("web", two, "identity: access-key:access-key").pod(ns))
			const says = `secret "access-key" not found`
			return nightRow{target: "web", code: [2]int{1, 1}, describe: []string{says}, status: []string{"starting", says},
				sees: []string{"✗ start         kms-agent-init waits: ", says, "with the keys id and secret", "– sts"}}
		},
		"sidecar killed": func(t *testing.T, ns string) nightRow {
			apply(t, killable("web", "secret.two: "+two).pod(ns))
			ready(t, ns, "web")
			killSidecar(t, ns, "web")
			const says = "kms-agent has restarted once, last "
			return nightRow{target: "web", code: [2]int{0, 0}, describe: []string{"Restart Count:  1"}, status: []string{"fresh", says},
				sees: []string{"✓ start ", says}, log: []string{"took over without a call"}}
		},
		"tmpfs full": func(t *testing.T, ns string) nightRow {
			one := secretName("one")
			put(t, one, strings.Repeat("x", 30000))
			apply(t, workload{name: "web", podSecurity: "runAsUser: 2000", annotations: large(one)}.pod(ns))
			ready(t, ns, "web")
			rotate(t, one, strings.Repeat("y", 30000))
			const says = "and as much again while they change, do not fit 16.0Mi"
			return nightRow{target: "web", code: [2]int{1, 1}, status: []string{says, one + "@v1", "raise agent.volumeSize"},
				sees: []string{"✗ files         cannot be written", says, "✓ kms"},
				log:  []string{"no space left on device", "the next change may fail"}}
		},
		"on-change fails": func(t *testing.T, ns string) nightRow {
			one := secretName("one")
			put(t, one, value())
			w := asking("web", one, "refresh-interval: 10s", "on-change: http://127.0.0.1:9999/reload")
			apply(t, w.pod(ns))
			ready(t, ns, "web")
			rotate(t, one, value())
			const says = "http://127.0.0.1:9999/reload was not notified of "
			return nightRow{target: "web", code: [2]int{1, 1}, status: []string{"not-notified", says + one + "@v2", "fix: "},
				sees: []string{"✗ on-change     " + says, "✓ kms", "restart it"}, log: []string{"notification failed"}}
		},
	})
	// What is broken for the whole cluster goes one after the other, and everything is put back.
	apply(t, both("web").unscaled(ns))
	kubectl(t, "-n", ns, "scale", "deployment", "web", "--replicas=1")
	kubectl(t, "-n", ns, "rollout", "status", "deployment/web", "--timeout=5m")
	kustomization := filepath.Join(installDir(), "webhook")
	restore := func() {
		kubectl(t, "apply", "-k", kustomization)
		kubectl(t, "-n", "kms-agent-injector", "rollout", "status", "deployment/kms-webhook", "--timeout=5m")
	}
	t.Run("STS throttled", func(t *testing.T) {
		strike(t, "--action", "AssumeRoleWithOIDC", "--code", "Throttling.User")
		apply(t, asking("throttled", two).pod(ns))
		table.look(t, nightRow{name: "STS throttled", ns: ns, target: "throttled", code: [2]int{1, 1},
			status: []string{"starting", "Throttling.User", "next in", "why: too many STS calls"}, sees: []string{"✗ sts", "Throttling.User"},
			log: []string{"no secrets yet, trying again"}})
		kubectl(t, "-n", ns, "delete", "pod", "throttled", "--wait=false")
	})
	t.Run("webhook", func(t *testing.T) {
		defer restore()
		kubectl(t, "-n", "kms-agent-injector", "scale", "deployment", "kms-webhook", "--replicas=0")
		eventually(t, patience, func() error {
			if kubectl(t, "-n", "kms-agent-injector", "get", "pods", "-l", "app.kubernetes.io/component=webhook", "-o", "name") != "" {
				return errNotYet
			}
			return nil
		})
		kubectl(t, "-n", ns, "scale", "deployment", "web", "--replicas=3")
		table.look(t, nightRow{name: "webhook at 0", ns: ns, target: "deployment/web", code: [2]int{1, 1},
			describe: []string{"failed calling webhook"}, status: []string{"fresh", "not made", "2 missing: "},
			sees: []string{"✗ endpoints", "✗ injection     no new pod can be made", "✗ pods          1 fresh; 2 cannot be made", "✓ kms"}})
		name := strings.TrimSpace(kubectl(t, "-n", "kms-agent-injector", "get", "deployment", "kms-webhook", "-o",
			`jsonpath={.spec.template.spec.volumes[?(@.name=="config")].configMap.name}`))
		kubectl(t, "-n", "kms-agent-injector", "patch", "configmap", name, "--type=merge",
			"-p", `{"data":{"config.yaml":"regoin: cn-hangzhou\n"}}`)
		table.look(t, nightRow{name: "the webhook's configuration broken", ns: ns, target: "deployment/web", code: [2]int{1, 1},
			describe: []string{"failed calling webhook"}, status: []string{"not made"}, sees: []string{"✗ configuration", `did you mean "region"?`}})
	})
	t.Run("nothing calls the webhook", func(t *testing.T) {
		defer restore()
		kubectl(t, "delete", "mutatingwebhookconfiguration", "kms-agent-injector")
		kubectl(t, "-n", ns, "scale", "deployment", "web", "--replicas=0")
		eventually(t, patience, func() error {
			if kubectl(t, "-n", ns, "get", "pods", "-l", "app=web", "-o", "name") != "" {
				return errNotYet
			}
			return nil
		})
		kubectl(t, "-n", ns, "scale", "deployment", "web", "--replicas=1")
		table.look(t, nightRow{name: "MutatingWebhookConfiguration deleted", ns: ns, target: "deployment/web", code: [2]int{1, 1},
			describe: []string{"ValidatingAdmissionPolicy 'kms-agent-injector'"}, status: []string{"not made"},
			sees: []string{"✗ webhook", "there is no MutatingWebhookConfiguration"}})
		kubectl(t, "delete", "validatingadmissionpolicybinding", "kms-agent-injector")
		eventually(t, patience, func() error { // until the API server has noticed
			_, err := tryKubectl(t.Context(), asking("bare", two).pod(ns), "apply", "-f", "-")
			return err
		})
		ready(t, ns, "bare")
		table.look(t, nightRow{name: "and the guard's binding", ns: ns, target: "bare", code: [2]int{1, 1},
			status: []string{"not injected", "made while the webhook was not called"},
			sees:   []string{"✗ guard", "its ValidatingAdmissionPolicyBinding kms-agent-injector is missing", "✗ injection"}})
		kubectl(t, "-n", ns, "delete", "pod", "bare", "--wait=false")
	})
	kubectl(t, "-n", ns, "rollout", "restart", "deployment/web") // there may be pods without the agent
	kubectl(t, "-n", ns, "rollout", "status", "deployment/web", "--timeout=5m")
	kubectl(t, "-n", "kms-agent-injector", "delete", "secret", "kms-webhook-ca")
	table.look(t, nightRow{name: "authority deleted", ns: ns, target: "deployment/web", code: [2]int{0, 0}, status: []string{"fresh"},
		sees: []string{"✓ certificate", "✓ pods          1 fresh", "✓ kms           gives " + two}})
	slices.SortFunc(table.rows, func(a, b nightRow) int { return strings.Compare(a.name, b.name) })
	t.Log(table)
}

// The files are of the version before while there is no room for the next, and every tool says that, with the reason.
func TestAFullVolumeIsSaid(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	name := secretName("full")
	put(t, name, strings.Repeat("x", 30000))
	apply(t, workload{name: "web", podSecurity: "runAsUser: 2000", annotations: large(name)}.pod(ns))
	ready(t, ns, "web")
	if code, table, stderr := plugin(t, "", "status", "-n", ns); code != 0 ||
		!strings.Contains(table, "warning: /var/run/kms/secrets: a change of all its files will not fit: 8.") {
		t.Errorf("before the change: %d %s%s", code, table, stderr)
	}
	rotate(t, name, strings.Repeat("y", 30000))
	var held struct {
		Secrets   []struct{ Version string }
		LastError *struct {
			Attempts int
			Causes   []struct{ Link, Says string }
		}
		Next time.Time
	}
	eventually(t, patience, func() error {
		if err := json.Unmarshal([]byte(in(t, ns, "web", "kms-agent", "/kms-agent", "status")), &held); err != nil {
			t.Fatal(err)
		}
		if held.LastError == nil || held.LastError.Attempts < 2 {
			return errNotYet
		}
		return nil
	})
	if len(held.Secrets) != 1 || held.Secrets[0].Version != "v1" || held.LastError.Causes[0].Link != "files" || held.Next.IsZero() {
		t.Errorf("%+v", held)
	}
	if file := in(t, ns, "web", "app", "head", "-c1", dir+"/big0"); file != "x" {
		t.Errorf("the file has %q", file)
	}
	if p := pods(t, ns)["web"]; p.State != "failing" && p.State != "stale" || p.Secrets[0].Version != "v1" || p.LastError == nil ||
		!strings.Contains(p.Problem, "no space left on device") {
		t.Errorf("%+v", p)
	}
	diagnosed(t, ns, "web", "files", "raise agent.volumeSize")
}

// statusOf is how many pods TestStatusOfManyPods lists.
var statusOf = flag.Int("status-pods", 10, "pods that TestStatusOfManyPods lists; make bench-start lists 100")

// Pods are listed, all of one node, and how long that takes is printed.
func TestStatusOfManyPods(t *testing.T) {
	ns := namespace(t)
	name := secretName("hundred")
	put(t, name, value())
	const most = 110 // pods of a node
	there := len(strings.Fields(kubectl(t, "get", "pods", "-A", "-o", "name",
		"--field-selector=status.phase!=Succeeded,status.phase!=Failed")))
	all := min(*statusOf, most-2-there)
	w := asking("web", name, "mode: single")
	w.containers = strings.Replace(container("app"), `[sleep, "100000"]`, `[sleep, "100000"]
  resources: {requests: {cpu: 1m, memory: 1Mi}}`, 1)
	w.annotations = append(w.annotations, "agent-requests: cpu=1m,memory=4Mi")
	apply(t, w.unscaled(ns))
	kubectl(t, "-n", ns, "scale", "deployment", "web", fmt.Sprintf("--replicas=%d", all))
	kubectl(t, "-n", ns, "rollout", "status", "deployment/web", "--timeout=10m")
	plugin(t, "", "version") // builds it
	began := time.Now()
	code, table, stderr := plugin(t, "", "status", "-n", ns)
	t.Logf("%d pods in %s\n%s", strings.Count(table, "\nweb-"), time.Since(began).Round(time.Millisecond), table)
	if code != 0 || strings.Count(table, " fresh ") != all {
		t.Errorf("%d %s", code, stderr)
	}
}
