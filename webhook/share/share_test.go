package share_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

func take(t *testing.T, l *share.Lease, n int) (hurry bool) {
	t.Helper()
	hurry, err := l.Take(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return hurry
}

// One source gets half. A waiting caller goes on when another gives memory back, and is refused when its time is over.
func TestBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := share.NewBytes(100)
		greedy, over, other := b.Lease("10.0.0.1"), b.Lease("10.0.0.1"), b.Lease("10.0.0.2")
		if take(t, greedy, 50) {
			t.Error("half of all is over the limit")
		}
		if !take(t, over, 10) {
			t.Error("more than half of all for one source is not over the limit")
		}
		take(t, other, 30) // at once: the other source has its half
		started := time.Now()
		late := b.Lease("10.0.0.1")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := late.Take(ctx, 1); !errors.Is(err, share.ErrBusy) || time.Since(started) != time.Second {
			t.Errorf("after %s: %v", time.Since(started), err)
		}
		go func() {
			time.Sleep(time.Second)
			greedy.Release()
		}()
		take(t, late, 1)
		for _, l := range []*share.Lease{late, over, other} {
			l.Release()
		}
		if take(t, b.Lease("10.0.0.3"), 50) {
			t.Error("what was given back is gone")
		}
	})
}

// Requests that all have a part and wait for the rest do not wait for one another, and the first to go over the limit is that of the
// source that has the least.
func TestBytesOfManyAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := share.NewBytes(1000)
		const requests, pieces = 40, 10
		done := make(chan string, 2*requests)
		request := func(source string) {
			l := b.Lease(source)
			defer l.Release()
			for range pieces {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				_, err := l.Take(ctx, 10)
				cancel()
				if err != nil {
					t.Error(source, err)
				}
				time.Sleep(time.Millisecond)
			}
			done <- source
		}
		for range requests {
			go request("10.0.0.1")
		}
		synctest.Wait()
		go request("10.0.0.2")
		before := 0
		for i := range requests + 1 {
			if <-done == "10.0.0.2" {
				before = i
			}
		}
		if before > requests/2 {
			t.Errorf("%d requests of one source were done before the only one of another", before)
		}
	})
}

// A caller that may exceed the limit does not block the others indefinitely, nor does one that gives up.
func TestBytesAfterGivingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := share.NewBytes(10)
		first, second := b.Lease("a"), b.Lease("b")
		take(t, first, 100)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := second.Take(ctx, 100); !errors.Is(err, share.ErrBusy) {
			t.Errorf("two requests are over the limit: %v", err)
		}
		second.Release()
		first.Release()
		if !take(t, b.Lease("c"), 100) {
			t.Error("no holder may go over the limit any more")
		}
	})
}

func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := share.NewRate(10, 5)
		for i := range 5 {
			if !r.Allow("a") {
				t.Errorf("the %dth is one too many", i+1)
			}
		}
		if r.Allow("a") || !r.Allow("b") {
			t.Error("a key's share is not its own")
		}
		started := time.Now()
		if err := r.Wait(t.Context(), "a"); err != nil || time.Since(started) != 100*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(started), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if err := r.Wait(ctx, "a"); !errors.Is(err, share.ErrBusy) {
			t.Error(err)
		}
	})
}

// Keys that strangers make up are forgotten when their buckets are full again.
func TestRateForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := share.NewRate(1000, 1)
		used := func() int64 {
			var stats runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&stats)
			return int64(stats.HeapAlloc)
		}
		before := used()
		for i := range 100_000 {
			r.Allow(time.Duration(i).String())
			time.Sleep(time.Millisecond)
		}
		if kept := used() - before; kept > 4<<20 {
			t.Errorf("%d bytes are kept", kept)
		}
		runtime.KeepAlive(r)
	})
}

// A full listener closes what is of the least use: idle connections of the source that has the most, not one that gets answers.
func TestListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const most = 20
	listener := share.Limit(inner, most)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.RemoteAddr) }),
		ConnState: listener.Track}
	go server.Serve(listener) //nolint:errcheck // until it is closed
	defer server.Close()

	from := func(ip string) *net.Dialer { return &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}} }
	used := &http.Client{Transport: &http.Transport{DialContext: from("127.0.0.1").DialContext}}
	other := &http.Client{Transport: &http.Transport{DialContext: from("127.0.0.2").DialContext}}
	get := func(c *http.Client) string {
		t.Helper()
		r, err := c.Get("http://" + inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		said, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(said)
	}
	same, others := get(used), get(other)
	get(used) // so that the server has seen the end of the first answer
	get(other)
	for range 3 * most {
		idle, err := from("127.0.0.1").DialContext(t.Context(), "tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
	}
	fresh := &http.Client{Transport: &http.Transport{DialContext: from("127.0.0.1").DialContext}}
	get(fresh)
	if get(used) != same || get(other) != others {
		t.Error("a connection that had answers was closed before one that had none")
	}
}

// An answer leaves by one write, whatever its length, and is whole when the connection ends with it.
func TestAnswersLeaveAtOnce(t *testing.T) {
	for name, start := range map[string]func(*httptest.Server){
		"plain": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
				if err != nil {
					http.Error(w, "too long", http.StatusRequestEntityTooLarge)
					return
				}
				if r.URL.Path == "/last" {
					w.Header().Set("Connection", "close")
				}
				w.Header().Set("Content-Length", strconv.Itoa(len(body))) // else there is a last chunk
				w.Write(body)
			}))
			counted := &countingListener{Listener: server.Listener}
			server.Listener = share.Limit(counted, 10)
			server.Config.MaxHeaderBytes = 1 << 10
			start(server)
			defer server.Close()
			post := func(path string, n int) (int, string) {
				t.Helper()
				r, err := server.Client().Post(server.URL+path, "", strings.NewReader(strings.Repeat("x", n)))
				if err != nil {
					t.Fatal(err)
				}
				defer r.Body.Close()
				got, err := io.ReadAll(r.Body)
				if err != nil {
					t.Fatal(err)
				}
				return r.StatusCode, string(got)
			}
			post("/", 0) // the handshake
			for _, n := range []int{1, 3 << 10, 4 << 10, 6 << 10} {
				got, least := "", int64(math.MaxInt64)
				for range 20 { // a read that net/http begins beside the answer may come late, and sends what is there
					before := counted.writes.Load()
					_, got = post("/", n)
					least = min(least, counted.writes.Load()-before)
				}
				if len(got) != n || least != 1 {
					t.Errorf("%d of %d bytes came, by %d writes", len(got), n, least)
				}
			}
			for _, n := range []int{1, 6 << 10, 100 << 10} {
				if _, got := post("/last", n); len(got) != n {
					t.Errorf("%d of the last %d bytes came", len(got), n)
				}
			}
			// A refusal in the middle of a request is whole, too, and the connection ends in order.
			connection, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer connection.Close()
			if server.TLS != nil {
				connection = tls.Client(connection, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // the test's own server
			}
			io.WriteString(connection, "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 100<<10))
			if got, err := io.ReadAll(connection); err != nil || !strings.Contains(string(got), " 431 ") {
				t.Errorf("%q, %v", got, err)
			}
			if code, got := post("/", 2<<20); code != http.StatusRequestEntityTooLarge || got != "too long\n" {
				t.Errorf("%d %q", code, got)
			}
		})
	}
}

type countingListener struct {
	net.Listener
	writes atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{c.(*net.TCPConn), &l.writes}, nil
}

type countingConn struct {
	*net.TCPConn
	writes *atomic.Int64
}

func (c countingConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.TCPConn.Write(p)
}
