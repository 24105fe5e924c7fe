package identity

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

const (
	keyID     = "LTAI5sentinelKey"
	keySecret = "sentinel-secret"
	readerARN = "acs:ram::1234567890123456:role/reader"
	remoteARN = "acs:ram::999:role/remote"
)

// cloud has a user whose key may assume the role reader, which may assume the role remote in another account; and a node.
func cloud(t *testing.T) *emulatortest.Server {
	t.Helper()
	issuer := emulatortest.NewIssuer(t, emulatortest.IssuerURL)
	c := emulatortest.Config(issuer)
	trust := func(principal string) string {
		return `{"Version":"1","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole","Principal":` + principal + `}]}`
	}
	const everything = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`
	c.Users = []emulator.User{{Name: "u", AccessKeys: []emulator.AccessKey{{ID: keyID, Secret: keySecret}}, Policies: []string{everything}}}
	c.Roles = append(c.Roles,
		emulator.Role{Name: "reader", TrustPolicy: trust(`{"RAM":"acs:ram::1234567890123456:root"}`), Policies: []string{everything}},
		emulator.Role{Name: "remote", Account: "999", TrustPolicy: trust(`{"RAM":"` + readerARN + `"}`)},
		emulator.Role{Name: "closed", Account: "999", TrustPolicy: trust(`{"RAM":"acs:ram::7:root"}`)},
		emulator.Role{Name: "node", TrustPolicy: trust(`{"Service":"ecs.aliyuncs.com"}`)},
	)
	c.Node.Role = "node"
	return emulatortest.StartConfig(t, issuer, c)
}

func where(s *emulatortest.Server) STS {
	return STS{Endpoint: s.Addr, Roots: emulatortest.Roots(), SessionName: "shop.web.pod"}
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestAccessKeyItself(t *testing.T) {
	s := cloud(t)
	source, err := Open("access-key", env(envAccessKeyID, keyID+"\n", envAccessKeySecret, keySecret+"\n"), where(s))
	if err != nil {
		t.Fatal(err)
	}
	c := get(t, source)
	if c.AccessKeyID != keyID || c.AccessKeySecret != keySecret || c.SecurityToken != "" || !c.Expires.IsZero() {
		t.Errorf("got another key: %v", c)
	}
	source.Invalidate(c)
	if again := get(t, source); again != c {
		t.Errorf("after a rejection: %v", again)
	}
	if calls := s.Calls(); len(calls) != 0 {
		t.Errorf("an access key needs no calls: %v", calls)
	}
	if text := fmt.Sprintf("%v %+v %#v", c, c, AccessKey{ID: keyID, Secret: keySecret}); strings.Contains(text, "sentinel-") {
		t.Errorf("prints %s", text)
	}
}

func TestAccessKeyDoesNotEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		source, err := NewAccessKey(AccessKey{ID: "a", Secret: "b"})
		if err != nil {
			t.Fatal(err)
		}
		get(t, source)
		time.Sleep(10_000 * time.Hour)
		if c := get(t, source); c.AccessKeyID != "a" {
			t.Errorf("got %v", c)
		}
	})
}

func TestAccessKeyAssumesItsRole(t *testing.T) {
	s := cloud(t)
	values := []string{envAccessKeyID, keyID, envAccessKeySecret, keySecret, envRoleARN, readerARN, envSessionName, "of-the-secret"}
	source, err := Open("access-key", env(values...), where(s))
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now()
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { get(t, source) })
	}
	wg.Wait()
	c := get(t, source)
	if left := c.Expires.Sub(before); c.SecurityToken == "" || left < time.Hour || left > time.Hour+time.Minute {
		t.Errorf("got %v", c)
	}
	if n := s.Calls().Sum(emulator.Call{Action: "AssumeRole", Role: readerARN}); n != 1 {
		t.Errorf("%d calls, want 1: %v", n, s.Calls())
	}
}

func TestRefusalsOfAssumeRole(t *testing.T) {
	s := cloud(t)
	for _, x := range []struct {
		name      string
		id        string
		secret    string
		role      string
		fault     *emulator.Fault
		code      string
		retryable bool
	}{
		{"role that does not trust", keyID, keySecret, "acs:ram::999:role/closed", nil, "NoPermission", false},
		{"no such role", keyID, keySecret, "acs:ram::999:role/none", nil, "EntityNotExist.Role", false},
		{"no such key", "LTAI-none", keySecret, readerARN, nil, "InvalidAccessKeyId.NotFound", false},
		{"wrong secret", keyID, "sentinel-wrong", readerARN, nil, "SignatureDoesNotMatch", false},
		{"throttled", keyID, keySecret, readerARN, &emulator.Fault{Code: "Throttling.User"}, "Throttling.User", true},
		{"page of a proxy", keyID, keySecret, readerARN, &emulator.Fault{Status: 502, Body: "<html>sentinel-body</html>"}, "", true},
		{"cut", keyID, keySecret, readerARN, &emulator.Fault{Cut: emulator.AtBody}, "", true},
		{"incomplete", keyID, keySecret, readerARN, &emulator.Fault{Body: `{"Credentials":{"AccessKeyId":"sentinel-a","AccessKeySecret":"b","SecurityToken":"c"}}`}, "", true},
		{"quotes the secret", keyID, keySecret, readerARN, &emulator.Fault{Code: "InvalidParameter", Message: "bad " + keySecret}, "InvalidParameter", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			source, err := NewAccessKey(AccessKey{ID: x.id, Secret: x.secret, RoleARN: x.role, STS: where(s)})
			if err != nil {
				t.Fatal(err)
			}
			if x.fault != nil {
				s.Fault(t, *x.fault)
				defer s.ClearFaults()
			}
			_, err = source.Credentials(t.Context())
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Code != x.code || refusal.Retryable() != x.retryable || refusal.Action != AssumeRole || refusal.RoleARN != x.role {
				t.Fatalf("got %#v", err)
			}
			for _, bad := range []string{"sentinel-", keyID} {
				if strings.Contains(err.Error(), bad) {
					t.Errorf("leak: %v", err)
				}
			}
		})
	}
}

func TestSecondRole(t *testing.T) {
	s := cloud(t)
	first, err := NewAccessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: where(s)})
	if err != nil {
		t.Fatal(err)
	}
	roles, err := NewRoles(first, readerARN, where(s))
	if err != nil {
		t.Fatal(err)
	}
	second, err := roles.Source(remoteARN)
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := roles.Source(remoteARN); again != second {
		t.Error("one role, two sources")
	}
	get(t, second)
	get(t, second)
	for _, role := range []string{readerARN, remoteARN} {
		if n := s.Calls().Sum(emulator.Call{Action: "AssumeRole", Role: role}); n != 1 {
			t.Errorf("%s was assumed %d times, want once", role, n)
		}
	}

	// Both sessions have been ended: the chain is renewed, once.
	s.ExpireSessions()
	s.ResetCalls()
	second.Invalidate(get(t, second))
	get(t, second)
	if n := s.Calls().Sum(emulator.Call{Code: "InvalidSecurityToken.Expired"}); n != 1 {
		t.Errorf("calls: %v", s.Calls())
	}

	closed, err := roles.Source("acs:ram::999:role/closed")
	if err != nil {
		t.Fatal(err)
	}
	_, err = closed.Credentials(t.Context())
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != "NoPermission" || refusal.Caller != readerARN || refusal.RoleARN != "acs:ram::999:role/closed" {
		t.Errorf("got %v", err)
	}
	if _, err := roles.Source("reader"); err == nil {
		t.Error("a name was taken for an ARN")
	}
}

func TestNodeRole(t *testing.T) {
	s := cloud(t)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // a proxy would answer with another node's role
	source, err := NewNodeRole(NodeRole{Proxy: s.StartMetadata(t)})
	if err != nil {
		t.Fatal(err)
	}
	c := get(t, source)
	if c.SecurityToken == "" || time.Until(c.Expires) > nodeSession {
		t.Errorf("got %v", c)
	}
	get(t, source)
	if n := s.Calls().Sum(emulator.Call{Action: "GetNodeCredentials"}); n != 1 {
		t.Errorf("%d calls, want 1: %v", n, s.Calls())
	}
	// A node's role can be the first of two.
	roles, err := NewRoles(source, "the node's role", where(s))
	if err != nil {
		t.Fatal(err)
	}
	if err := trust(emulatortest.Roots()); err != nil {
		t.Fatal(err)
	}
	reader, err := roles.Source(readerARN)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), "NoPermission") {
		t.Errorf("a role without policies assumed another: %v", err)
	}
}

// What the SDK does not tell: how long a node's credentials last. They are renewed often, and kept while renewal fails.
func TestNodeRoleOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &sts{life: nodeSession}
		source := &Source{assume: server.assume, renewAfter: nodeRenewal}
		get(t, source)
		time.Sleep(20 * time.Minute)
		if c := get(t, source); c.SecurityToken != "token-2" {
			t.Errorf("after 20 minutes: %s", c.SecurityToken)
		}
		server.fail.Store(true)
		time.Sleep(5 * time.Hour)
		if c := get(t, source); c.SecurityToken != "token-2" {
			t.Errorf("in an outage: %s", c.SecurityToken)
		}
	})
}

func TestRefusalsOfTheMetadataService(t *testing.T) {
	s := cloud(t)
	proxy := s.StartMetadata(t)
	for _, x := range []struct {
		name      string
		role      string
		fault     *emulator.Fault
		code      string
		retryable bool
	}{
		{"no such role", "other", nil, "HTTP 404", false},
		{"token refused", "", &emulator.Fault{Action: "GetMetadataToken", Status: 403, Body: "sentinel-body"}, "HTTP 403", false},
		{"role refused", "", &emulator.Fault{Action: "GetNodeRole", Status: 404, Body: "sentinel-body"}, "HTTP 404", false},
		{"broken", "", &emulator.Fault{Action: "GetNodeCredentials", Status: 500, Body: "sentinel-body"}, "HTTP 500", true},
		{"garbage", "", &emulator.Fault{Action: "GetNodeCredentials", Body: "sentinel-body"}, "", true},
		{"incomplete", "", &emulator.Fault{Action: "GetNodeCredentials", Body: `{"AccessKeyId":"sentinel-a","AccessKeySecret":"b","SecurityToken":"c"}`}, "", true},
		{"cut", "", &emulator.Fault{Cut: emulator.AtHeaders}, "", true},
		{"hang", "", &emulator.Fault{Action: "GetMetadataToken", Hang: emulator.AtHeaders}, "", true},
	} {
		t.Run(x.name, func(t *testing.T) {
			if x.fault != nil {
				s.Fault(t, *x.fault)
				defer s.ClearFaults()
			}
			source, err := NewNodeRole(NodeRole{Name: x.role, Proxy: proxy, ConnectTimeout: 100 * time.Millisecond, Timeout: 200 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			_, err = source.Credentials(t.Context())
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Code != x.code || refusal.Retryable() != x.retryable || refusal.Action != GetNodeRole {
				t.Fatalf("got %#v", err)
			}
			if strings.Contains(err.Error(), "sentinel") {
				t.Errorf("leak: %v", err)
			}
		})
	}
	t.Setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true")
	source, err := Open("node-role", env(), STS{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = source.Credentials(t.Context())
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != CodeMetadataDisabled || refusal.Retryable() {
		t.Errorf("got %v", err)
	}
}

func TestIdentitiesThatMissSomething(t *testing.T) {
	for _, x := range []struct {
		kind string
		want []string
	}{
		{"", []string{envRoleARN, envProviderARN, envTokenFile}},
		{"access-key", []string{envAccessKeyID, envAccessKeySecret}},
		{"client-key", []string{`identity "client-key"`}},
	} {
		_, err := Open(x.kind, env(), STS{})
		for _, want := range x.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %s is not in: %v", x.kind, want, err)
			}
		}
	}
}

func TestSessionPolicy(t *testing.T) {
	got, ok := SessionPolicy([]string{"b", "a", "acs:kms:cn-hangzhou:999:secret/c", "b"}, []string{remoteARN})
	const want = `{"Version":"1","Statement":[` +
		`{"Effect":"Allow","Action":"kms:GetSecretValue","Resource":["acs:kms:*:*:secret/a","acs:kms:*:*:secret/b","acs:kms:cn-hangzhou:999:secret/c"]},` +
		`{"Effect":"Allow","Action":"kms:Decrypt","Resource":["*"]},` +
		`{"Effect":"Allow","Action":"sts:AssumeRole","Resource":["acs:ram::999:role/remote"]}]}`
	if !ok || got != want {
		t.Errorf("got %v %s", ok, got)
	}
	if got, ok := SessionPolicy(nil, nil); ok || got != "" {
		t.Errorf("nothing declared: %q", got)
	}
	longest := ""
	for n := 1; ; n++ {
		names := make([]string, n)
		for i := range names {
			names[i] = fmt.Sprintf("app/prod/secret-%04d", i)
		}
		policy, ok := SessionPolicy(names, nil)
		if !ok {
			t.Logf("%d secrets of %d characters fit", n-1, len(names[0]))
			break
		}
		longest = policy
	}
	if len(longest) > 2048 || len(longest) < 1900 {
		t.Errorf("the longest has %d characters", len(longest))
	}
}

func TestSessionPolicyReachesSTS(t *testing.T) {
	s := cloud(t)
	policy, _ := SessionPolicy([]string{"a"}, nil) // not remoteARN
	narrow := where(s)
	narrow.Policy = policy
	first, err := NewAccessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: narrow})
	if err != nil {
		t.Fatal(err)
	}
	roles, err := NewRoles(first, readerARN, where(s))
	if err != nil {
		t.Fatal(err)
	}
	second, err := roles.Source(remoteARN)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := second.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), "NoPermission") {
		t.Errorf("a narrowed session assumed a role: %v", err)
	}
	narrow.Policy = "{}"
	bad, err := NewAccessKey(AccessKey{ID: keyID, Secret: keySecret, RoleARN: readerARN, STS: narrow})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bad.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), "PolicyGrammar") {
		t.Errorf("got %v", err)
	}
}
