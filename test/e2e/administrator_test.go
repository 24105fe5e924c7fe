//go:build e2e

package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// The access key of the RAM user "administrator" in the emulator's configuration, who may do everything.
const (
	administratorsKey    = "LTAI-of-the-administrator"
	administratorsSecret = "not-a-secret-of-any-administrator"
)

// administratorsEnvironment is the environment of a terminal in which aliyun is installed and has the administrator's access key.
// It is a terminal on this machine: the emulator, in the cluster, is behind a proxy.
func administratorsEnvironment(t *testing.T) []string {
	t.Helper()
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "./test/aliyun")
	build.Dir = repository
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build aliyun: %v\n%s", err, out)
	}
	return append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"),
		"HTTPS_PROXY="+emulatortest.StartProxy(t, forwarded(t, "kms-emulator", "deploy/kms-emulator", "8443")), "NO_PROXY=",
		"SSL_CERT_FILE="+filepath.Join(installDir(), "webhook", "emulator-ca.pem"),
		"ALIBABA_CLOUD_ACCESS_KEY_ID="+administratorsKey, "ALIBABA_CLOUD_ACCESS_KEY_SECRET="+administratorsSecret, "ALIBABA_CLOUD_REGION_ID=cn-hangzhou")
}

var forwarding = regexp.MustCompile(`^Forwarding from (127\.0\.0\.1:\d+) `)

// forwarded is where a pod's port is on this machine until the test ends.
func forwarded(t *testing.T, namespace, pod, port string) (addr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), kubectlPath, "--kubeconfig", kubeconfig, "-n", namespace, "port-forward", pod, ":"+port)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // if the test's context, which ends now, has not done it already
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if m := forwarding.FindStringSubmatch(lines.Text()); m != nil {
			go func() {
				for lines.Scan() { // each connection is a line
				}
			}()
			return m[1]
		}
	}
	t.Fatalf("kubectl port-forward %s says no port", pod)
	return ""
}
