package injector_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	kubejson "sigs.k8s.io/json"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// TestEncode reads what the golden pods get into Kubernetes' own types, which must know every member of it, and encodes it again,
// which must give the same text: a member that is in the wrong place, or mistyped, would be lost.
func TestEncode(t *testing.T) {
	encoded := 0
	for _, name := range goldenCases(t) {
		pod := readPod(t, readYAML(t, "testdata/"+name+".yaml"))
		spec, err := config.Parse(pod.Metadata.Annotations, config.Checks{})
		if err != nil || !spec.Inject {
			continue
		}
		values, document := operator(t, name).Values(injector.Request{Pod: pod, Namespace: namespace, Spec: spec, RoleARN: "acs:ram::1:role/<shop>"})
		for _, v := range values {
			if strict, err := kubejson.UnmarshalStrict(v.Text, v.Type); err != nil || len(strict) > 0 {
				t.Fatalf("%s: %v %v: %s", name, err, strict, v.Text)
			}
			if got, want := string(v.Text), encode(t, v.Type); got != want {
				t.Errorf("%s:\n got %s\nwant %s", name, got, want)
			}
			encoded++
		}
		if got, want := string(injector.AppendDocument(nil, document)), strings.ReplaceAll(encode(t, document), "$", `\u0024`); got != want {
			t.Errorf("%s: document\n got %s\nwant %s", name, got, want)
		}
	}
	if encoded < 100 {
		t.Errorf("only %d values were looked at", encoded)
	}
}

func encode(t *testing.T, v any) string {
	t.Helper()
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSuffix(text.String(), "\n")
}
