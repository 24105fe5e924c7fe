//go:build linux

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// setUpNetwork makes the pods' bridge in the node's own, so far empty, network namespace. There is no way out of it: the
// cluster needs nothing from outside, and nothing outside can be reached by accident.
//
// Ports of the bridge are isolated (see the CNI configuration), so that packets between pods are routed by the node, where
// a reply finds the address translation of its Service. Elsewhere br_netfilter looks into bridged packets for that. It is
// a module that not every machine has loaded, and once loaded it changes every bridge of the machine.
func setUpNetwork() error {
	for _, args := range []string{
		"link set lo up",
		// Without an address of its own a bridge takes its ports' lowest, and changes it when a pod comes whose is lower:
		// all other pods then send to an address that is the node's no more.
		"link add " + bridge + " address 02:00:0a:f4:00:01 type bridge",
		"addr add " + Address + "/24 dev " + bridge,
		"link set " + bridge + " up",
		// kube-proxy translates Service addresses only once a packet has some way to go.
		"route add " + ServiceRange + " dev " + bridge + " src " + Address,
	} {
		cmd := exec.Command("ip", strings.Fields(args)...)
		cmd.Env = environment()
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, bytes.TrimSpace(out))
		}
	}
	for _, s := range []struct {
		name, value string
		optional    bool
	}{
		{name: "ipv4/ip_forward", value: "1"},
		// The node answers for a pod that another asks for, as isolated ports do not hear each other,
		{name: "ipv4/conf/" + bridge + "/proxy_arp_pvlan", value: "1"},
		{name: "ipv4/neigh/" + bridge + "/proxy_delay", value: "0"}, // at once, not after up to 0.8 s
		// and must not tell them to talk directly from then on.
		{name: "ipv4/conf/all/send_redirects", value: "0"},
		{name: "ipv4/conf/" + bridge + "/send_redirects", value: "0"},
		// Where br_netfilter is loaded, it would send a translated packet straight to an isolated port, which drops it.
		{name: "bridge/bridge-nf-call-iptables", value: "0", optional: true},
	} {
		err := os.WriteFile(filepath.Join("/proc/sys/net", s.name), []byte(s.value), 0o644)
		if err != nil && !(s.optional && errors.Is(err, fs.ErrNotExist)) {
			return fmt.Errorf("set net/%s: %w", s.name, err)
		}
	}
	return nil
}

// environment is the environment of the node's programs. It excludes the user's, whose proxy must not be used between the API
// server and a webhook.
func environment() []string {
	return []string{
		"PATH=" + kubernetesDir + ":" + containerdDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/run",
		"LANG=C.UTF-8",
	}
}

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
