package emulator_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	kms "github.com/alibabacloud-go/kms-20160120/v3/client"
	"github.com/alibabacloud-go/tea/tea"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

func TestFaultsAtKMS(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("a", "x"), devSecret("b", "x"))
	c := mustAssume(t, s)
	for name, x := range map[string]struct {
		fault  emulator.Fault
		code   string
		status int
	}{
		"status":          {emulator.Fault{Status: 503}, "ServiceUnavailableTemporary", 503},
		"code":            {emulator.Fault{Code: "Rejected.Throttling"}, "Rejected.Throttling", 429},
		"throttled user":  {emulator.Fault{Code: "Throttling.User"}, "Throttling.User", 400},
		"status and code": {emulator.Fault{Status: 429, Code: "Throttling.User", Message: "slow down"}, "Throttling.User", 429},
		"clock ahead":     {emulator.Fault{ClockSkew: emulator.Duration(20 * time.Minute)}, "InvalidTimeStamp.Expired", 400},
		"clock behind":    {emulator.Fault{ClockSkew: emulator.Duration(-20 * time.Minute)}, "InvalidTimeStamp.Expired", 400},
		"late refusal": {emulator.Fault{Status: 500, Code: "InternalFailure", Latency: emulator.Duration(time.Millisecond)}, "InternalFailure",
			500},
	} {
		t.Run(name, func(t *testing.T) {
			s.ResetCalls()
			x.fault.Action, x.fault.Secret, x.fault.Count = "GetSecretValue", "a", 1
			s.Fault(t, x.fault)
			if _, err := get(t, s, c, "b"); err != nil {
				t.Errorf("the fault strikes another secret: %v", err)
			}
			_, err := get(t, s, c, "acs:kms:cn-hangzhou:1234567890123456:secret/a")
			refused(t, err, x.code, x.status)
			if _, err := get(t, s, c, "a"); err != nil {
				t.Errorf("the fault strikes twice: %v", err)
			}
			if left := s.Faults(); len(left) != 0 {
				t.Errorf("faults left: %v", left)
			}
			calls := s.Calls()
			if n := calls.Sum(emulator.Call{Secret: "a", Code: x.code}); n != 1 {
				t.Errorf("%d calls counted with %s, want 1: %v", n, x.code, calls)
			}
			if n := calls.Sum(emulator.Call{Action: "GetSecretValue", Code: emulator.CodeOK}); n != 2 {
				t.Errorf("%d calls counted as successful, want 2: %v", n, calls)
			}
		})
	}
}

func TestBrokenAnswers(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("a", "a value long enough to be cut in two"))
	c := mustAssume(t, s)
	for name, x := range map[string]struct {
		fault emulator.Fault
		code  string
		broke func(error) bool
	}{
		"cut before headers": {emulator.Fault{Cut: "headers"}, emulator.CodeCut, anyError},
		"cut in the body":    {emulator.Fault{Cut: "body"}, emulator.CodeCut, anyError},
		"hang":               {emulator.Fault{Hang: "headers"}, emulator.CodeHang, isTimeout},
		"hang in the body":   {emulator.Fault{Hang: "body"}, emulator.CodeHang, isTimeout},
		"late":               {emulator.Fault{Latency: emulator.Duration(time.Minute)}, emulator.CodeOK, isTimeout},
		"page of HTML":       {emulator.Fault{Status: 502, Body: "<html>"}, "Body", isSyntax},
		"garbage":            {emulator.Fault{Body: "{"}, "Body", anyError},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				s.ResetCalls()
				id := s.Fault(t, x.fault)
				client := kmsClient(t, s, c, nil)
				own := client.HttpClient.(*httpClient)
				own.Timeout = time.Minute
				if x.fault.Hang != "" || x.fault.Latency > 0 {
					own.Timeout = 300 * time.Millisecond
				}
				own.Transport.(*http.Transport).ForceAttemptHTTP2 = protocol == "HTTP/2.0"
				for range 100 { // a loaded machine may give up before the emulator has the request
					_, err := ask(client, &kms.GetSecretValueRequest{SecretName: tea.String("a")})
					if err == nil || !x.broke(err) {
						t.Errorf("got %T %v", err, err)
					}
					if len(s.Calls()) > 0 {
						break
					}
				}
				if n := s.Calls().Sum(emulator.Call{Action: "GetSecretValue", Code: x.code}); n == 0 {
					t.Errorf("%d calls counted as %s: %v", n, x.code, s.Calls())
				}
				if err := s.RemoveFault(id); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func anyError(error) bool { return true }

func isTimeout(err error) bool {
	return strings.Contains(err.Error(), "Client.Timeout") || strings.Contains(err.Error(), "context deadline")
}

func isSyntax(err error) bool {
	var syntax *json.SyntaxError
	return errors.As(err, &syntax) || strings.Contains(err.Error(), "invalid character")
}

// A hanging call is let go when its fault is removed, even one that was used up.
func TestRemovedFaultLetsGo(t *testing.T) {
	for name, count := range map[string]int{"standing": 0, "used up": 1} {
		t.Run(name, func(t *testing.T) {
			s := emulatortest.Start(t)
			id := s.Fault(t, emulator.Fault{Hang: "body", Count: count, Status: 503})
			resp, err := http.Get("https://" + s.Addr)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if err := s.RemoveFault(id); err != nil {
				t.Fatal(err)
			}
			if text, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("got a whole answer: %s", text)
			}
		})
	}
}

func TestThrottling(t *testing.T) {
	var mu sync.Mutex
	now := time.Now()
	s := emulatortest.Start(t, emulator.WithClock(func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}))
	s.Put(t, devSecret("a", "x"))
	c := mustAssume(t, s)
	s.Fault(t, emulator.Fault{MaxQPS: 2})
	for second := range 2 {
		for call := range 4 {
			_, err := get(t, s, c, "a")
			if call < 2 && err != nil {
				t.Errorf("second %d, call %d: %v", second, call, err)
			}
			if call >= 2 {
				refused(t, err, "Rejected.Throttling", 429)
			}
		}
		if _, err := assume(t, s); err == nil || !strings.Contains(err.Error(), "Throttling.User") {
			t.Errorf("STS: got %v, want Throttling.User", err)
		}
		mu.Lock()
		now = now.Add(time.Second)
		mu.Unlock()
	}
}

// An answer without Expiration once made the STS SDK panic; the body fault is for finding out such things.
func TestFaultsAtSTS(t *testing.T) {
	s := emulatortest.Start(t)
	s.Fault(t, emulator.Fault{Action: "AssumeRoleWithOIDC", Count: 1, Body: `{"Credentials":{}}`})
	if _, err := assume(t, s); err == nil || !strings.Contains(err.Error(), "fail to get credentials") {
		t.Errorf("got %v", err)
	}
	if _, err := assume(t, s); err != nil {
		t.Error(err)
	}
}

// Everything at once, for the race detector.
func TestConcurrentUse(t *testing.T) {
	s := emulatortest.Start(t)
	s.Put(t, devSecret("a", "0"))
	c := mustAssume(t, s)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			for range 10 {
				if _, err := get(t, s, c, "a"); err != nil {
					t.Error(err)
				}
			}
		})
		group.Go(func() {
			if _, err := assume(t, s); err != nil {
				t.Error(err)
			}
		})
		group.Go(func() {
			for range 10 {
				if err := s.Rotate("a", emulator.Version{Value: emulator.Value{Text: "1"}}); err != nil {
					t.Error(err)
				}
				if err := s.PutRole(s.Roles()[0]); err != nil {
					t.Error(err)
				}
				id, err := s.AddFault(emulator.Fault{Action: "Other", Status: 500})
				if err != nil {
					t.Error(err)
				}
				if err := s.RemoveFault(id); err != nil {
					t.Error(err)
				}
				s.Secrets()
				s.Calls()
				s.Faults()
			}
		})
	}
	group.Wait()
	if n := s.Calls().Sum(emulator.Call{Action: "GetSecretValue", Code: emulator.CodeOK}); n != 40 {
		t.Errorf("%d calls counted, want 40", n)
	}
}
