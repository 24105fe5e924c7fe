package httpapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
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
	// /ping has two more.
	for range 2 {
		c := dial(t, address)
		if status, _ := c.get("/ping"); status != 200 {
			t.Errorf("ping: %d", status)
		}
		open = append(open, c)
	}
	if status, kept := dial(t, address).get("/ping"); status != 429 || kept {
		t.Errorf("ping over its limit: %d, kept %v", status, kept)
	}
	if status, kept := open[4].get("/v1/app/db"); status != 429 || kept {
		t.Errorf("secret by a connection for ping: %d, kept %v", status, kept)
	}
	if status, _ := open[0].get("/v1/app/db"); status != 200 {
		t.Errorf("one of the first: %d", status)
	}
	for _, c := range open {
		c.net.Close()
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		status, _ := dial(t, address).get("/v1/app/db")
		if status == 200 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d after all have gone", status)
		}
	}
}

// slow is a Source that answers when it is told to.
type slow struct {
	*origin
	asked, answer chan struct{}
}

func (s slow) Get(ctx context.Context, r Request) (*Secret, error) {
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

func (broken) Get(context.Context, Request) (*Secret, error) { panic("a bug") }

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
