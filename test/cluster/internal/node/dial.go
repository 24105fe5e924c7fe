//go:build linux

package node

import (
	"context"
	"fmt"
	"net"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// Path returns how the machine sees a path of the node's file system.
func (p *Process) Path(inside string) string { return fmt.Sprintf("/proc/%d/root%s", p.PID, inside) }

// Dial connects to an address of the node's own network.
func (p *Process) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	type result struct {
		conn net.Conn
		err  error
	}
	done := make(chan result, 1)
	go func() {
		// Never unlocked: a thread in a foreign namespace must end with its goroutine and not be used by another.
		runtime.LockOSThread()
		conn, err := p.dialHere(ctx, network, address)
		done <- result{conn, err}
	}()
	r := <-done
	return r.conn, r.err
}

func (p *Process) dialHere(ctx context.Context, network, address string) (net.Conn, error) {
	namespace, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", p.PID))
	if err != nil {
		return nil, err
	}
	defer namespace.Close()
	if err := unix.Setns(int(namespace.Fd()), unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("enter the node's network: %w", err)
	}
	// A literal address is dialled by this very goroutine, hence this thread.
	return new(net.Dialer).DialContext(ctx, network, address)
}
