//go:build linux

package node

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// setUpNetwork makes the pods' bridge in the node's own, so far empty, network namespace. There is no way out of it: the
// cluster needs nothing from outside, and nothing outside can be reached by accident.
//
// Ports of the bridge are isolated (see the CNI configuration), so that packets between pods are routed by the node, and
// a reply finds the address translation of its Service. Kubernetes usually has them seen by br_netfilter instead, a
// module that is not loaded everywhere, and once loaded changes every bridge of the machine.
func setUpNetwork() error {
	for _, args := range []string{
		"link set lo up",
		"link add " + bridge + " type bridge",
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
	for name, value := range map[string]string{
		"ipv4/ip_forward": "1",
		// The node answers for pods on behalf of each other, as isolated ports do not hear each other's questions...
		"ipv4/conf/" + bridge + "/proxy_arp_pvlan": "1",
		// ...and must not tell them to talk directly from then on.
		"ipv4/conf/all/send_redirects":            "0",
		"ipv4/conf/" + bridge + "/send_redirects": "0",
	} {
		if err := os.WriteFile(filepath.Join("/proc/sys/net", name), []byte(value), 0o644); err != nil {
			return fmt.Errorf("set net/%s: %w", name, err)
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
