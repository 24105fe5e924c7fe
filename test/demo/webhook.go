package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rrsa"
)

// namespace is the one of all that the demo makes.
const namespace = "shop"

// webhookConfig is the webhook's configuration.
const webhookConfig = `
accountID: "` + account + `"
clusterID: ` + clusterID + `
region: cn-hangzhou
agent: {image: "kms-agent-injector/kms-agent:dev"}
kms: {caFile: emulator-ca.pem}
sts: {caFile: emulator-ca.pem}
`

// A webhook decides as kms-webhook does.
type webhook struct{ injector *injector.Injector }

func newWebhook(ca []byte) (webhook, error) {
	config, err := clusterconfig.Load([]byte(webhookConfig), func(string) ([]byte, error) { return ca, nil })
	if err != nil {
		return webhook{}, err
	}
	in, err := injector.New(config, "demo")
	return webhook{in}, err
}

// A refusedError says why a pod is refused.
type refusedError struct{ error }

// admit returns a pod with what it gets.
func (w webhook) admit(ctx context.Context, document []byte) ([]byte, error) {
	pod, err := injector.DecodePod(document)
	if err != nil {
		return nil, err
	}
	decision, err := w.injector.Decide(ctx, injector.Request{Namespace: namespace, Pod: pod}, cluster{})
	if err != nil {
		return nil, err
	}
	if err := decision.Refused(); err != nil {
		return nil, &refusedError{err}
	}
	patch, err := jsonpatch.DecodePatch(decision.Patch)
	if err != nil {
		return nil, err
	}
	return patch.Apply(document)
}

// cluster is what the webhook learns from the API server.
type cluster struct{}

func (cluster) NamespaceLabels(context.Context, string) (map[string]string, error) {
	return map[string]string{podconfig.NamespaceLabel: podconfig.NamespaceLabelValue}, nil
}

func (cluster) ServiceAccountAnnotations(_ context.Context, _, name string, _ bool) (map[string]string, error) {
	if name != "web" {
		return nil, nil
	}
	return map[string]string{rrsa.RoleARNAnnotation: roleARN}, nil
}

// manifest reads a YAML file as JSON.
func manifest(file string) ([]byte, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return yaml.YAMLToJSON(text)
}

// podTemplate is that of a Deployment in a YAML file, as JSON.
func podTemplate(file string) ([]byte, error) {
	document, err := manifest(file)
	if err != nil {
		return nil, err
	}
	var deployment struct {
		Spec struct{ Template json.RawMessage }
	}
	err = json.Unmarshal(document, &deployment)
	return deployment.Spec.Template, err
}

// showAdditions prints a pod with the lines that were added marked: of the sidecar those in which it is not like the init container.
func showAdditions(out io.Writer, before, after []byte) error {
	const widest = 90 // of values
	var pod map[string]any
	if err := json.Unmarshal(after, &pod); err != nil {
		return err
	}
	agents := pod["spec"].(map[string]any)["initContainers"].([]any)
	first, sidecar := agents[0].(map[string]any), agents[1].(map[string]any)
	maps.DeleteFunc(sidecar, func(key string, value any) bool { return reflect.DeepEqual(value, first[key]) })
	for _, variable := range first["env"].([]any) {
		variable := variable.(map[string]any)
		if value, _ := variable["value"].(string); len(value) > widest {
			variable["value"] = value[:widest] + "…"
		}
	}
	shown, err := yaml.Marshal(pod)
	if err != nil {
		return err
	}
	if before, err = yaml.JSONToYAML(before); err != nil {
		return err
	}
	for line := range bytes.Lines(shown) {
		mark := "+"
		if rest, old := bytes.CutPrefix(before, line); old {
			mark, before = " ", rest
		}
		fmt.Fprintf(out, "%s %s", mark, line)
	}
	if len(before) > 0 {
		return fmt.Errorf("the webhook has not only added: the pod has no longer\n%s", before)
	}
	return nil
}
