package emulator_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/tea"
	"github.com/aliyun/credentials-go/credentials/providers"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

const (
	userKey    = "LTAI-user"
	userSecret = "not a secret & more+"
	readAll    = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"kms:GetSecretValue","Resource":"*"}]}`
)

func trusting(principal string) string {
	return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":` + principal + `}]}`
}

func mayAssume(resource string) string {
	return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Resource":"` + resource + `"}]}`
}

// identities starts a cloud with a user, and with roles whose names say which principal they trust.
func identities(t *testing.T, changes ...func(*emulator.Config)) *emulatortest.Server {
	t.Helper()
	issuer := emulatortest.NewIssuer(t, emulatortest.IssuerURL)
	config := emulatortest.Config(issuer)
	config.Roles[0].Policies = append(config.Roles[0].Policies, mayAssume("*"))
	config.Users = []emulator.User{{
		Name: "deployer", AccessKeys: []emulator.AccessKey{{ID: userKey, Secret: userSecret}},
		Policies: []string{readAll, mayAssume("acs:ram::*:role/trusts-*")},
	}}
	for name, principal := range map[string]string{
		"trusts-user":    `{"RAM":"acs:ram::1234567890123456:user/deployer"}`,
		"trusts-account": `{"RAM":["acs:ram::1234567890123456:root"]}`,
		"trusts-other":   `{"RAM":["acs:ram::999:root"]}`,
		"node":           `{"Service":["ecs.aliyuncs.com"]}`,
	} {
		config.Roles = append(config.Roles, emulator.Role{Name: name, TrustPolicy: trusting(principal), Policies: []string{readAll}})
	}
	config.Roles = append(config.Roles, emulator.Role{
		Account: "999", Name: "trusts-role", TrustPolicy: trusting(`{"RAM":"` + emulatortest.RoleARN + `"}`), Policies: []string{readAll},
	})
	config.Node.Role = "node"
	config.Secrets = []emulator.Secret{
		{Name: "ours", Value: emulator.Value{Text: "x"}},
		{Name: "theirs", Account: "999", Value: emulator.Value{Text: "y"}},
	}
	for _, change := range changes {
		change(&config)
	}
	return emulatortest.StartConfig(t, issuer, config)
}

func assumeAs(t *testing.T, s *emulatortest.Server, c *providers.Credentials, role string,
	change ...func(*providers.RAMRoleARNCredentialsProviderBuilder)) (*providers.Credentials, error) {
	t.Helper()
	b := providers.NewRAMRoleARNCredentialsProviderBuilder().WithStsEndpoint(s.Addr).WithRoleArn(role).
		WithAccessKeyId(c.AccessKeyId).WithAccessKeySecret(c.AccessKeySecret).WithSecurityToken(c.SecurityToken)
	for _, f := range change {
		f(b)
	}
	p, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return p.GetCredentials()
}

func TestAssumeRole(t *testing.T) {
	s := identities(t)
	user := &providers.Credentials{AccessKeyId: userKey, AccessKeySecret: userSecret}
	pod := mustAssume(t, s)
	for _, x := range []struct {
		name   string
		caller *providers.Credentials
		role   string
		secret string
		code   string
	}{
		{"user that the role names", user, "acs:ram::1234567890123456:role/trusts-user", "ours", ""},
		{"user of an account that the role names", user, "acs:ram::1234567890123456:role/trusts-account", "ours", ""},
		{"session, cross-account", pod, "acs:ram::999:role/trusts-role", "theirs", ""},
		{"user that the role does not name", user, "acs:ram::1234567890123456:role/trusts-other", "", "NoPermission"},
		{"user whose policies do not allow it", user, "acs:ram::1234567890123456:role/node", "", "NoPermission"},
		{"session that the role does not name", pod, "acs:ram::1234567890123456:role/trusts-user", "", "NoPermission"},
		{"no such role", user, "acs:ram::1234567890123456:role/missing", "", "EntityNotExist.Role"},
		{"wrong secret", &providers.Credentials{AccessKeyId: userKey, AccessKeySecret: "x"}, "acs:ram::1234567890123456:role/trusts-user", "",
			"SignatureDoesNotMatch"},
		{"no such key", &providers.Credentials{AccessKeyId: "LTAI-x", AccessKeySecret: "x"}, "acs:ram::1234567890123456:role/trusts-user", "",
			"InvalidAccessKeyId.NotFound"},
	} {
		t.Run(x.name, func(t *testing.T) {
			c, err := assumeAs(t, s, x.caller, x.role)
			switch {
			case x.code == "" && err == nil:
				if _, err := get(t, s, c, x.secret); err != nil {
					t.Error(err)
				}
			case x.code == "" || err == nil || !strings.Contains(err.Error(), `"Code":"`+x.code+`"`):
				t.Errorf("got %v, want %q", err, x.code)
			}
		})
	}
	narrow, err := assumeAs(t, s, user, "acs:ram::1234567890123456:role/trusts-user", func(b *providers.RAMRoleARNCredentialsProviderBuilder) {
		b.WithPolicy(`{"Version":"1","Statement":[{"Effect":"Allow","Action":"kms:*","Resource":"*secret/other"}]}`)
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = get(t, s, narrow, "ours")
	refused(t, err, "Forbidden.NoPermission", 403)
	s.ExpireSessions()
	if _, err := assumeAs(t, s, pod, "acs:ram::999:role/trusts-role"); err == nil ||
		!strings.Contains(err.Error(), "InvalidSecurityToken.Expired") {
		t.Errorf("ended session: got %v", err)
	}
}

func TestAccessKeyReadsSecrets(t *testing.T) {
	s := identities(t)
	if _, err := get(t, s, &providers.Credentials{AccessKeyId: userKey, AccessKeySecret: userSecret}, "ours"); err != nil {
		t.Error(err)
	}
	_, err := get(t, s, &providers.Credentials{AccessKeyId: userKey, AccessKeySecret: "x"}, "ours")
	refused(t, err, "SignatureDoesNotMatch", 400)
	_, err = get(t, s, &providers.Credentials{AccessKeyId: userKey, AccessKeySecret: userSecret, SecurityToken: "t"}, "ours")
	refused(t, err, "InvalidSecurityToken.MismatchWithAccessKey", 400)
}

func TestNodeRole(t *testing.T) {
	s := identities(t)
	proxy := s.StartMetadata(t)
	node := func(role string) (*providers.Credentials, error) {
		p, err := providers.NewECSRAMRoleCredentialsProviderBuilder().WithRoleName(role).WithDisableIMDSv1(true).
			WithHttpOptions(&providers.HttpOptions{Proxy: proxy}).Build()
		if err != nil {
			t.Fatal(err)
		}
		return p.GetCredentials()
	}
	c, err := node("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, s, c, "ours"); err != nil {
		t.Error(err)
	}
	if _, err := node("other"); err == nil {
		t.Error("credentials of a role that the node does not have")
	}
	for _, path := range []string{"/latest/meta-data/ram/security-credentials/", "/latest/meta-data/ram/security-credentials/node"} {
		resp, err := http.Get(proxy + path) // IMDSv1: no token
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("without a token: %s %s", resp.Status, body)
		}
	}
	if n := s.Calls().Sum(emulator.Call{Action: "GetNodeCredentials", Code: emulator.CodeOK}); n != 1 {
		t.Errorf("%d calls counted, want 1: %v", n, s.Calls())
	}
	if err := s.DeleteRole("node"); err != nil {
		t.Fatal(err)
	}
	if _, err := node(""); err == nil {
		t.Error("a node without a role has one")
	}
}

func TestRetryAfter(t *testing.T) {
	s := identities(t)
	s.Fault(t, emulator.Fault{Action: "GetSecretValue", Code: "Rejected.Throttling", RetryAfter: emulator.Duration(7 * time.Second)})
	var header string
	client := kmsClient(t, s, &providers.Credentials{AccessKeyId: userKey, AccessKeySecret: userSecret}, nil)
	hook := client.HttpClient.(*httpClient)
	hook.Client.Transport = headerReader{hook.Client.Transport, &header}
	_, err := ask(client, &kms.GetSecretValueRequest{SecretName: tea.String("ours")})
	refused(t, err, "Rejected.Throttling", 429)
	if header != "7" {
		t.Errorf("Retry-After: %q", header)
	}
}

type headerReader struct {
	http.RoundTripper
	got *string
}

func (h headerReader) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := h.RoundTripper.RoundTrip(r)
	if err == nil {
		*h.got = resp.Header.Get("Retry-After")
	}
	return resp, err
}
