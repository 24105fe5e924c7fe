package localapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/kms-agent-injector/kms-agent-injector/agent/httpapi"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

func TestRation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{TTL: time.Hour})
		begun := time.Now()
		var mu sync.Mutex
		var given []time.Duration
		refused := 0
		ask := func() {
			err := s.turn(t.Context())
			mu.Lock()
			defer mu.Unlock()
			var e *httpapi.Error
			switch {
			case err == nil:
				given = append(given, time.Since(begun))
			case !errors.As(err, &e) || e.Status != http.StatusTooManyRequests || e.RetryAfter <= 0 || e.Recommend == "":
				t.Errorf("%+v", err)
			default:
				refused++
			}
		}
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(ask)
		}
		wg.Wait()
		// At once, and as many as become due while a read waits.
		if want := callBurst + int(callWait/callEvery); len(given) != want || refused != 1000-want || given[callBurst-1] != 0 ||
			given[want-1] != callWait {
			t.Errorf("%d given, %d refused: %v", len(given), refused, given)
		}
		given, begun = nil, time.Now()
		for time.Since(begun) < time.Minute { // a caller that does not stop is served at an even rate
			wg.Go(ask)
			time.Sleep(10 * time.Millisecond)
		}
		wg.Wait()
		if even := int((time.Minute + callWait) / callEvery); len(given) < even*99/100 || len(given) > even*101/100 {
			t.Errorf("%d in a minute", len(given))
		}
		time.Sleep(time.Hour)
		given, begun = nil, time.Now()
		for range callBurst {
			ask()
		}
		if len(given) != callBurst || given[callBurst-1] != 0 {
			t.Errorf("after a rest: %v", given)
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if err := s.turn(ended); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// One container with the token must not use up the quota that all agents of the account share.
func TestTheLocalAPICausesFewCalls(t *testing.T) {
	for name, ask := range map[string]func(i int) httpapi.Request{
		"refreshNow":         func(int) httpapi.Request { return httpapi.Request{Ref: kms.Ref{Name: "app/db"}, RefreshNow: true} },
		"an unknown version": func(int) httpapi.Request { return httpapi.Request{Ref: kms.Ref{Name: "app/db", VersionID: "v9"}} },
		"versions that are not": func(i int) httpapi.Request {
			return httpapi.Request{Ref: kms.Ref{Name: "app/db", VersionID: fmt.Sprint("v", i)}}
		},
		"secrets that are not":   func(i int) httpapi.Request { return httpapi.Request{Ref: kms.Ref{Name: fmt.Sprint("app/", i)}} },
		"refreshNow of one gone": func(int) httpapi.Request { return httpapi.Request{Ref: kms.Ref{Name: "app/none"}, RefreshNow: true} },
	} {
		t.Run(name, func(t *testing.T) {
			p := startPod(t)
			s := p.source(Config{TTL: time.Hour, Size: 10, Stale: true})
			begun := time.Now()
			var wg sync.WaitGroup
			for i := range 500 {
				wg.Go(func() { _, _ = s.Get(t.Context(), ask(i)) })
			}
			wg.Wait()
			most := callBurst + int(time.Since(begun)/callEvery) + 1
			if calls := p.Calls().Sum(emulator.Call{Action: "*GetSecretValue"}); calls > most || calls == 0 {
				t.Errorf("%d calls; at most %d", calls, most)
			}
		})
	}
}

// A value in hand is better than none while the calls are rationed.
func TestRationedReadsGetTheValueInHand(t *testing.T) {
	p := startPod(t)
	s := p.source(Config{TTL: time.Nanosecond, Size: 10, Stale: true})
	wantStatus(t, s, "app/db", 200, "")
	s.calls.SetBurst(1)
	s.calls.SetLimit(rate.Every(time.Hour))
	wantStatus(t, s, "app/db", 200, "")
	wantStatus(t, s, "app/key", http.StatusTooManyRequests, httpapi.CodeTooManyCalls)
}

// 1,000 secrets of 30 kB, the most that KMS stores, stay within the share of the container's memory that is theirs.
func TestTheLocalAPIKeepsABoundedNumberOfBytes(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(64 << 20 / 5 * 4))
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	p := startPod(t)
	s := p.source(Config{TTL: time.Hour, Size: MostValues, Stale: true})
	before := heap()
	for i := range 1000 {
		s.Put(kms.Ref{Name: fmt.Sprint("app/", i)}, kms.Secret{Name: fmt.Sprint("app/", i), Data: make([]byte, 30_000)}, time.Now())
	}
	if grown, most := heap()-before, 64<<20/4; grown > most || grown < most/2 {
		t.Errorf("%d bytes of at most %d", grown, most)
	}
	if secret, err := s.Get(t.Context(), httpapi.Request{Ref: kms.Ref{Name: "app/999"}}); err != nil || len(secret.Data) != 30_000 {
		t.Errorf("the last one: %v, %v", secret, err)
	}
	debug.SetMemoryLimit(math.MaxInt64) // as without a limit
	if most := mostBytes(); most != MostValues*32<<10 {
		t.Errorf("%d bytes without a limit", most)
	}
}
