//go:build linux

package node

import (
	"io"
	"log/slog"
	"net"
)

// forward joins every connection that listener accepts to target. A socket belongs to the network namespace it was made
// in: the listener was made in the machine's, the connections to target are made in the node's.
func forward(listener net.Listener, target string) {
	for {
		outside, err := listener.Accept()
		if err != nil {
			slog.Error("API server port closed", "error", err)
			return
		}
		go func() {
			defer outside.Close()
			inside, err := net.Dial("tcp", target)
			if err != nil {
				return // the client sees its connection close, and retries as with any server that restarts
			}
			defer inside.Close()
			go splice(inside, outside)
			splice(outside, inside)
		}()
	}
}

// splice copies one direction and passes its end on, leaving the other direction open: a watch outlives its request.
func splice(to, from net.Conn) {
	io.Copy(to, from) //nolint:errcheck // either side may end it at any time
	if half, ok := to.(interface{ CloseWrite() error }); ok {
		half.CloseWrite() //nolint:errcheck // as above
	}
}
