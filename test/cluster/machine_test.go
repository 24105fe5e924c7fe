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
	"slices"
	"strconv"
	"strings"
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
	for _, name := range []string{"net/ipv4/ip_forward", "vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/netfilter/nf_conntrack_max", "kernel/hostname"} {
		value, _ := os.ReadFile("/proc/sys/" + name) // absent is a value too
		m[name] = string(value)
	}
	for _, dir := range []string{"/var/lib/kubelet", "/var/log/containers", "/var/log/pods", "/var/lib/containerd", "/run/containerd", "/etc/cni"} {
		_, err := os.Stat(dir)
		m[dir] = fmt.Sprint(err)
	}
	m["cgroups"] = strings.Join(clusterCgroups(t), "\n")
	return m
}

// clusterCgroups are those of other clusters too: one may run already when the test starts.
func clusterCgroups(t *testing.T) []string {
	var found []string
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && strings.HasPrefix(d.Name(), "kms-cluster-") {
			found = append(found, path)
			return fs.SkipDir
		}
		return nil // cgroups come and go while we look
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// compare reports what is different now, and processes of the PID namespace inside.
func (m machine) compare(t *testing.T, inside string) {
	t.Helper()
	now := lookAtMachine(t)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if m[name] != now[name] {
			t.Errorf("the cluster changed %s of the machine:\nbefore:\n%s\nafter:\n%s", name, m[name], now[name])
		}
	}
	for _, pid := range pids(t) {
		if namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid)); err == nil && namespace == inside {
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
	inside := pidNamespace(t, nodePID(t, c))
	for _, pid := range pids(t) {
		namespace, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
		args, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if namespace == inside && strings.HasPrefix(string(args), name+"\x00") {
			return pid
		}
	}
	return 0
}
