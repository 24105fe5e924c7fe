package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// Address is where an agent listens that is told a port or, if there is one, a socket.
func Address(port int, socket string) string {
	if socket != "" {
		return socket
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

// Listen opens a loopback address, 127.0.0.1:2025, or a Unix socket, given by its full path. Nothing else: what is served
// are secrets without encryption. Packets have a TTL of 1, so that no route out of the pod carries them.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	if filepath.IsAbs(address) {
		return listenUnix(ctx, address)
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("listen on %q: it must be a loopback address with a port, or the full path of a socket: %w", address, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("listen on %q: the local API is on loopback only, such as 127.0.0.1:2025, "+
			"because it serves secrets without encryption", address)
	}
	config := net.ListenConfig{Control: shortRange}
	config.SetMultipathTCP(false) // Go's default, which has no TTL
	listener, err := config.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("listen on %s: another program of the pod has the port; "+
			"give the API another one (api-port, or HttpPort) or a socket (api-socket): %w", address, err)
	}
	return listener, err
}

// shortRange sets the TTL, which accepted connections inherit. A kernel that refuses leaves what loopback gives anyway.
func shortRange(network, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		if network == "tcp6" {
			_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IPV6, syscall.IPV6_UNICAST_HOPS, 1)
			return
		}
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TTL, 1)
	})
}

// maxSocketPath is the kernel's limit in bytes.
const maxSocketPath = 107

func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxSocketPath {
		return nil, fmt.Errorf("listen on %s: a socket's path has at most %d bytes", path, maxSocketPath)
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	// As for the token file: the containers that share the volume run as different users, and no other container sees it.
	if err := os.Chmod(path, 0o666); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// removeStale makes room where an agent that was killed has left its socket. One that answers, or a file that is no
// socket, stays.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("listen on %s: there is a file that is not a socket", path)
	}
	dialer := net.Dialer{Timeout: time.Second}
	connection, err := dialer.DialContext(ctx, "unix", path)
	if err == nil {
		connection.Close()
		return fmt.Errorf("listen on %s: another agent is serving there", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("listen on %s: there is a socket that cannot be asked whether it is in use: %w", path, err)
	}
	return os.Remove(path)
}
