package docs

import (
	"cmp"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/agent"
	"github.com/kms-agent-injector/kms-agent-injector/agent/metrics"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// example is a pod with the annotations of a block of the documents, and its agent, in a cloud with the secret of another block.
type example struct {
	doc     agentconfig.Config
	agent   *agent.Agent
	gateway string // in whose place the emulator is
}

func newExample(t *testing.T, note string) *example {
	t.Helper()
	const of = "value of "
	_, value := noted(t, of)
	_, annotations := noted(t, note)
	dev := map[string]string{"env": "dev"} // which the emulator's role may read
	cloud := emulatortest.Start(t)
	cloud.Put(t, emulator.Secret{Name: strings.TrimPrefix(value.Note, of), Tags: dev,
		Value: emulator.Value{Text: strings.TrimSpace(value.Text)}})

	e := &example{doc: injectedDocument(t, annotations.Text)}
	e.gateway = e.doc.KMS.Host
	e.doc.KMS = agentconfig.Endpoint{Host: cloud.Addr, CABundle: string(emulatortest.CAPEM())}
	e.doc.STS = e.doc.KMS
	e.doc.SecretsDir, e.doc.StateDir, e.doc.MetricsPort = t.TempDir(), t.TempDir(), 0
	if e.doc.API != nil {
		directory := t.TempDir()
		e.doc.API.Socket, e.doc.API.TokenFile = filepath.Join(directory, "api"), filepath.Join(directory, "token")
	}
	env := map[string]string{
		"ALIBABA_CLOUD_ROLE_ARN": emulatortest.RoleARN, "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": emulatortest.ProviderARN,
		"ALIBABA_CLOUD_OIDC_TOKEN_FILE": cloud.Issuer.TokenFile(t, emulatortest.Subject),
	}
	m := metrics.New()
	src, err := source.Open(e.doc, func(name string) string { return env[name] }, m)
	if err != nil {
		t.Fatal(err)
	}
	if e.agent, err = agent.New(e.doc, src, m, agent.NewLogger(io.Discard, e.doc)); err != nil {
		t.Fatal(err)
	}
	return e
}

// injectedDocument is what the webhook tells the agent of a pod with these annotations.
func injectedDocument(t *testing.T, annotations string) agentconfig.Config {
	t.Helper()
	all := map[string]string{podconfig.Prefix + "inject": "true"}
	if err := yaml.UnmarshalStrict([]byte(annotations), &all); err != nil {
		t.Fatal(err)
	}
	pod := injector.Pod{Metadata: injector.Metadata{Annotations: all}, Spec: injector.PodSpec{Containers: []injector.Container{{Name: "web"}}}}
	d, err := newInjector(t).Decide(t.Context(), injector.Request{Namespace: "shop", Pod: pod}, oneRole{})
	if err := cmp.Or(err, d.Refused()); err != nil {
		t.Fatal(err)
	}
	var patch any
	if err := json.Unmarshal(d.Patch, &patch); err != nil {
		t.Fatal(err)
	}
	doc, err := agentconfig.Read([]byte(variable(patch, agentconfig.Env)))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// variable finds an environment variable anywhere in a patch.
func variable(in any, name string) (value string) {
	switch in := in.(type) {
	case []any:
		for _, item := range in {
			if value = variable(item, name); value != "" {
				return value
			}
		}
	case map[string]any:
		if in["name"] == name {
			value, _ = in["value"].(string)
			return value
		}
		for _, item := range in {
			if value = variable(item, name); value != "" {
				return value
			}
		}
	}
	return ""
}
