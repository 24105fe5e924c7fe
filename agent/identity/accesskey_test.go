package identity

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

func TestAccessKeyItself(t *testing.T) {
	s := cloud(t)
	source, err := open("access-key", env(config.AccessKeyIDEnv, keyID+"\n", config.AccessKeySecretEnv, keySecret+"\n"), where(s))
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
		source, err := accessKey(AccessKey{ID: "a", Secret: "b"})
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
	values := []string{config.AccessKeyIDEnv, keyID, config.AccessKeySecretEnv, keySecret, config.RoleARNEnv, readerARN,
		config.AccessKeySessionNameEnv, "of-the-secret"}
	source, err := open("access-key", env(values...), where(s))
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
		{"incomplete", keyID, keySecret, readerARN,
			&emulator.Fault{Body: `{"Credentials":{"AccessKeyId":"sentinel-a","AccessKeySecret":"b","SecurityToken":"c"}}`}, "", true},
		{"quotes the secret", keyID, keySecret, readerARN, &emulator.Fault{Code: "InvalidParameter", Message: "bad " + keySecret},
			"InvalidParameter", false},
	} {
		t.Run(x.name, func(t *testing.T) {
			source, err := accessKey(AccessKey{ID: x.id, Secret: x.secret, RoleARN: x.role, STS: where(s)})
			if err != nil {
				t.Fatal(err)
			}
			if x.fault != nil {
				s.Fault(t, *x.fault)
				defer s.ClearFaults()
			}
			_, err = source.Credentials(t.Context())
			var refusal *Error
			if !errors.As(err, &refusal) || refusal.Code != x.code || refusal.Retryable() != x.retryable || refusal.Action != AssumeRole ||
				refusal.RoleARN != x.role {
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
