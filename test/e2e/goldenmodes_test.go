//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// wishes are what a golden pod is given besides a mode, in turn.
var wishes = []map[string]string{
	{"env.KEY": "app/key", "app-identity": "true"},
	{"api": "true", "api-allow": "app/x*"},
	{"identity": "node-role", "env.KEY": "app/key"},
	{"agent-requests": "cpu=50m,memory=32Mi", "agent-limits": "cpu=50m,memory=32Mi", "mount-path": "/etc/kms", "token-expiration": "7200"},
	{"api": "true", "api-socket": "x.sock", "env.KEY": "app/key"},
}

// inMode is a pod with a mode, and with what is wished besides if the webhook would not refuse it for that; after its injection.
func inMode(t *testing.T, in *injector.Injector, pod, mode string, wish map[string]string) (document string, injected bool) {
	t.Helper()
	for _, more := range []map[string]string{wish, nil} {
		var changed map[string]any
		if err := json.Unmarshal([]byte(pod), &changed); err != nil {
			t.Fatal(err)
		}
		metadata := changed["metadata"].(map[string]any)
		metadata["name"] = metadata["name"].(string) + "-" + mode
		annotations, annotated := metadata["annotations"].(map[string]any)
		if !annotated {
			return "", false
		}
		annotations[podconfig.Prefix+"mode"] = mode
		for _, contradiction := range map[string][]string{"single": {"init-position"},
			"init": {"api", "api-port", "api-socket", "api-allow", "on-change", "refresh-interval"}}[mode] {
			delete(annotations, podconfig.Prefix+contradiction)
		}
		for key, value := range more {
			annotations[podconfig.Prefix+key] = value
		}
		text, err := json.Marshal(changed)
		if err != nil {
			t.Fatal(err)
		}
		if text, injected = inject(t, in, text); injected {
			return string(text), true
		}
	}
	return "", false
}

// inject reports whether a pod can be injected.
func inject(t *testing.T, in *injector.Injector, document []byte) ([]byte, bool) {
	t.Helper()
	pod, err := injector.DecodePod(document)
	if err != nil {
		return nil, false
	}
	d, err := in.Decide(t.Context(), injector.Request{Namespace: "shop", Pod: pod}, oneRole{})
	if err != nil || d.Refused() != nil || d.Patch == nil {
		return nil, false
	}
	patch, err := jsonpatch.DecodePatch(d.Patch)
	if err != nil {
		t.Fatal(err)
	}
	injected, err := patch.Apply(document)
	if err != nil {
		t.Fatal(err)
	}
	return injected, true
}

// administrator is what a golden pod's administrator allows.
func administrator(t *testing.T, file string) *injector.Injector {
	t.Helper()
	document, err := os.ReadFile(file + ".operator.yaml")
	if errors.Is(err, fs.ErrNotExist) {
		document, err = os.ReadFile(filepath.Join(repository, "injector", "testdata", "operator.yaml"))
	}
	if err != nil {
		t.Fatal(err)
	}
	policy, err := clusterconfig.Read(document)
	if err != nil {
		t.Fatal(err)
	}
	in, err := injector.New(policy, "v0.0.0")
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// oneRole is a cluster in which every ServiceAccount has the same role, and no namespace has a label.
type oneRole struct{}

func (oneRole) NamespaceLabels(context.Context, string) (map[string]string, error) { return nil, nil }

func (oneRole) ServiceAccountAnnotations(context.Context, string, string, bool) (map[string]string, error) {
	return map[string]string{rrsa.RoleARNAnnotation: "acs:ram::" + account + ":role/shop"}, nil
}
