package command

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/decide"
)

const people = "../../testdata/people/"

// Nothing that is read is lost: objects of JSON follow one another, as jq prints them, and each comes out as JSON.
func TestStreamsOfJSON(t *testing.T) {
	pod, err := os.ReadFile(people + "35c-json-stream-pod-first.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"35-json-stream.json", "35b-json-one.json"} {
		text, err := os.ReadFile(people + file)
		if err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := run(t, string(text), "inject", "-f", "-", "--config", people+"operator.yaml")
		if want := objects(t, string(text)); code != 0 || !slices.Equal(objects(t, stdout), want) ||
			!strings.Contains(stdout, `"name": "kms-agent-init"`) {
			t.Errorf("%s: exit code %d, without all of %v:\n%s%s", file, code, want, stdout, stderr)
		}
	}
	account := `{"kind":"ServiceAccount","metadata":{"name":"default","namespace":"shop","annotations":{` +
		`"ack.alibabacloud.com/role-arn":"acs:ram::1234567890123456:role/shop"}}}`
	code, stdout, stderr := run(t, string(pod)+account, "inject", "-f", "-", "--config", people+"operator.yaml")
	if want := []string{"Pod cart", "ConfigMap important", "ServiceAccount default"}; code != 0 || !slices.Equal(objects(t, stdout), want) {
		t.Errorf("exit code %d, without all of %v:\n%s%s", code, want, stdout, stderr)
	}
	code, stdout, _ = run(t, "{\"kind\":\"ConfigMap\"}\n"+string(pod), "validate", "-f", "-", "--offline")
	if code != 0 || !strings.Contains(stdout, "1 pod looked at, 1 asking") {
		t.Errorf("exit code %d, the second object is not looked at:\n%s", code, stdout)
	}
}

// objects are the kinds and names of the objects of a stream of JSON.
func objects(t *testing.T, stream string) (found []string) {
	t.Helper()
	for dec := json.NewDecoder(strings.NewReader(stream)); ; {
		var o struct {
			Kind     string
			Metadata struct{ Name string }
			Items    []json.RawMessage
		}
		if err := dec.Decode(&o); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatalf("%v:\n%s", err, stream)
		}
		if o.Items == nil {
			found = append(found, strings.TrimSpace(o.Kind+" "+o.Metadata.Name))
		}
		for _, item := range o.Items {
			found = append(found, objects(t, string(item))...)
		}
	}
}

// Files of several kinds, one after the other, are a stream that kubectl reads.
func TestFilesOfBothKinds(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a.json": `{"kind":"ConfigMap","metadata":{"name":"a"}}`, "b.json": `{"kind":"ConfigMap","metadata":{"name":"b"}}`,
		"c.yaml": "# c\nkind: ConfigMap\nmetadata: {name: c}", "d.yaml": "---\nkind: ConfigMap\nmetadata: {name: d}\n",
		"e.json": `{"kind":"ConfigMap"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const want = `{"kind":"ConfigMap","metadata":{"name":"a"}}
{"kind":"ConfigMap","metadata":{"name":"b"}}
---
# c
kind: ConfigMap
metadata: {name: c}
---
kind: ConfigMap
metadata: {name: d}
---
{"kind":"ConfigMap"}`
	if code, stdout, stderr := run(t, "", "inject", "-f", dir, "--config", operator); code != 0 || stdout != want {
		t.Errorf("%d\n%s%s", code, stdout, stderr)
	}
}

// What validate has not looked at it says, and a mistake that it sees all the same is one.
func TestValidatePeople(t *testing.T) {
	for file, c := range map[string]struct {
		code  int
		lines []string // of the findings, or parts of them
	}{
		"09a-templates-elsewhere.yaml": {1, []string{
			"09a-templates-elsewhere.yaml:16: mistake: ScaledJob shop/resize: kms.alibabacloud.com/secrt.db: ",
			"09a-templates-elsewhere.yaml:16: warning: ScaledJob shop/resize: spec.jobTargetRef.template.metadata.annotations: no pod was found " +
				"in this ScaledJob",
			"09a-templates-elsewhere.yaml:27: warning: Workflow shop/nightly: spec.podMetadata.annotations: no pod was found",
			"09a-templates-elsewhere.yaml:42: warning: AdvancedCronJob shop/tidy: spec.template.jobTemplate.spec.template.metadata.annotations: " +
				"no pod was found",
			"0 pods looked at, 0 asking for injection",
		}},
		"10a-podlist-without-kinds.yaml": {1,
			[]string{"10a-podlist-without-kinds.yaml:15: mistake: Pod shop/cart: kms.alibabacloud.com/secrt.db: ", "1 pod looked at"}},
		"10b-list-in-a-list.yaml": {2, []string{"not checked", "10b-list-in-a-list.yaml, document at line 8: items[0] is a list"}},
		"26-generate-name-no-namespace.yaml": {1,
			[]string{"26-generate-name-no-namespace.yaml:14: mistake: Pod default/cart-<generated>: kms.alibabacloud.com/secrt.db: "}},
		"33-anchors-and-merges.yaml":     {0, []string{"1 pod looked at, 1 asking for injection", "0 mistakes"}},
		"34e-end-marker-more.yaml":       {2, []string{"not checked", "write a line --- between them"}},
		"35-json-stream.json":            {0, []string{"1 pod looked at, 1 asking for injection", "0 mistakes"}},
		"35c-json-stream-pod-first.json": {0, []string{"1 pod looked at, 1 asking for injection", "0 mistakes"}},
		"52-annotation-boolean-and-number.yaml": {1, []string{
			"52-annotation-boolean-and-number.yaml:13: warning: Deployment shop/cart: kms.alibabacloud.com/inject: has no effect here",
			"52-annotation-boolean-and-number.yaml:20: mistake: Deployment shop/cart: kms.alibabacloud.com/inject: values of annotations are " +
				"strings",
		}},
		"55-plain-duplicate-key.yaml": {2, []string{"not checked",
			`line 6: the key "serviceAccountName" is written twice, first in line 5; remove one`}},
	} {
		t.Run(file, func(t *testing.T) {
			code, stdout, stderr := run(t, "", "validate", "-f", people+file, "--config", people+"operator.yaml")
			for _, line := range c.lines {
				if !strings.Contains(stdout+stderr, line) {
					t.Errorf("it does not say %q", line)
				}
			}
			if code != c.code || t.Failed() {
				t.Errorf("exit code %d, want %d:\n%s%s", code, c.code, stdout, stderr)
			}
		})
	}
}

// The same by a program: a warning for what was not looked at is a finding.
func TestValidatePeopleJSON(t *testing.T) {
	_, stdout, _ := run(t, strings.NewReplacer("secrt", "secret").Replace(readFile(t, people+"09a-templates-elsewhere.yaml")), "validate",
		"-f", "-", "--offline", "-o", "json")
	var r decide.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil || len(r.Findings) != 3 || r.Mistakes() != 0 || r.Findings[0].Line != 16 {
		t.Errorf("%v: %s", err, stdout)
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// What cannot be kept, and what nothing is injected in, is said on the side.
func TestInjectSays(t *testing.T) {
	code, stdout, stderr := run(t, "", "inject", "-f", people+"33-anchors-and-merges.yaml", "--config", people+"operator.yaml")
	if code != 0 || strings.Count(stdout, "mountPath: /var/run/kms/secrets\n") < 4 || !strings.Contains(stderr,
		"33-anchors-and-merges.yaml, document at line 8: is reformatted: its aliases (*name) are replaced by their values") {
		t.Errorf("%d %s\n%s", code, stderr, stdout)
	}
	code, stdout, stderr = run(t, "", "inject", "-f", people+"09a-templates-elsewhere.yaml", "--config", people+"operator.yaml")
	if code != 0 || stdout != readFile(t, people+"09a-templates-elsewhere.yaml") ||
		!strings.Contains(stderr, "ScaledJob shop/resize: spec.jobTargetRef.template.metadata.annotations: no pod was found") {
		t.Errorf("%d %s\n%s", code, stderr, stdout)
	}
}

// Without the ServiceAccount, inject says how to go on, and so it goes on: within what the administrator allows.
func TestRoleARN(t *testing.T) {
	const role = "acs:ram::1234567890123456:role/shop"
	inject := func(args ...string) (int, string, string) {
		return run(t, deployment, append([]string{"inject", "-f", "-", "--config", operator}, args...)...)
	}
	if code, _, stderr := inject(); code != 1 ||
		!strings.Contains(stderr, "add it to the files of -f, or name its role: --role-arn acs:ram::<account>:role/<name>") {
		t.Error(code, stderr)
	}
	if code, stdout, stderr := inject("--role-arn", role); code != 0 || !strings.Contains(stdout, "value: "+role+"\n") {
		t.Error(code, stdout, stderr)
	}
	if code, _, stderr := inject("--role-arn", "acs:ram::42:role/other"); code != 1 ||
		!strings.Contains(stderr, "does not allow the role acs:ram::42:role/other") {
		t.Error(code, stderr)
	}
	if code, _, stderr := inject("--role-arn", "shop"); code != 1 ||
		!strings.Contains(stderr, `--role-arn: "shop" is not the ARN of a RAM role`) {
		t.Error(code, stderr)
	}
	code, stdout, stderr := run(t, account+deployment, "inject", "-f", "-", "--config", operator, "--role-arn",
		"acs:ram::1234567890123456:role/other")
	if code != 0 || !strings.Contains(stdout, "value: "+role+"\n") {
		t.Errorf("the ServiceAccount's own role does not count: %d %s%s", code, stdout, stderr)
	}
	code, stdout, stderr = run(t, deployment, "validate", "-f", "-", "--config", operator, "--role-arn", role)
	if code != 0 || !strings.Contains(stdout, "0 mistakes, 0 warnings") {
		t.Error(code, stdout, stderr)
	}
}
