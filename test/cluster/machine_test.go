//go:build e2e && linux

package cluster_test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster"
)

// machine is what a cluster could leave behind, or change, on the machine it ran on.
type machine map[string]string

func lookAtMachine(t *testing.T) machine {
	t.Helper()
	m := machine{}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	m["mounts"] = string(mounts)
	for name, command := range map[string]string{
		"links":    "ip -o link | cut -d: -f2",
		"routes":   "ip route",
		"nftables": "nft list tables",
	} {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
		m[name] = string(out)
	}
	for _, name := range []string{"net/ipv4/ip_forward", "vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops",
		"net/netfilter/nf_conntrack_max", "kernel/hostname"} {
		value, _ := os.ReadFile("/proc/sys/" + name) // absent is a value too
		m[name] = string(value)
	}
	for _, dir := range []string{"/var/lib/kubelet", "/var/log/containers", "/var/log/pods", "/var/lib/containerd", "/run/containerd",
		"/etc/cni"} {
		_, err := os.Stat(dir)
		m[dir] = fmt.Sprint(err)
	}
	return m
}

// traces are what a cluster's leftovers would be known by. Other clusters may come and go on the machine meanwhile.
type traces struct{ pidNamespace, cgroup string }

func tracesOf(t *testing.T, c *cluster.Cluster) traces {
	t.Helper()
	kubelet, err := os.ReadFile(filepath.Join(c.Dir(), "conf/kubelet.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	root := regexp.MustCompile(`cgroupRoot: /(\S+)`).FindSubmatch(kubelet)
	if root == nil {
		t.Fatalf("kubelet's configuration names no cgroup:\n%s", kubelet)
	}
	found := traces{pidNamespace: pidNamespace(t, nodePID(t, c)), cgroup: string(root[1])}
	if len(found.cgroups(t)) == 0 {
		t.Fatalf("a running cluster has no cgroup %s", found.cgroup)
	}
	return found
}

func (c traces) cgroups(t *testing.T) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && d.Name() == c.cgroup {
			found = append(found, path)
		}
		return nil // cgroups come and go while we look
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// compare reports what is different now, and traces of the cluster.
func (m machine) compare(t *testing.T, cluster traces) {
	t.Helper()
	now := lookAtMachine(t)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] != now[name] {
			t.Errorf("the cluster changed %s of the machine:\nbefore:\n%s\nafter:\n%s", name, m[name], now[name])
		}
	}
	if left := cluster.cgroups(t); len(left) > 0 {
		t.Errorf("cgroups are left: %q", left)
	}
	for _, pid := range pids(t) {
		if namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err == nil && namespace == cluster.pidNamespace {
			t.Errorf("process %d of the cluster still runs", pid)
		}
	}
}

func pids(t *testing.T) []int {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var all []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

func nodePID(t *testing.T, c *cluster.Cluster) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(c.Dir(), "node.json"))
	if err != nil {
		t.Fatal(err)
	}
	var record struct{ PID int }
	if err := json.Unmarshal(data, &record); err != nil {
		t.Fatal(err)
	}
	return record.PID
}

func pidNamespace(t *testing.T, pid int) string {
	t.Helper()
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		t.Fatal(err)
	}
	return namespace
}

// componentPID finds a component of c by the name it was started as, or is 0.
func componentPID(t *testing.T, c *cluster.Cluster, name string) int {
	t.Helper()
	pid, err := c.Component(name)
	if err != nil {
		t.Fatal(err)
	}
	return pid
}
