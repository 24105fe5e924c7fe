package injector_test

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// TestEncode holds the encoding of what the golden pods get to encoding/json: a field that the injector sets and does not encode
// would be lost.
func TestEncode(t *testing.T) {
	encoded := 0
	for _, name := range goldenCases(t) {
		pod := readPod(t, readYAML(t, "testdata/"+name+".yaml"))
		spec, err := config.Parse(pod.Metadata.Annotations, config.Checks{})
		if err != nil || !spec.Inject {
			continue
		}
		got, values, err := operator(t, name).Values(injector.Request{Pod: pod, Namespace: namespace, Spec: spec, RoleARN: "acs:ram::1:role/<shop>"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i, v := range values {
			var want bytes.Buffer
			enc := json.NewEncoder(&want)
			enc.SetEscapeHTML(false)
			if err := enc.Encode(v); err != nil {
				t.Fatal(err)
			}
			if got, want := string(got[i]), string(bytes.TrimSpace(want.Bytes())); got != want {
				t.Errorf("%s:\n got %s\nwant %s", name, got, want)
			}
			encoded++
		}
	}
	if encoded < 100 {
		t.Errorf("only %d values were looked at", encoded)
	}
}
