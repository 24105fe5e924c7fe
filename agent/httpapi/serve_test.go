package httpapi

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// client is one connection.
type client struct {
	t      *testing.T
	net    net.Conn
	reader *bufio.Reader
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	connection, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	return &client{t, connection, bufio.NewReader(connection)}
}

// get returns the status and whether the server keeps the connection.
func (c *client) get(path string) (status int, kept bool) {
	c.t.Helper()
	fmt.Fprintf(c.net, "GET %s HTTP/1.1\r\nHost: x\r\nX-KMS-Token: %s\r\n\r\n", path, testToken)
	res, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, !res.Close
}

func TestTooManyConnections(t *testing.T) {
	address, _ := start(t, Config{Source: newOrigin(), MaxConn: 3})
	var open []*client
	for range 3 {
		c := dial(t, address)
		if status, kept := c.get("/v1/app/db"); status != 200 || !kept {
			t.Fatalf("%d, kept %v", status, kept)
		}
		open = append(open, c)
	}
	// All of them have sent the token: what is over them gets an answer to /ping, and nothing else.
	over := dial(t, address)
	if status, kept := over.get("/ping"); status != 200 || !kept {
		t.Errorf("ping: %d, kept %v", status, kept)
	}
	if status, kept := over.get("/v1/app/db"); status != 429 || kept {
		t.Errorf("secret by a connection for ping: %d, kept %v", status, kept)
	}
	if status, kept := dial(t, address).get("/v1/app/db"); status != 429 || kept {
		t.Errorf("secret: %d, kept %v", status, kept)
	}
	if status, _ := open[0].get("/v1/app/db"); status != 200 {
		t.Errorf("one of the first: %d", status)
	}
	waiting := dial(t, address)
	if status, kept := waiting.get("/ping"); status != 200 || !kept {
		t.Errorf("ping: %d, kept %v", status, kept)
	}
	for _, c := range open {
		c.net.Close()
	}
	for deadline := time.Now().Add(time.Minute); ; {
		status, _ := dial(t, address).get("/v1/app/db")
		if status == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d after all have gone", status)
		}
	}
	if status, _ := waiting.get("/v1/app/db"); status != 200 {
		t.Errorf("by a connection that was one too many before the others had gone: %d", status)
	}
}

// closed waits until the server has closed the connection.
func (c *client) closed() {
	c.t.Helper()
	if err := c.net.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		c.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, c.reader); errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Error("a connection is still open")
	}
}

// Every container of the pod reaches the port, also one without the token. It cannot keep out those that have it.
func TestStrangersDoNotLockOut(t *testing.T) {
	const maxConn = 20
	address, _ := start(t, Config{Source: newOrigin(), MaxConn: maxConn})
	app := dial(t, address)
	if status, _ := app.get("/v1/app/db"); status != 200 {
		t.Fatal(status)
	}
	var strangers []*client
	for i := range 10 * maxConn {
		c := dial(t, address)
		switch i % 4 {
		case 0: // idle
		case 1:
			fmt.Fprint(c.net, "GET /v1/app/db HTTP/1.1\r\nX-KMS-")
		case 2:
			fmt.Fprint(c.net, "GET /ping HTTP/1.1\r\nHost: x\r\n\r\n")
		case 3:
			fmt.Fprint(c.net, "POST /v1/app/db HTTP/1.1\r\nHost: x\r\nX-KMS-Token: wrong\r\nContent-Length: 1000\r\n\r\n")
		}
		strangers = append(strangers, c)
		if i%maxConn != 0 {
			continue
		}
		if status, kept := app.get("/v1/app/db"); status != 200 || !kept {
			t.Errorf("by the connection that was open before %d others: %d, kept %v", i, status, kept)
		}
		fresh := dial(t, address)
		if status, _ := fresh.get("/v1/app/db"); status != 200 {
			t.Errorf("by a new connection after %d others: %d", i, status)
		}
		fresh.net.Close()
	}
	for _, c := range strangers[:len(strangers)-maxConn-mostStanding] {
		c.closed()
	}
}

// Where all that are served have sent the token, those over them are as few.
func TestConnectionsOverTheLimitAreFew(t *testing.T) {
	address, _ := start(t, Config{Source: newOrigin(), MaxConn: 1})
	app := dial(t, address)
	if status, _ := app.get("/v1/app/db"); status != 200 {
		t.Fatal(status)
	}
	var over []*client
	for range 4 * mostStanding {
		c := dial(t, address)
		over = append(over, c)
	}
	if status, _ := over[len(over)-1].get("/ping"); status != 200 {
		t.Errorf("ping: %d", status)
	}
	for _, c := range over[:len(over)-mostStanding] {
		c.closed()
	}
	if status, kept := app.get("/v1/app/db"); status != 200 || !kept {
		t.Errorf("%d, kept %v", status, kept)
	}
}

// net/http answers OPTIONS * itself unless it is told not to.
func TestOptionsNeedTheToken(t *testing.T) {
	address, _ := start(t, Config{Source: newOrigin()})
	c := dial(t, address)
	fmt.Fprint(c.net, "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n")
	res, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Error(res.Status)
	}
}

func TestHeadersAreSmall(t *testing.T) {
	address, _ := start(t, Config{Source: newOrigin()})
	c := dial(t, address)
	fmt.Fprintf(c.net, "GET /v1/app/db HTTP/1.1\r\nHost: x\r\nX-KMS-Token: %s\r\nX-Large: %s", testToken, strings.Repeat("x", 16<<10))
	res, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(res.Status)
	}
}

// slow is a Source that answers when it is told to.
type slow struct {
	*origin
	asked, answer chan struct{}
}

func (s slow) Get(ctx context.Context, r Request) (*kms.Secret, error) {
	close(s.asked)
	select {
	case <-s.answer:
		return s.origin.Get(ctx, r)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func TestShutdownAnswersWhatItHasBegun(t *testing.T) {
	source := slow{newOrigin(), make(chan struct{}), make(chan struct{})}
	address, stop := start(t, Config{Source: source})
	c := dial(t, address)
	var wg sync.WaitGroup
	wg.Go(func() {
		if status, _ := c.get("/v1/app/db"); status != 200 {
			t.Errorf("a request under way: %d", status)
		}
	})
	<-source.asked
	wg.Go(stop)
	for { // until it accepts no more
		late, err := net.Dial("tcp", address)
		if err != nil {
			break
		}
		late.Close()
	}
	close(source.answer)
	wg.Wait()
}

// Some clients close their side once they have asked, and then read. Whatever they get, it is not an answer without a value.
func TestClientThatHasStoppedSendingGetsNoEmptyAnswer(t *testing.T) {
	source := slow{newOrigin(), make(chan struct{}), make(chan struct{})}
	address, _ := start(t, Config{Source: source})
	c := dial(t, address)
	fmt.Fprintf(c.net, "GET /v1/app/db HTTP/1.1\r\nHost: x\r\nX-KMS-Token: %s\r\n\r\n", testToken)
	<-source.asked
	if err := c.net.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(c.reader, nil); err == nil {
		t.Errorf("status %d with %d bytes", res.StatusCode, res.ContentLength)
		res.Body.Close()
	}
}

// broken is a Source with a bug.
type broken struct{ *origin }

func (broken) Get(context.Context, Request) (*kms.Secret, error) { panic("a bug") }

func TestBugIsInTheLogAndEndsNothing(t *testing.T) {
	var log journal
	address, _ := start(t, Config{Source: broken{newOrigin()}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	c := dial(t, address)
	fmt.Fprintf(c.net, "GET /v1/app/db HTTP/1.1\r\nHost: x\r\nX-KMS-Token: %s\r\n\r\n", testToken)
	if res, err := http.ReadResponse(c.reader, nil); err == nil {
		t.Errorf("status %d", res.StatusCode)
		res.Body.Close()
	}
	if !strings.Contains(log.String(), "a bug") {
		t.Errorf("the log: %s", &log)
	}
	if status, _ := dial(t, address).get("/ping"); status != 200 {
		t.Errorf("ping: %d", status)
	}
}
