package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/agent/exec"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// exec needs no document: it runs in the application's containers.
func TestExec(t *testing.T) {
	file := filepath.Join(t.TempDir(), agentconfig.EnvFile)
	if err := os.WriteFile(file, []byte(`{"KEY":"the value"}`), 0o400); err != nil {
		t.Fatal(err)
	}
	code, out := output(t, []string{"PATH=" + os.Getenv("PATH")}, "exec", "--env-file="+file, "--", "sh", "-c", `printf "$KEY"; exit 3`)
	if code != 3 || out != "the value" {
		t.Errorf("exit %d, %q", code, out)
	}
	code, out = output(t, nil, "exec", "sh")
	if code != exec.ExitFailed || !strings.HasPrefix(out, "kms-agent: the command is missing") {
		t.Errorf("exit %d, %q", code, out)
	}
}

// The injector leaves --env-file out where the files are where they usually are.
func TestDefaultEnvFile(t *testing.T) {
	if spec, err := podconfig.Parse(map[string]string{podconfig.Prefix + "inject": "true", podconfig.Prefix + "env.A": "a"}); err != nil ||
		config.DefaultSecretsDir+"/"+agentconfig.EnvFile != spec.MountPath+"/"+agentconfig.EnvFile {
		t.Errorf("%s is not in %s: %v", config.DefaultSecretsDir+"/"+agentconfig.EnvFile, spec.MountPath, err)
	}
}
