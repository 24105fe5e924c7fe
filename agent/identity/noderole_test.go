package identity

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

func TestNodeRole(t *testing.T) {
	s := cloud(t)
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1") // a proxy would answer with another node's role
	source, err := nodeRole(NodeRole{Proxy: s.StartMetadata(t)})
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
	roles, err := NewRoles(source, "the node's role", where(s), nil)
	if err != nil {
		t.Fatal(err)
	}
	reader := roles.Source(readerARN)
	if _, err := reader.Credentials(t.Context()); err == nil || !strings.Contains(err.Error(), "NoPermission") {
		t.Errorf("a role without policies assumed another: %v", err)
	}
}

// What the SDK does not tell: how long a node's credentials last. They are renewed often, and kept while renewal fails.
func TestNodeRoleOutlivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &sts{life: nodeSession}
		source := NewSource(Provider{Get: server.assume, RenewAfter: nodeRenewal}, nil, nil)
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
		{"incomplete", "", &emulator.Fault{Action: "GetNodeCredentials",
			Body: `{"AccessKeyId":"sentinel-a","AccessKeySecret":"b","SecurityToken":"c"}`}, "", true},
		{"cut", "", &emulator.Fault{Cut: emulator.AtHeaders}, "", true},
		{"hang", "", &emulator.Fault{Action: "GetMetadataToken", Hang: emulator.AtHeaders}, "", true},
	} {
		t.Run(x.name, func(t *testing.T) {
			if x.fault != nil {
				s.Fault(t, *x.fault)
				defer s.ClearFaults()
			}
			limit := time.Minute
			if x.name == "hang" {
				limit = 200 * time.Millisecond
			}
			source, err := nodeRole(NodeRole{Name: x.role, Proxy: proxy, ConnectTimeout: limit, Timeout: limit})
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
	source, err := open("node-role", env(), STS{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = source.Credentials(t.Context())
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Code != CodeMetadataDisabled || refusal.Retryable() {
		t.Errorf("got %v", err)
	}
}
