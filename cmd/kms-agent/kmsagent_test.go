package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// An agent without the webhook in real processes: token, agent, get, and the end.
func TestStandalone(t *testing.T) {
	env, directory, cloud := pod(t)
	token, toml, bundle := filepath.Join(directory, "token"), filepath.Join(directory, "config.toml"), filepath.Join(directory, "ca.pem")
	for path, text := range map[string]string{
		toml:   fmt.Sprintf("[Server]\nHttpPort = 0\n[KMS]\nRegion = \"cn-hangzhou\"\nEndpoint = %q\n", cloud.Addr),
		bundle: string(emulatortest.CAPEM()),
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env = append(env[1:], "SSL_CERT_FILE="+bundle, "ALIBABA_CLOUD_STS_ENDPOINT="+cloud.Addr, "KMS_TOKEN=file://"+token)

	if code, out := output(t, env, "agent", toml); code != exitFailed || !strings.Contains(out, "KMS_TOKEN: read the token") {
		t.Errorf("without a token: exit %d, %s", code, out)
	}
	if code, out := output(t, env, "token", token); code != 0 || out != "" {
		t.Fatalf("token: exit %d, %s", code, out)
	}
	agent := command(t, env, "agent", toml)
	stderr, err := agent.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	env = append(env, "KMS_AGENT_API="+waitFor(t, stderr, "serving").Address)
	go io.Copy(os.Stderr, stderr)
	code, out := output(t, env, "get", "app/key")
	if code != 0 || out != "sentinel" {
		t.Errorf("get: exit %d, %s", code, out)
	}
	if code, out := output(t, env, "get", "app/none"); code != exitFailed || !strings.Contains(out, "Forbidden.ResourceNotFound") {
		t.Errorf("get of nothing: exit %d, %s", code, out)
	}
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("the agent's end: %v", err)
	}
	for _, name := range []string{"agent", "token", "get"} {
		if code, out := output(t, env, name); code != exitMisuse || !strings.Contains(out, "usage: kms-agent "+name) {
			t.Errorf("%s without arguments: exit %d, %s", name, code, out)
		}
	}
}
