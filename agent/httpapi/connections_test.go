package httpapi

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener in this process.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
}

func (p pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p pipes) Close() error {
	close(p.closed)
	return nil
}

func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

func TestAConnectionThatSendsNoRequestEnds(t *testing.T) {
	for name, sent := range map[string]string{"nothing": "", "half a header": "GET /v1/app/db HTTP/1.1\r\nX-KMS-"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server, err := New(Config{Source: newOrigin(), Token: testToken})
				if err != nil {
					t.Fatal(err)
				}
				ctx, stop := context.WithCancel(t.Context())
				listener := pipes{make(chan net.Conn), make(chan struct{})}
				ended := make(chan error)
				go func() { ended <- server.Serve(ctx, listener) }()
				client, accepted := net.Pipe()
				listener.connections <- accepted
				begun := time.Now()
				if _, err := io.WriteString(client, sent); err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, client); err != nil {
					t.Error(err)
				}
				if took := time.Since(begun); took > headerLimit+time.Second {
					t.Errorf("it took %s", took)
				}
				stop()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}
