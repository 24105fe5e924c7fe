package webhook_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/bounds"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
)

// quick is the key exchange that is written in assembly: the race detector slows down the others.
var quick = []tls.CurveID{tls.CurveP256}

// A stranger calls the webhook without any credentials, from an address of his own.
type stranger struct {
	f  *fixture
	ip string
}

func (s stranger) dial(ctx context.Context, protocols ...string) (*tls.Conn, error) {
	d := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(s.ip)}}
	c, err := d.DialContext(ctx, "tcp", strings.TrimPrefix(s.f.url, "https://"))
	if err != nil {
		return nil, err
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: protocols, CurvePreferences: quick}) //nolint:gosec // a stranger
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return secure, nil
}

// announce sends a request's head, with the length that its body is said to have.
func announce(c io.Writer, path string, length int) error {
	_, err := fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: kms-webhook.kms.svc\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n",
		path, length)
	return err
}

// client is one with an address of its own.
func (f *fixture) clientAt(ip string) *http.Client {
	transport := f.client.Transport.(*http.Transport).Clone()
	transport.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}}).DialContext
	return &http.Client{Timeout: f.client.Timeout, Transport: transport}
}

const megabyte = 1 << 20

// emptyContainers is a review of so many bytes, each three of which would be a container.
func emptyContainers(size int) []byte {
	const head, tail = `{"request":{"uid":"1","namespace":"shop","object":{"spec":{"containers":[{}`, `]}}}}`
	return []byte(head + strings.Repeat(",{}", (size-len(head)-len(tail))/3) + tail)
}

// TestStrangersLockNobodyOut: while 200 connections take all that they can get, slowly or as fast as they can, pods are admitted: over
// a connection from elsewhere, and over one from the very address that the strangers have, as where addresses are translated.
func TestStrangersLockNobodyOut(t *testing.T) {
	const strangers, pods, soon = 200, 100, 2 * time.Second
	f := start(t).ready(t)
	f.account("web", map[string]any{"ack.alibabacloud.com/role-arn": shopRole})
	eventually(t, "the ServiceAccount", func() error {
		if r := f.review(t, webhook.MutatePath, "CREATE", pod("web", map[string]any{"secret.db": "app/db"}), nil); !r.Allowed {
			return errors.New(r.Result.Message)
		}
		return nil
	})
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	whole, part := emptyContainers(3*megabyte), emptyContainers(3 * megabyte)[:40<<10]
	var connected atomic.Int64
	keepOn := func(use func(c *tls.Conn) error) {
		s := stranger{f, "127.0.0.1"}
		for first := true; ctx.Err() == nil; first = false {
			c, err := s.dial(ctx)
			if err != nil {
				continue
			}
			if first {
				connected.Add(1)
			}
			closed := context.AfterFunc(ctx, func() { c.Close() })
			for use(c) == nil { //nolint:revive // until the webhook, or the test, has had enough
			}
			closed()
			c.Close()
		}
	}
	uses := []func(c *tls.Conn) error{
		func(c *tls.Conn) error { // nothing, after the handshake
			_, err := c.Read(make([]byte, 1))
			return err
		},
		func(c *tls.Conn) error { // a part, and then a byte now and then
			if err := announce(c, webhook.MutatePath, len(whole)); err != nil {
				return err
			}
			for _, err := c.Write(part); ; _, err = c.Write(part[:1]) {
				if err != nil {
					return err
				}
				time.Sleep(50 * time.Millisecond)
			}
		},
		func(c *tls.Conn) error { // as much as there is
			if err := announce(c, webhook.MutatePath, len(whole)); err != nil {
				return err
			}
			if _, err := c.Write(whole); err != nil {
				return err
			}
			_, err := c.Read(make([]byte, 4096))
			return err
		},
		func(c *tls.Conn) error { // a head that does not end
			for _, err := io.WriteString(c, "POST / HTTP/1.1\r\nHost: x"); ; _, err = io.WriteString(c, "x") {
				if err != nil {
					return err
				}
				time.Sleep(50 * time.Millisecond)
			}
		},
	}
	for i := range strangers {
		group.Go(func() { keepOn(uses[i%len(uses)]) })
	}
	eventually(t, "strangers", func() error { // all try all the time; a loaded machine ends some handshakes by their time limit
		if n := connected.Load(); n < strangers/2 {
			return fmt.Errorf("%d of %d have connected", n, strangers)
		}
		return nil
	})
	body := marshal(t, map[string]any{"request": map[string]any{"uid": "11111111-2222-3333-4444-555555555555", "operation": "CREATE",
		"namespace": "shop",
		"object":    pod("web", map[string]any{"secret.db": "app/db"})}})
	// admit returns how long the slowest of all the pods took.
	admit := func(ip string) (slowest time.Duration) {
		client := f.clientAt(ip)
		for i := range pods {
			if i%10 == 0 {
				client.CloseIdleConnections() // a new connection has to get in, too
			}
			began := time.Now()
			r, err := client.Post(f.url+webhook.MutatePath, "application/json", bytes.NewReader(body))
			if err != nil {
				t.Errorf("pod %d from %s, after %s: %v", i, ip, time.Since(began), err)
				continue
			}
			said, err := io.ReadAll(r.Body)
			r.Body.Close()
			slowest = max(slowest, time.Since(began))
			if err != nil || r.StatusCode != http.StatusOK || !bytes.Contains(said, []byte(`"allowed":true`)) {
				t.Errorf("pod %d from %s: %s after %s, %v: %.300s", i, ip, r.Status, time.Since(began), err, said)
			}
		}
		return slowest
	}
	for _, ip := range []string{"127.0.0.2", "127.0.0.1"} {
		slowest := admit(ip)
		for range 4 { // where the machine is at fault, which has more to do, it is so now and then; strangers are always there
			if slowest > soon {
				slowest = admit(ip)
			}
		}
		if t.Logf("%d pods from %s: the slowest took %s", pods, ip, slowest); slowest > soon {
			t.Errorf("from %s, again and again, a pod of %d takes longer than %s", ip, pods, soon)
		}
	}
}

// TestSlowBodies: what strangers announce and do not send costs nothing; what they send and do not finish is forgotten in a while.
func TestSlowBodies(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(256 * megabyte))
	f := start(t).ready(t)
	const bodies, each = 40, 3 * megabyte
	part := emptyContainers(each)[:each-100_000]
	var announced atomic.Int64
	peak := bounds.Peak(func() {
		var group sync.WaitGroup
		for range bodies {
			group.Go(func() {
				c, err := stranger{f, "127.0.0.1"}.dial(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Error(err)
				}
				if announce(c, webhook.MutatePath, each) == nil { // a connection that waits too long is closed
					announced.Add(1)
				}
				c.Write(part) //nolint:errcheck // it is not read to its end
				if _, err := io.ReadAll(c); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
					t.Error("the connection is still open after a minute")
				}
			})
		}
		group.Wait()
	})
	if n := announced.Load(); n < bodies/2 {
		t.Errorf("%d of %d bodies were announced", n, bodies)
	}
	if most := uint64(80 * megabyte); peak > most {
		t.Errorf("%d bodies of %d bytes take %d bytes at the same time; at most %d are expected", bodies, each, peak, most)
	}
	if r := f.create(t, pod("web", map[string]any{"inject": "false"}), false); !r.Allowed {
		t.Errorf("afterwards: %+v", r.Result)
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// TestOneRequestPerConnection: HTTP/2 would have hundreds of requests in one connection.
func TestOneRequestPerConnection(t *testing.T) {
	f := start(t).ready(t)
	if c, err := (stranger{f, "127.0.0.1"}).dial(t.Context(), "h2"); err == nil {
		c.Close()
		t.Error("HTTP/2 is spoken")
	}
	c, err := stranger{f, "127.0.0.1"}.dial(t.Context(), "h2", "http/1.1")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if p := c.ConnectionState().NegotiatedProtocol; p != "http/1.1" {
		t.Errorf("the protocol is %q", p)
	}
}

// A body may be as long as a real review is, and no longer.
func TestLengths(t *testing.T) {
	f := start(t).ready(t)
	for path, limit := range map[string]int{webhook.MutatePath: 3<<20 + 256<<10, webhook.BarePodsPath: 3<<20 + 256<<10,
		webhook.ValidatePath: 6<<20 + 512<<10} {
		for _, chunked := range []bool{false, true} {
			for more, status := range map[int]int{0: http.StatusOK, 1: http.StatusBadRequest} {
				body := []byte(`{"request":{"uid":"1","namespace":"shop","object":{}}}`)
				var reader io.Reader = bytes.NewReader(append(body, bytes.Repeat([]byte(" "), limit-len(body)+more)...))
				if chunked {
					reader = io.MultiReader(reader)
				}
				r, err := f.client.Post(f.url+path, "application/json", reader)
				if err != nil {
					if status == http.StatusOK {
						t.Errorf("%s, %d bytes: %v", path, limit+more, err)
					}
					continue // the connection was closed before all was sent
				}
				r.Body.Close()
				if r.StatusCode != status {
					t.Errorf("%s, %d bytes, chunked %v: %s", path, limit+more, chunked, r.Status)
				}
			}
		}
	}
}

// counted counts the connections to a listener.
type counted struct {
	net.Listener
	n atomic.Int64
}

func (c *counted) Accept() (net.Conn, error) {
	c.n.Add(1)
	return c.Listener.Accept()
}

// TestReadinessIsCheap: a readiness probe causes no TLS handshake.
func TestReadinessIsCheap(t *testing.T) {
	var admission counted
	f := start(t, func(_ *fixture, o *webhook.Options) {
		admission.Listener = o.Admission
		o.Admission = &admission
	}).ready(t)
	before := admission.n.Load()
	for range 50 {
		if err := getOK(f.health + "/readyz"); err != nil {
			t.Fatal(err)
		}
	}
	if made := admission.n.Load() - before; made > 0 {
		t.Errorf("50 probes made %d connections to the admission server", made)
	}
}

// TestManyProbes: connections to /readyz and /metrics that do nothing keep out neither the kubelet nor Prometheus.
func TestManyProbes(t *testing.T) {
	f := start(t).ready(t)
	for _, url := range []string{f.health + "/readyz", f.metrics} {
		address := strings.Split(url, "/")[2]
		var open []net.Conn
		for range 300 {
			c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			open = append(open, c)
		}
		before := runtime.NumGoroutine()
		if err := getOK(url); err != nil {
			t.Errorf("%s: %v", url, err)
		}
		if before > 600 {
			t.Errorf("%d goroutines wait", before)
		}
		for _, c := range open {
			c.Close()
		}
	}
}

// clientConfig is of a client whose certificate an authority of its own, in dir, has signed.
func clientConfig(t *testing.T, dir string) *tls.Config {
	t.Helper()
	roots := writeCertificate(t, dir)
	pair, err := tls.LoadX509KeyPair(dir+"/tls.crt", dir+"/tls.key")
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots}
}

// TestClientCertificates: with an authority of clients no other caller is answered; the file is followed, and what it says last stays
// while it says nothing.
func TestClientCertificates(t *testing.T) {
	first, second, file := t.TempDir(), t.TempDir(), t.TempDir()+"/client-ca.pem"
	old, renewed := clientConfig(t, first), clientConfig(t, second)
	copyAuthority(t, first, file)
	var o webhook.Options
	f := start(t, func(_ *fixture, changed *webhook.Options) {
		changed.ClientCA = file
		o = *changed
	}).ready(t)
	body := marshal(t, map[string]any{"request": map[string]any{"uid": "11111111-2222-3333-4444-555555555555", "namespace": "shop",
		"object": map[string]any{}}})
	allowed := func(with *tls.Config) error {
		transport := f.client.Transport.(*http.Transport).Clone()
		transport.DisableKeepAlives = true
		if with != nil {
			transport.TLSClientConfig.Certificates = with.Certificates
		}
		r, err := (&http.Client{Transport: transport, Timeout: 10 * time.Second}).Post(f.url+webhook.MutatePath, "application/json",
			bytes.NewReader(body))
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK {
			return errors.New(r.Status)
		}
		return nil
	}
	check := func(when string, old, renewed bool, clients ...*tls.Config) {
		t.Helper()
		for i, want := range []bool{false, old, renewed} {
			if err := allowed(clients[i]); (err == nil) != want {
				t.Errorf("%s, client %d: %v", when, i, err)
			}
		}
	}
	check("at first", true, false, nil, old, renewed)
	copyAuthority(t, second, file)
	check("with another authority", false, true, nil, old, renewed)
	write(t, file, "nothing")
	check("with a broken file", false, true, nil, old, renewed)

	o.Admission, o.Metrics, o.Health = listen(t), listen(t), listen(t)
	if err := webhook.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "no certificate in PEM") {
		t.Errorf("starting with a broken file: %v", err)
	}
}

func copyAuthority(t *testing.T, dir, file string) {
	t.Helper()
	authority, err := os.ReadFile(dir + "/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, string(authority))
}
