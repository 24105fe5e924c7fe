//go:build e2e && linux

package cluster_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster"
)

func TestMain(m *testing.M) {
	cluster.Reexec()
	os.Exit(m.Run())
}

// A cluster from its start to its end, with everything in between that may kill a part of it.
func TestCluster(t *testing.T) {
	before := lookAtMachine(t)
	probe := buildProbe(t)
	options := cluster.Options{Dir: filepath.Join(t.TempDir(), "state"), Images: []string{probe}, Output: t.Output()}
	began := time.Now()
	c := up(t, options)
	t.Logf("up after %s", time.Since(began).Round(time.Millisecond))
	t.Cleanup(func() { down(t, options) })

	first := nodePID(t, c)
	if again := nodePID(t, up(t, options)); again != first {
		t.Errorf("Up of a running cluster started another: %d, %d", first, again)
	}

	programs, err := os.Open(filepath.Dir(c.Kubectl()))
	if err != nil {
		t.Fatal(err)
	}
	defer programs.Close()
	if err := unix.Flock(int(programs.Fd()), unix.LOCK_EX|unix.LOCK_NB); !errors.Is(err, unix.EWOULDBLOCK) {
		t.Errorf("another run may remove the programs of a cluster that is running: %v", err)
	}

	kubectl(t, c, "apply", "-f", "testdata/story.yaml")
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/story", "pod/on-node", "--timeout=5m")
	kubectl(t, c, "wait", "--for=condition=Ready", "pod/web", "-n=kms-emulator", "--timeout=5m")

	t.Run("volumes", func(t *testing.T) { testVolumes(t, c) })
	t.Run("network", func(t *testing.T) { testNetwork(t, c) })
	t.Run("etcd", func(t *testing.T) { testEtcd(t, c) })
	t.Run("two clusters", func(t *testing.T) { testTwo(t, c) })
	for _, name := range []string{"kubelet", "containerd", "kube-apiserver", "etcd", "coredns", "kube-proxy", "kube-controller-manager"} {
		t.Run("kill "+name, func(t *testing.T) { testKill(t, c, name) })
	}

	t.Run("kill all", func(t *testing.T) {
		left := tracesOf(t, c)
		kill(t, nodePID(t, c))
		down(t, options)
		before.compare(t, left)
		down(t, options) // again
	})
	t.Run("start over the dead", func(t *testing.T) {
		kill(t, nodePID(t, up(t, options)))
		c := up(t, options)
		kubectl(t, c, "apply", "-f", "testdata/story.yaml")
		kubectl(t, c, "wait", "--for=condition=Ready", "pod/story", "--timeout=5m")
		left := tracesOf(t, c)
		down(t, options)
		before.compare(t, left)
		if _, err := os.Stat(options.Dir); !os.IsNotExist(err) {
			t.Errorf("the state directory is left: %v", err)
		}
	})
}

func testVolumes(t *testing.T, c *cluster.Cluster) {
	if got := kubectl(t, c, "exec", "story", "-c=app", "--", "/probe", "cat", "/shared/file"); got != "written by probe" {
		t.Errorf("the init container's file has %q", got)
	}
	if got := kubectl(t, c, "exec", "story", "-c=app", "--", "/probe", "cat", "/proc/mounts"); !strings.Contains(got,
		"tmpfs /shared tmpfs ro,") {
		t.Errorf("no read-only tmpfs at /shared:\n%s", got)
	}
	token := kubectl(t, c, "exec", "story", "-c=sidecar", "--", "/probe", "cat", "/token/token")
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Aud      []string
		Iss, Sub string
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(claims), "{[sts.aliyuncs.com] https://kubernetes.default.svc.cluster.local "+
		"system:serviceaccount:default:default}"; got != want {
		t.Errorf("token claims %s, want %s", got, want)
	}
}

func testNetwork(t *testing.T, c *cluster.Cluster) {
	service := kubectl(t, c, "get", "service", "kms-emulator", "-n=kms-emulator", "-o=jsonpath={.spec.clusterIP}")
	pod := kubectl(t, c, "get", "pod", "story", "-o=jsonpath={.status.podIP}")
	for _, host := range []string{"kms-emulator.kms-emulator", "sts-vpc.cn-hangzhou.aliyuncs.com", "kms.cn-hangzhou.aliyuncs.com",
		"abc.cryptoservice.kms.aliyuncs.com"} {
		got := kubectl(t, c, "exec", "story", "-c=app", "--", "/probe", "get", "http://"+host+":443/")
		if !strings.HasPrefix(got, pod+":") { // from the pod's own address, not the node's
			t.Errorf("%s: %q, want a request from %s", host, got, pod)
		}
	}
	if got := kubectl(t, c, "exec", "story", "-c=app", "--", "/probe", "resolve", "kms.cn-hangzhou.aliyuncs.com"); got != "["+service+"]\n" {
		t.Errorf("kms.cn-hangzhou.aliyuncs.com is %s, want the emulator's Service, %s", got, service)
	}
	kubectl(t, c, "exec", "on-node", "--", "/probe", "get", "http://"+service+":443/")
	kubectl(t, c, "exec", "web", "-n=kms-emulator", "--", "/probe", "get", "http://"+service+":443/") // itself, through its Service
	for _, host := range []string{"example.com", "notaliyuncs.com", "absent.kms-emulator"} {
		out, err := tryKubectl(t.Context(), c, "exec", "story", "-c=app", "--", "/probe", "resolve", host)
		if err == nil || !strings.Contains(out, "no such host") {
			t.Errorf("resolve %s: %s, want to be told that there is no such host", host, out)
		}
	}
}

func testEtcd(t *testing.T, c *cluster.Cluster) {
	var dump bytes.Buffer
	if err := c.EtcdDump(t.Context(), &dump); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(dump.Bytes(), []byte("this-is-in-etcd")) {
		t.Errorf("the dump of %d bytes lacks the value of a ConfigMap", dump.Len())
	}
}

// testTwo starts and ends a second cluster beside c, which must not notice.
func testTwo(t *testing.T, c *cluster.Cluster) {
	options := cluster.Options{Dir: filepath.Join(t.TempDir(), "second"), Output: t.Output()}
	t.Cleanup(func() { down(t, options) })
	kubectl(t, up(t, options), "get", "nodes")
	kubectl(t, c, "exec", "story", "-c=app", "--", "/probe", "get", "http://kms.cn-hangzhou.aliyuncs.com:443/")
	down(t, options)
	testNetwork(t, c)
}

func testKill(t *testing.T, c *cluster.Cluster, name string) {
	old := componentPID(t, c, name)
	kill(t, old)
	eventually(t, func() error {
		if pid := componentPID(t, c, name); pid == 0 || pid == old {
			return fmt.Errorf("%s does not run again", name)
		}
		return nil
	})
	var pod string
	eventually(t, func() error {
		out, err := tryKubectl(t.Context(), c, "create", "-o=name", "-f=testdata/after.yaml")
		pod = strings.TrimSpace(out)
		return err
	})
	kubectl(t, c, "wait", "--for=condition=Ready", pod, "--timeout=90s")
	eventually(t, func() error {
		_, err := tryKubectl(t.Context(), c, "exec", "story", "-c=app", "--", "/probe", "get", "http://kms.cn-hangzhou.aliyuncs.com:443/")
		return err
	})
	if t.Failed() {
		t.Log(kubectl(t, c, "get", "nodes,pods,endpointslices", "-A", "-o=wide"))
	}
}
