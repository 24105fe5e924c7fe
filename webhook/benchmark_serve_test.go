package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/kms-agent-injector/kms-agent-injector/webhook/share"
)

// BenchmarkServe compares what an injection over HTTPS costs the webhook's server with what the least answer costs a bare net/http
// server. Each is a process of its own, so that the client's work counts for neither; they are asked in turns, so that what else
// the machine does counts for both. The ratio is of CPU time; absolute times are the machine's.
//
// The worst case are small pods that come one at a time: a request is a small part of what the network costs, and the bare server's answer
// is short.
func BenchmarkServe(b *testing.B) {
	const turn = 200 // requests: long beside the resolution of a process's CPU time, short beside the machine's moods
	peers := []*peer{startPeer(b, "bare"), startPeer(b, "injector")}
	for _, size := range sizes {
		body := reviewOf(b, size.bytes)
		for _, concurrency := range []int{1, 8} {
			b.Run(fmt.Sprintf("%s/concurrency=%d", size.name, concurrency), func(b *testing.B) {
				var used [2]time.Duration
				for _, p := range peers {
					p.ask(b, body, concurrency, turn)
				}
				for b.Loop() {
					for i, p := range peers {
						before := p.cpu(b)
						p.ask(b, body, concurrency, turn)
						used[i] += p.cpu(b) - before
					}
				}
				requests := float64(b.N * turn)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(float64(used[0].Microseconds())/requests, "bare-cpu-µs")
				b.ReportMetric(float64(used[1].Microseconds())/requests, "cpu-µs")
				b.ReportMetric(used[1].Seconds()/used[0].Seconds(), "CPU")
			})
		}
	}
}

// peerVariable makes this test binary one of the servers that are compared.
const peerVariable = "KMS_WEBHOOK_BENCHMARK_SERVER"

// A peer is a server in a process of its own. It says its address, and then its CPU time for each line that it gets.
type peer struct {
	url    string
	stdin  io.Writer
	stdout *bufio.Reader
	client *http.Client
}

func startPeer(b *testing.B, which string) *peer {
	b.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // itself
	cmd.Env = append(os.Environ(), peerVariable+"="+which)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(which, err)
		}
	})
	p := &peer{stdin: stdin, stdout: bufio.NewReader(stdout), client: &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 8, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a test's own server
	}}}
	p.url = p.line(b)
	return p
}

func (p *peer) line(b *testing.B) string {
	b.Helper()
	line, err := p.stdout.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func (p *peer) cpu(b *testing.B) time.Duration {
	b.Helper()
	fmt.Fprintln(p.stdin)
	n, err := strconv.ParseInt(p.line(b), 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	return time.Duration(n)
}

// ask sends as many requests, at most so many at a time.
func (p *peer) ask(b *testing.B, body []byte, concurrency, requests int) {
	b.Helper()
	var group sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(requests))
	for range concurrency {
		group.Go(func() {
			for left.Add(-1) >= 0 {
				r, err := p.client.Post(p.url, "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				if io.Copy(io.Discard, r.Body); r.StatusCode != http.StatusOK { //nolint:errcheck // then the next request fails
					b.Error(r.Status)
				}
				r.Body.Close()
			}
		})
	}
	group.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

// bePeer serves until the benchmark stops asking for its CPU time.
func bePeer(which string) error {
	server := httptest.NewTLSServer(http.HandlerFunc(bare))
	url := server.URL
	if which == "injector" {
		var err error
		if url, err = serveInjector(server.TLS.Certificates[0]); err != nil {
			return err
		}
	}
	fmt.Println(url)
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return err
		}
		fmt.Println(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return nil
}

// serveInjector starts the admission server as it is, but for its certificate, and returns where it takes pods.
func serveInjector(c tls.Certificate) (url string, err error) {
	directory, err := os.MkdirTemp("", "kms-webhook-benchmark-")
	if err != nil {
		return "", err
	}
	admission, err := permissive(directory)
	os.RemoveAll(directory)
	if err != nil {
		return "", err
	}
	debug.SetGCPercent(GCPercent)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	o := Options{Certificate: fixed{c}, Log: logr.Discard()}
	server, err := admissionServer(o, admission, newMetrics(func() time.Time { return time.Time{} }), new(atomic.Bool))
	if err != nil {
		return "", err
	}
	go func() { panic(share.ServeTLS(context.Background(), server, listener)) }() // until the process ends
	return fmt.Sprintf("https://%s%s", listener.Addr(), MutatePath), nil
}

// fixed is a certificate that needs no renewal.
type fixed struct{ tls.Certificate }

func (f fixed) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &f.Certificate, nil
}
func (fixed) Run(context.Context) error { return nil }
func (fixed) Ready() error              { return nil }
