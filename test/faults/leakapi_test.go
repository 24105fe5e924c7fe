package faults

import (
	"context"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// askAPI reads what may be read, and looks at the refusals.
func (p *pod) askAPI(e *evidence, token string) {
	p.t.Helper()
	get := func(token string, args ...string) (string, error) {
		c := p.command(p.t.Context(), append([]string{"get"}, args...)...)
		c.Env = append(c.Env, "KMS_AGENT_API="+p.doc.API.Socket, "KMS_TOKEN="+token)
		out, err := c.CombinedOutput()
		return string(out), err
	}
	if out, err := get(token, "--refresh-now", "app/key"); err != nil || !strings.Contains(out, sentinel) {
		p.t.Errorf("get: %v: %s", err, out)
	}
	for name, fails := range map[string]func() (string, error){
		"get without the token":     func() (string, error) { return get("x", "app/key") },
		"get of another secret":     func() (string, error) { return get(token, "other/key") },
		"get of what is not there":  func() (string, error) { return get(token, "app/none") },
		"get of an unknown version": func() (string, error) { return get(token, "--version-id=v9", "app/key") },
		"get through a broken proxy": func() (string, error) {
			defer p.cloud.ClearFaults()
			p.cloud.Fault(p.t, emulator.Fault{Action: "*GetSecretValue", Status: 403, Body: sentinel})
			return get(token, "--version-id=v2", "app/db")
		},
	} {
		out, err := fails()
		if err == nil || out == "" {
			p.t.Errorf("%s: %v: %s", name, err, out)
		}
		e.look(name, []byte(out))
	}
	p.lookAtRefusals(e, token)
}

// lookAtRefusals looks at all that the local API says, headers too, to requests that it does not answer with a value.
func (p *pod) lookAtRefusals(e *evidence, token string) {
	p.t.Helper()
	defer p.cloud.ClearFaults()
	for _, secret := range []string{"app/proxy", "app/quoting"} {
		p.cloud.Put(p.t, emulator.Secret{Name: secret, Tags: map[string]string{"env": "dev"}, Value: emulator.Value{Text: sentinel}})
	}
	p.cloud.Fault(p.t, emulator.Fault{Action: "*GetSecretValue", Secret: "app/proxy", Status: 502, Body: sentinel})
	p.cloud.Fault(p.t, emulator.Fault{Action: "*GetSecretValue", Secret: "app/quoting", Code: "SignatureDoesNotMatch", Message: "CAIS " +
		sentinel})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.doc.API.Socket)
		}}}
	for _, c := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", "/v1/app/key", "x", http.StatusForbidden},
		{"GET", "/v1/app/key?nonsense=1", token, http.StatusBadRequest},
		{"POST", "/v1/app/key", token, http.StatusMethodNotAllowed},
		{"GET", "/elsewhere", token, http.StatusNotFound},
		{"GET", "/v1/other/key", token, http.StatusForbidden},
		{"GET", "/v1/app/none", token, http.StatusNotFound},
		{"GET", "/v1/app/proxy", token, http.StatusBadGateway},
		{"GET", "/v1/app/quoting", token, http.StatusBadRequest},
	} {
		request, err := http.NewRequestWithContext(p.t.Context(), c.method, "http://agent"+c.path, http.NoBody)
		if err != nil {
			p.t.Fatal(err)
		}
		request.Header.Set("X-KMS-Token", c.token)
		response, err := client.Do(request)
		if err != nil {
			p.t.Fatal(err)
		}
		answer, err := httputil.DumpResponse(response, true)
		if response.Body.Close(); err != nil || response.StatusCode != c.status {
			p.t.Errorf("%s %s: %v, %s", c.method, c.path, err, answer)
		}
		e.look(c.method+" "+c.path, answer)
	}
}
