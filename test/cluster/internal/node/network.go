//go:build linux

package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// environment is what the node's programs get, and nothing of the user's: a proxy meant for the Internet must not end up
// between the API server and a webhook.
func environment() []string {
	return []string{
		"PATH=" + kubernetesDir + ":" + containerdDir + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/run",
		"LANG=C.UTF-8",
	}
}
