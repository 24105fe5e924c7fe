package httpapi

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

func TestListenRefuses(t *testing.T) {
	taken, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	regular := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(regular, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	live := filepath.Join(t.TempDir(), "live")
	socket, err := Listen(t.Context(), live)
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for address, why := range map[string]string{
		"0.0.0.0:0":           "loopback only",
		":0":                  "loopback only",
		"[::]:0":              "loopback only",
		"10.0.0.1:0":          "loopback only",
		"localhost:0":         "loopback only", // what it resolves to is not ours to know
		"2025":                "loopback address with a port",
		taken.Addr().String(): "another program of the pod has the port",
		"/tmp/" + strings.Repeat("x", 99) + "/socket": "at most 107 bytes",
		regular: "not a socket",
		live:    "another agent",
	} {
		listener, err := Listen(t.Context(), address)
		if err == nil {
			listener.Close()
		}
		if err == nil || !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), address) {
			t.Errorf("%s: %v; want %s", address, err, why)
		}
	}
}

func TestPacketsStayOnTheMachine(t *testing.T) {
	listener, err := Listen(t.Context(), Address(0, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	raw, err := accepted.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(func(fd uintptr) {
		if ttl, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_TTL); ttl != 1 || err != nil {
			t.Errorf("TTL %d, %v", ttl, err)
		}
	}); err != nil {
		t.Fatal(err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "api.sock")
	// An agent that was killed leaves its socket.
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()

	listener, err := Listen(t.Context(), Address(2025, path))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o666 {
		t.Errorf("%v, %v; every user of the volume must be able to connect", info.Mode(), err)
	}
	stop := serve(t, Config{Source: newOrigin()}, listener)
	value, err := Client{Address: path, Token: testToken}.Get(t.Context(), Request{Ref: kms.Ref{Name: "app/db"}})
	if err != nil || string(value) != sentinel {
		t.Errorf("%q, %v", value, err)
	}
	stop()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is still there")
	}
}
