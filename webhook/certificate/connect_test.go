package certificate

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

// A connecting is a client that connects all the time, as an API server does that sees changes of the configurations late.
type connecting struct {
	stop                  context.CancelFunc
	done                  chan struct{}
	connections, failures atomic.Int64
}

// lateness is how long the client goes on with the caBundle that it has.
const lateness = 200 * time.Millisecond

func connect(t *testing.T, kube *fakekube.Server, address string) *connecting {
	ctx, stop := context.WithCancel(t.Context())
	c := &connecting{stop: stop, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		for bundle := bundleOf(kube, mutatingPath, 0); ctx.Err() == nil; {
			next := bundleOf(kube, mutatingPath, 0)
			for until := time.Now().Add(lateness); time.Now().Before(until) && ctx.Err() == nil; {
				roots := x509.NewCertPool()
				roots.AppendCertsFromPEM(bundle)
				conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, ServerName: serverName})
				c.connections.Add(1)
				if err != nil {
					c.failures.Add(1)
					t.Logf("connection %d: %v", c.connections.Load(), err)
					continue
				}
				conn.Close()
			}
			bundle = next
		}
	}()
	return c
}

// end wants some more connections, and all of them to have been accepted.
func (c *connecting) end(t *testing.T) {
	t.Helper()
	before := c.connections.Load()
	eventually(t, "more connections", func() error {
		if c.connections.Load() < before+20 {
			return fmt.Errorf("%d connections", c.connections.Load())
		}
		return nil
	})
	c.stop()
	<-c.done
	if c.failures.Load() > 0 {
		t.Errorf("%d of %d connections failed", c.failures.Load(), c.connections.Load())
	}
}
