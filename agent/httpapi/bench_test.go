package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/cache"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// cached is a Source as agents have it.
type cached struct {
	*cache.Cache[Request, *kms.Secret]
}

func newCached() cached {
	return cached{cache.New(cache.Config[Request, *kms.Secret]{
		Fetch:   func(context.Context, Request) (*kms.Secret, error) { return dbSecret, nil },
		Version: func(s *kms.Secret) string { return s.VersionID }, TTL: time.Hour, Size: 1000,
	})}
}

// BenchmarkGet compares a GET from the cache with a bare net/http handler that writes the same bytes, turn about over two
// connections of one process: "of-bare" is how many requests the agent answers in the time of one of the other. Times are medians,
// which others on the machine hardly change.
func BenchmarkGet(b *testing.B) {
	address, _ := start(b, Config{Source: newCached()})
	body, err := os.ReadFile("testdata/kms-text.json")
	if err != nil {
		b.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	bare := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		_, _ = w.Write(body)
	})}
	go func() { _ = bare.Serve(listener) }()
	defer bare.Close()

	agent, other := newGetter(b, address), newGetter(b, listener.Addr().String())
	if len(agent.answer) != len(other.answer) {
		b.Fatalf("%s\nis not as long as\n%s", agent.answer, other.answer)
	}
	var ours, theirs []time.Duration
	b.ReportAllocs()
	for b.Loop() {
		begun := time.Now()
		other.get(b)
		between := time.Now()
		agent.get(b)
		ours = append(ours, time.Since(between))
		theirs = append(theirs, between.Sub(begun))
	}
	slices.Sort(ours)
	slices.Sort(theirs)
	agentTime, bareTime := float64(ours[len(ours)/2]), float64(theirs[len(theirs)/2])
	b.ReportMetric(agentTime, "agent-ns/get")
	b.ReportMetric(bareTime, "bare-ns/get")
	b.ReportMetric(bareTime/agentTime, "of-bare")
}

// getter sends the same request again and again and costs little itself.
type getter struct {
	connection net.Conn
	reader     *bufio.Reader
	request    []byte
	answer     []byte
}

func newGetter(b *testing.B, address string) *getter {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { connection.Close() })
	g := &getter{connection: connection, reader: bufio.NewReader(connection), answer: make([]byte, 4096)}
	g.request = fmt.Appendf(nil, "GET /secretsmanager/get?secretId=app/db HTTP/1.1\r\nHost: localhost\r\nX-KMS-Token: %s\r\n\r\n", testToken)
	if _, err := connection.Write(g.request); err != nil {
		b.Fatal(err)
	}
	n, err := g.reader.Read(g.answer) // one segment
	if err != nil {
		b.Fatal(err)
	}
	g.answer = g.answer[:n]
	return g
}

func (g *getter) get(b *testing.B) {
	if _, err := g.connection.Write(g.request); err != nil {
		b.Fatal(err)
	}
	for got := 0; got < len(g.answer); {
		n, err := g.reader.Read(g.answer[got:])
		if err != nil {
			b.Fatal(err)
		}
		got += n
	}
}

// BenchmarkHandler is the work without the connection.
func BenchmarkHandler(b *testing.B) {
	server, err := New(Config{Source: newCached(), Token: testToken, Allow: []string{"app/db"}})
	if err != nil {
		b.Fatal(err)
	}
	req, err := http.NewRequestWithContext(b.Context(), http.MethodGet, "/secretsmanager/get?secretId=app/db", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	req.Header.Set("X-KMS-Token", testToken)
	w := nowhere{http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		server.ServeHTTP(w, req)
	}
}

type nowhere struct{ header http.Header }

func (n nowhere) Header() http.Header       { return n.header }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
