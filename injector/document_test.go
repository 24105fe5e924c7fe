package injector_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/quick"

	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// TestDocumentOfAnything has all fields of the document filled with anything.
func TestDocumentOfAnything(t *testing.T) {
	same := func(doc agentconfig.Config) bool {
		doc.Identity.Secret = "" // which no agent is told
		doc.EnvMode &= 0o777
		for i := range doc.Files {
			doc.Files[i].Mode &= 0o777
		}
		text := injector.Encode(doc)
		var got, want agentconfig.Config
		dec := json.NewDecoder(strings.NewReader(text))
		dec.DisallowUnknownFields()
		err := dec.Decode(&got)
		if err := json.Unmarshal(marshal(t, doc), &want); err != nil {
			t.Fatal(err)
		}
		return err == nil && reflect.DeepEqual(got, want) && !strings.Contains(text, "$")
	}
	if err := quick.Check(same, nil); err != nil {
		t.Error(err)
	}
}

// TestDocumentTooLong tries the longest environment variable that Linux starts a program with, 128 KiB with its name and zero, and
// one byte more.
func TestDocumentTooLong(t *testing.T) {
	variable := func(padding int) (string, error) {
		text := func(n int) string {
			return fmt.Sprintf("{from: {db: app/db}, format: template, template: '%s'}", strings.Repeat("x", n))
		}
		annotations := map[string]string{
			podconfig.Prefix + "inject": "true", podconfig.Prefix + "secret.a": text(60 << 10), podconfig.Prefix + "secret.b": text(60<<10 + 1),
			podconfig.Prefix + "secret.c": text(padding),
		}
		decision, err := decide(administrator(t, ""), podOf(t, annotations))
		if err != nil {
			return "", err
		}
		var operations []struct {
			Path  string
			Value json.RawMessage
		}
		if err := json.Unmarshal(decision.Patch, &operations); err != nil {
			t.Fatal(err)
		}
		for _, o := range operations {
			var agents []corev1.Container
			if o.Path == "/spec/initContainers" {
				if err := json.Unmarshal(o.Value, &agents); err != nil {
					t.Fatal(err)
				}
				return agents[0].Env[0].Name + "=" + agents[0].Env[0].Value + "\x00", nil
			}
		}
		t.Fatalf("no agent in %.1000s", decision.Patch)
		return "", nil
	}
	short, err := variable(1)
	if err != nil {
		t.Fatal(err)
	}
	room := 128<<10 - len(short)
	if longest, err := variable(1 + room); err != nil || len(longest) != 128<<10 {
		t.Errorf("%d bytes, %v", len(longest), err)
	}
	_, err = variable(1 + room + 1)
	for _, part := range []string{"kms.alibabacloud.com/secret.b: ",
		" is 131055 bytes long, and at most 131054 fit into an environment variable"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %v", part, err)
		}
	}
}

// The administrator's duration of sessions reaches the agent; without one the document has no word of it.
func TestSessionDuration(t *testing.T) {
	document, err := os.ReadFile("testdata/operator.yaml")
	if err != nil {
		t.Fatal(err)
	}
	annotations := map[string]string{podconfig.Prefix + "inject": "true", podconfig.Prefix + "secret.a": "app/a"}
	for more, want := range map[string]string{"": "", "sts: {sessionDuration: 4h}\n": `\"sessionDuration\":\"4h0m0s\"`} {
		policy, err := clusterconfig.Read(append(slices.Clone(document), more...))
		if err != nil {
			t.Fatal(err)
		}
		in, err := injector.New(policy, "v0.0.0")
		if err != nil {
			t.Fatal(err)
		}
		decision, err := decide(in, podOf(t, annotations))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(decision.Patch), "sessionDuration"); got != (want != "") ||
			!strings.Contains(string(decision.Patch), want) {
			t.Errorf("%q: %s", more, decision.Patch)
		}
	}
}

func podOf(t *testing.T, annotations map[string]string) []byte {
	return marshal(t, object{"metadata": object{"annotations": annotations}, "spec": object{"containers": []object{{"name": "web"}}}})
}
