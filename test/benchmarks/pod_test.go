package benchmarks

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// secrets is how many the pod has, of two kinds: a text, and fields from which a file of variables is made.
const secrets = 20

// pod is what agents of one pod share.
type pod struct {
	doc agentconfig.Config
	env []string
}

// newPod makes a pod whose cloud is the emulator in this process.
func newPod(b *testing.B) *pod {
	b.Helper()
	cloud := emulatortest.Start(b)
	ca := string(emulatortest.CAPEM())
	directory := b.TempDir()
	p := &pod{
		doc: agentconfig.Config{
			Namespace: "rrsa-dev", ServiceAccount: "dev-sa", LogLevel: "debug",
			KMS: agentconfig.Endpoint{Host: cloud.Addr, CABundle: ca}, STS: agentconfig.Endpoint{Host: cloud.Addr, CABundle: ca},
			SecretsDir: filepath.Join(directory, "secrets"), StateDir: filepath.Join(directory, "state"),
			RefreshInterval: config.Duration(3 * time.Second),
			API:             &config.LocalAPI{Socket: filepath.Join(directory, "api"), TokenFile: filepath.Join(directory, "token")},
		},
		env: []string{
			"SSL_CERT_DIR=/nonexistent", // the image has one file of certificates
			"ALIBABA_CLOUD_ROLE_ARN=" + emulatortest.RoleARN,
			"ALIBABA_CLOUD_OIDC_PROVIDER_ARN=" + emulatortest.ProviderARN,
			"ALIBABA_CLOUD_OIDC_TOKEN_FILE=" + cloud.Issuer.TokenFile(b, emulatortest.Subject),
		},
	}
	for i := range secrets {
		secret := emulator.Secret{Name: fmt.Sprint("app/secret-", i), Tags: map[string]string{"env": "dev"},
			Value: emulator.Value{Text: "correct horse"}}
		file := agentconfig.File{Path: fmt.Sprint("file-", i), Mode: 0o400, Secret: secret.Name, Format: config.Raw}
		if i%2 == 0 {
			secret.Value.Text, file.Format = `{"user":"app","password":"correct horse"}`, config.Env
		}
		cloud.Put(b, secret)
		p.doc.Files = append(p.doc.Files, file)
	}
	document, err := json.Marshal(p.doc)
	if err != nil {
		b.Fatal(err)
	}
	p.env = append(p.env, agentconfig.Env+"="+string(document))
	p.empty(b)
	return p
}

// empty makes the pod's volumes as they are before its first container.
func (p *pod) empty(b *testing.B) {
	b.Helper()
	for _, directory := range []string{p.doc.SecretsDir, p.doc.StateDir} {
		if err := os.RemoveAll(directory); err != nil {
			b.Fatal(err)
		}
		if err := os.Mkdir(directory, 0o700); err != nil {
			b.Fatal(err)
		}
	}
}

// init runs kms-agent init to its end and returns the CPU time that it took.
func (p *pod) init(b *testing.B) time.Duration {
	b.Helper()
	took, err := start(b, p.env, build(b).agent, agentconfig.CommandInit).ended()
	if err != nil {
		b.Fatal(err)
	}
	return took
}

// run starts the sidecar and returns once its local API is there.
func (p *pod) run(b *testing.B) *process {
	b.Helper()
	agent := start(b, p.env, build(b).agent, agentconfig.CommandRun)
	agent.waitFor(b, "local API listening")
	return agent
}

// get asks the local API for a secret.
func (p *pod) get(b *testing.B) {
	b.Helper()
	token, err := os.ReadFile(p.doc.API.TokenFile)
	if err != nil {
		b.Fatal(err)
	}
	url := "http://localhost/secretsmanager/get?secretId=" + p.doc.Files[0].Secret
	request, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	request.Header.Set("X-KMS-Token", string(token))
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.doc.API.Socket)
	}
	answer, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}).Do(request)
	if err != nil {
		b.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		b.Fatal(answer.Status)
	}
}
