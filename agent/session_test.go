package agent

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// The session name of a call in ActionTrail names the pod.
func TestSessionNamesThePod(t *testing.T) {
	p := newPod(t)
	names := make(chan string, 10)
	sts := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		form, _ := url.ParseQuery(string(body))
		names <- form.Get("RoleSessionName")
		r.Body = io.NopCloser(bytes.NewReader(body))
		p.cloud.ServeHTTP(w, r)
	}))
	defer sts.Close()
	p.doc.STS = agentconfig.Endpoint{
		Host:     sts.Listener.Addr().String(),
		CABundle: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: sts.Certificate().Raw})),
	}
	p.init()
	if got := <-names; got != "rrsa-dev.dev-sa.web-7d9c-x2x" || len(names) > 0 {
		t.Errorf("the session is called %q, and there are %d more", got, len(names))
	}
}

// With the administrator's session policy the agent's session is no wider than what the pod declares, whatever its role may read.
func TestSessionIsNarrowedToWhatIsDeclared(t *testing.T) {
	const reader, remote, undeclared = "acs:ram::999:role/reader", "acs:kms:cn-hangzhou:999:secret/remote",
		"acs:kms:cn-hangzhou:999:secret/undeclared"
	everything := `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	for _, narrow := range []bool{false, true} {
		p := newPod(t,
			agentconfig.File{Path: "key", Mode: 0o400, Secret: "app/key", Format: config.Raw},
			agentconfig.File{Path: "remote", Mode: 0o400, Secret: remote, Format: config.Raw, RoleARN: reader})
		p.doc.SessionPolicy = narrow
		p.doc.API = &config.LocalAPI{Allow: []string{"shared/*"}}
		p.doc.Env = []config.Variable{{Name: "USER", Secret: "app/variable", Key: "name"}}
		own := p.cloud.Roles()[0]
		own.Policies = []string{everything}
		for _, role := range []emulator.Role{own, {
			Account: "999", Name: "reader", Policies: own.Policies,
			TrustPolicy: `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":{"RAM":"` + emulatortest.RoleARN +
				`"}}]}`,
		}} {
			if err := p.cloud.PutRole(role); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"app/variable", "shared/ca", "app/undeclared"} {
			p.cloud.Put(t, emulator.Secret{Name: name, Value: emulator.Value{Text: `{"name":"sentinel"}`}})
		}
		for _, name := range []string{"remote", "undeclared"} {
			p.cloud.Put(t, emulator.Secret{Account: "999", Name: name, Value: emulator.Value{Text: "sentinel"}})
		}
		a := p.agent()
		for ref, may := range map[kms.Ref]bool{
			{Name: "app/key"}: true, {Name: "app/variable"}: true, {Name: "shared/ca"}: true, {Name: remote, RoleARN: reader}: true,
			{Name: "app/undeclared"}: !narrow, {Name: undeclared, RoleARN: reader}: !narrow,
		} {
			_, err := a.source.Read(t.Context(), ref)
			if may != (err == nil) || err != nil && !strings.Contains(err.Error(), "Forbidden.NoPermission") {
				t.Errorf("narrowed %t: %s: %v", narrow, ref, err)
			}
		}
	}
}

// A session that cannot be narrowed is not had at all.
func TestSessionThatCannotBeNarrowedIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(p *pod)
		why    string
	}{
		"too many secrets": {func(p *pod) {
			for i := range 100 {
				p.doc.Env = append(p.doc.Env, config.Variable{Name: fmt.Sprint("A", i), Secret: fmt.Sprintf("app/secret-%020d", i)})
			}
		}, "STS takes 2048"},
		"the node's role": {func(p *pod) { p.doc.Identity.Kind = config.NodeRole }, "use another identity"},
		"an access key without a role": {func(p *pod) { p.doc.Identity.Kind = config.AccessKey; p.env[config.AccessKeyRoleEnv] = "" },
			"has no session"},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPod(t)
			p.doc.SessionPolicy = true
			c.change(p)
			if _, err := p.open(); err == nil || !strings.Contains(err.Error(), c.why) {
				t.Errorf("%v; want %s", err, c.why)
			}
		})
	}
}
