package identity

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/openapi"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// sts stands in for the exchange, so that hours pass in a synctest bubble.
type sts struct {
	calls atomic.Int64
	fail  atomic.Bool
	takes time.Duration
	life  time.Duration
}

func (s *sts) assume(context.Context) (Credentials, error) {
	start := time.Now()
	n := s.calls.Add(1)
	time.Sleep(s.takes)
	if s.fail.Load() {
		return Credentials{}, errors.New("STS is away")
	}
	return Credentials{Credentials: openapi.Credentials{SecurityToken: fmt.Sprint("token-", n)}, Expires: start.Add(s.life)}, nil
}

func get(t *testing.T, s *Source) Credentials {
	t.Helper()
	c, err := s.Credentials(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestManyCallersOneExchange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &sts{takes: time.Second, life: time.Hour}
		source := NewSource(Provider{Get: server.assume}, nil, nil)
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { get(t, source) })
		}
		wg.Wait()
		if n := server.calls.Load(); n != 1 {
			t.Errorf("50 callers made %d calls of STS, want 1", n)
		}
	})
}

func TestRefreshesAfterThreeQuarters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &sts{life: time.Hour}
		source := NewSource(Provider{Get: server.assume}, nil, nil)
		get(t, source)
		time.Sleep(40 * time.Minute) // earlier than 45 min - 10 %
		get(t, source)
		if n := server.calls.Load(); n != 1 {
			t.Fatalf("%d calls after 40 minutes, want 1", n)
		}
		time.Sleep(10 * time.Minute) // later than 45 min + 10 %
		if c := get(t, source); c.SecurityToken != "token-2" {
			t.Errorf("after 50 minutes still %s", c.SecurityToken)
		}
	})
}

// Pods that started together do not come back to STS together.
func TestEarlyRefreshesAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct{ renewAfter, least, most time.Duration }{
			{0, 40*time.Minute + 30*time.Second, 49*time.Minute + 30*time.Second}, // three quarters of an hour, give or take a tenth
			{nodeRenewal, 13*time.Minute + 30*time.Second, 16*time.Minute + 30*time.Second},
		} {
			least, most := test.most, test.least
			for range 1000 {
				source := NewSource(Provider{Get: (&sts{life: time.Hour}).assume, RenewAfter: test.renewAfter}, nil, nil)
				get(t, source)
				due := time.Until(source.refreshAt)
				least, most = min(least, due), max(most, due)
			}
			if least < test.least || most > test.most || most-least < (test.most-test.least)*9/10 {
				t.Errorf("due again after %s to %s, want %s to %s", least, most, test.least, test.most)
			}
		}
	})
}

func TestOutageMattersOnlyAfterExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &sts{life: time.Hour}
		source := NewSource(Provider{Get: server.assume}, nil, nil)
		get(t, source)
		server.fail.Store(true)
		time.Sleep(59 * time.Minute)
		for range 10 { // one attempt, then a pause: an outage must not be answered with a storm
			if c := get(t, source); c.SecurityToken != "token-1" {
				t.Fatalf("got %s", c.SecurityToken)
			}
		}
		if n := server.calls.Load(); n != 2 {
			t.Errorf("%d calls, want 2", n)
		}
		time.Sleep(time.Minute)
		if _, err := source.Credentials(t.Context()); err == nil {
			t.Error("expired credentials were handed out")
		}
		server.fail.Store(false)
		if c := get(t, source); c.SecurityToken != "token-4" {
			t.Errorf("after the outage: %s", c.SecurityToken)
		}
	})
}

func TestCallerLeavesWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &sts{takes: time.Minute, life: time.Hour}
		source := NewSource(Provider{Get: server.assume}, nil, nil)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := source.Credentials(ctx)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		// The exchange goes on, and serves later callers.
		if c := get(t, source); c.SecurityToken != "token-1" {
			t.Errorf("got %s", c.SecurityToken)
		}
		// A refresh that hangs does not block callers while the credentials are still valid.
		time.Sleep(50 * time.Minute)
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if c, err := source.Credentials(ctx); err != nil || c.SecurityToken != "token-1" {
			t.Errorf("got %s, %v", c.SecurityToken, err)
		}
		synctest.Wait()
		time.Sleep(time.Minute) // lets the hanging exchange end with the bubble
	})
}

// A trust policy may stay wrong for days. A container that reads through the local API a hundred times a second meanwhile must not
// use up STS's quota, which all pods of the account share.
func TestRefusalsAreNotAskedForAgainAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		refusal, calls := error(&Error{Action: AssumeRoleWithOIDC, Code: "AuthenticationFail.NoPermission"}), 0
		source := sourceOf(func() (Credentials, error) {
			calls++
			return Credentials{Credentials: openapi.Credentials{AccessKeyID: "key"}, Expires: time.Now().Add(time.Hour)}, refusal
		})
		poll := func(d time.Duration) {
			t.Helper()
			for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
				if _, err := source.Credentials(t.Context()); !errors.Is(err, refusal) {
					t.Fatalf("got %v", err)
				}
			}
		}
		poll(time.Minute)
		if calls < 3 || calls > 12 {
			t.Errorf("%d calls of STS in the first minute", calls)
		}
		calls = 0
		poll(10 * time.Minute)
		if calls < 20 || calls > 45 {
			t.Errorf("%d calls of STS in ten minutes", calls)
		}
		refusal = nil // the trust policy was corrected
		time.Sleep(longestRefusal)
		if _, err := source.Credentials(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// After a transient error, or without a token yet, the next caller tries again at once.
func TestWhatMayPassIsAskedForAgain(t *testing.T) {
	for _, err := range []error{&Error{Code: "Throttling.User"}, &Error{Err: errors.New("no route")},
		&TokenError{Path: "/token", Err: errors.New("the file is empty")}} {
		calls := 0
		source := sourceOf(func() (Credentials, error) { calls++; return Credentials{}, err })
		for range 3 {
			if _, got := source.Credentials(t.Context()); !errors.Is(got, err) {
				t.Errorf("got %v, want %v", got, err)
			}
		}
		if calls != 3 {
			t.Errorf("%v: %d calls", err, calls)
		}
	}
}

func TestInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := &sts{life: time.Hour}
		source := NewSource(Provider{Get: server.assume}, nil, nil)
		first := get(t, source)
		source.Invalidate(first)
		second := get(t, source)
		if second.SecurityToken != "token-2" {
			t.Fatalf("got %s", second.SecurityToken)
		}
		source.Invalidate(first) // a slow caller's late news
		if c := get(t, source); c.SecurityToken != "token-2" {
			t.Errorf("newer credentials were given up: %s", c.SecurityToken)
		}
	})
}

func TestPrintingHidesSecrets(t *testing.T) {
	c := Credentials{Credentials: openapi.Credentials{
		AccessKeyID: "STS.id", AccessKeySecret: "sentinel-secret", SecurityToken: "sentinel-token"}}
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		for _, v := range []any{c, &c} {
			if s := fmt.Sprintf(format, v); strings.Contains(s, "sentinel") {
				t.Errorf("%s prints %s", format, s)
			}
		}
	}
}

func TestSessionName(t *testing.T) {
	long := strings.Repeat("n", 63)
	for _, test := range []struct {
		names []string
		want  string
	}{
		{[]string{"shop", "web", "web-7d9c-x2x"}, "shop.web.web-7d9c-x2x"},
		{nil, "kms-agent"},
		{[]string{"a"}, "kms-agent"},
		{[]string{"shop", "web:a/b", "x"}, "shop.web-a-b.x"},
	} {
		if got := SessionName(test.names...); got != test.want {
			t.Errorf("SessionName(%q) = %q, want %q", test.names, got, test.want)
		}
	}
	a, b := SessionName(long, "sa", "pod-a"), SessionName(long, "sa", "pod-b")
	if len(a) != 64 || a == b {
		t.Errorf("long names: %q and %q must be 64 long and differ", a, b)
	}
}

func TestHost(t *testing.T) {
	for _, test := range []struct {
		config STS
		want   string
	}{
		{STS{}, "sts.aliyuncs.com"},
		{STS{VPC: true}, "sts.aliyuncs.com"},
		{STS{Region: "cn-beijing"}, "sts.cn-beijing.aliyuncs.com"},
		{STS{Region: "cn-beijing", VPC: true}, "sts-vpc.cn-beijing.aliyuncs.com"},
		{STS{Region: "cn-hangzhou-finance", VPC: true}, "sts-vpc.cn-hangzhou.aliyuncs.com"},
		{STS{Region: "cn-beijing", VPC: true, Endpoint: "sts.example:8443"}, "sts.example:8443"},
	} {
		if got := test.config.host(); got != test.want {
			t.Errorf("%+v: %s, want %s", test.config, got, test.want)
		}
	}
}

func TestConfigMistakesAreReportedTogether(t *testing.T) {
	_, err := Open(config.RRSA, env(), STS{Endpoint: "https://sts.example"})
	for _, want := range []string{config.RoleARNEnv, config.OIDCProviderARNEnv, config.OIDCTokenFileEnv, config.STSEndpointEnv} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not in: %v", want, err)
		}
	}
}

// Sessions that fall due in an outage of STS are kept, and asked for again at moments that spread, the more often the nearer
// their end.
func TestRetriesOfAnEarlyRefresh(t *testing.T) {
	for _, test := range []struct{ left, least, most time.Duration }{
		{11 * time.Hour, longestPause / 2, longestPause},
		{15 * time.Minute, 150 * time.Second, 5 * time.Minute},
		{3 * time.Minute, 30 * time.Second, time.Minute},
		{20 * time.Second, shortestPause, shortestPause},
	} {
		least, most := test.most, test.least
		for range 1000 {
			pause := retryPause(test.left)
			least, most = min(least, pause), max(most, pause)
		}
		if least < test.least || most > test.most || most-least < (test.most-test.least)*9/10 {
			t.Errorf("with %s left: pauses from %s to %s, want %s to %s", test.left, least, most, test.least, test.most)
		}
	}
}
