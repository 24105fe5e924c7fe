package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/emulatortest"
)

// asCommand makes the test binary behave as kms-agent.
const asCommand = "KMS_AGENT_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Env = append([]string{asCommand + "=1"}, env...)
	return c
}

// output runs the command and returns its exit code, and what it printed.
func output(t *testing.T, env []string, args ...string) (int, string) {
	t.Helper()
	out, err := command(t, env, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		return exit.ExitCode(), string(out)
	}
	return 0, string(out)
}

// pod returns the environment of an agent with one secret, its directory, and its cloud.
func pod(t *testing.T) (env []string, directory string, cloud *emulatortest.Server) {
	t.Helper()
	cloud = emulatortest.Start(t)
	cloud.Put(t, emulator.Secret{Name: "app/key", Tags: map[string]string{"env": "dev"}, Value: emulator.Value{Text: "sentinel"}})
	directory = t.TempDir()
	endpoint := agentconfig.Endpoint{Host: cloud.Addr, CABundle: string(emulatortest.CAPEM())}
	doc, err := json.Marshal(agentconfig.Config{
		KMS: endpoint, STS: endpoint, SecretsDir: directory, StateDir: t.TempDir(), RefreshInterval: config.Duration(time.Hour),
		Files: []agentconfig.File{{Path: "key", Mode: 0o400, Secret: "app/key", Format: config.Raw}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return []string{
		agentconfig.Env + "=" + string(doc),
		"ALIBABA_CLOUD_ROLE_ARN=" + emulatortest.RoleARN,
		"ALIBABA_CLOUD_OIDC_PROVIDER_ARN=" + emulatortest.ProviderARN,
		"ALIBABA_CLOUD_OIDC_TOKEN_FILE=" + cloud.Issuer.TokenFile(t, emulatortest.Subject),
	}, directory, cloud
}

func TestMisuseTeaches(t *testing.T) {
	env, _, _ := pod(t)
	for _, test := range []struct {
		env  []string
		args []string
		want string
	}{
		{nil, nil, commands},
		{nil, []string{"start"}, `"start" is not a command`},
		{nil, []string{"init", "now"}, commands},
		{nil, []string{"init"}, "KMS_AGENT_CONFIG is empty"},
		{[]string{agentconfig.Env + `={"secretDir":"/x"}`}, []string{"run"}, "secretDir"},
		{env[:1], []string{"init"}, "ALIBABA_CLOUD_ROLE_ARN is not set"},
		{append([]string{"DEBUG=web,dara"}, env...), []string{"init"}, `remove "dara" from DEBUG`},
		{append([]string{"GODEBUG=x509sha1=1,http2debug=2"}, env...), []string{"init"}, `remove http2debug from GODEBUG`},
	} {
		code, out := output(t, test.env, test.args...)
		if code != exitMisuse || !strings.Contains(out, test.want) {
			t.Errorf("%q: exit %d, %s, want %q", test.args, code, out, test.want)
		}
	}
}

func TestHelp(t *testing.T) {
	for _, ask := range []string{"help", "--help", "-h"} {
		if code, out := output(t, nil, ask); code != 0 || out != usage {
			t.Errorf("%s: exit %d, %s", ask, code, out)
		}
	}
}

func TestVersion(t *testing.T) {
	if code, out := output(t, nil, "version"); code != 0 || !strings.HasPrefix(out, "kms-agent ") {
		t.Errorf("exit %d, %s", code, out)
	}
}

func TestInitFails(t *testing.T) {
	env, _, cloud := pod(t)
	if err := cloud.DeleteSecret("app/key"); err != nil {
		t.Fatal(err)
	}
	code, out := output(t, env, "init")
	if code != exitFailed || strings.Count(strings.TrimSpace(out), "\n") != 0 || !strings.Contains(out, "Forbidden.ResourceNotFound") {
		t.Errorf("exit %d, want one line:\n%s", code, out)
	}
	if code, out := output(t, env, "ready"); code != exitFailed || !strings.Contains(out, "no files yet") {
		t.Errorf("ready: exit %d, %s", code, out)
	}
}

// The postStart hook waits for the files, which another process writes, and ends when it is told to.
func TestReadyWaits(t *testing.T) {
	env, _, _ := pod(t)
	wait := command(t, env, "ready", "--wait")
	if err := wait.Start(); err != nil {
		t.Fatal(err)
	}
	gone := command(t, env, "ready", "--wait")
	if err := gone.Start(); err != nil {
		t.Fatal(err)
	}
	if err := gone.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if gone.Wait() == nil {
		t.Error("it was told to end, and says that there are files")
	}
	if code, out := output(t, env, "init"); code != 0 {
		t.Fatalf("init: exit %d, %s", code, out)
	}
	if err := wait.Wait(); err != nil {
		t.Errorf("with the files: %v", err)
	}
}

// A Job's podFailurePolicy tells an outage from a mistake by the exit code.
func TestInitSaysThatTheSameMaySucceedLater(t *testing.T) {
	env, _, cloud := pod(t)
	cloud.Fault(t, emulator.Fault{Action: "*GetSecretValue", Status: 503, Code: "ServiceUnavailableTemporary"})
	c := command(t, env, "init")
	stderr, err := c.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	for lines := bufio.NewScanner(stderr); lines.Scan(); { // until the end
		log.WriteString(lines.Text())
		if strings.Contains(lines.Text(), "trying again") {
			if err := c.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
				t.Fatal(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitAgain {
		t.Errorf("%v\n%s", err, &log)
	}
}

func TestTerminationMessageIsWrittenOnlyWhereItIsRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "termination-log")
	terminated(path, "this is not written")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("outside of a container a file was made: %v", err)
	}
	if err := os.WriteFile(path, []byte("something older and longer"), 0o600); err != nil {
		t.Fatal(err)
	}
	terminated(path, "the cause")
	if got, err := os.ReadFile(path); err != nil || string(got) != "the cause" {
		t.Errorf("got %q, %v", got, err)
	}
}

// The story of a pod in real processes: init, sidecar, kill -9 while the cloud is down, and the end.
func TestLifeOfAPod(t *testing.T) {
	env, directory, cloud := pod(t)
	file := filepath.Join(directory, "key")
	wantFile := func() {
		t.Helper()
		if data, err := os.ReadFile(file); err != nil || string(data) != "sentinel" {
			t.Fatalf("got %q, %v", data, err)
		}
	}
	if code, out := output(t, env, "init"); code != 0 {
		t.Fatalf("init: exit %d, %s", code, out)
	}
	wantFile()
	if code, out := output(t, env, "ready"); code != 0 {
		t.Errorf("ready: exit %d, %s", code, out)
	}
	cloud.Fault(t, emulator.Fault{Status: 503})

	for _, end := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		sidecar := command(t, env, "run")
		stderr, err := sidecar.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := sidecar.Start(); err != nil {
			t.Fatal(err)
		}
		waitFor(t, stderr, "took over")
		wantFile()
		if err := sidecar.Process.Signal(end); err != nil {
			t.Fatal(err)
		}
		sidecar.Wait()
		if end == syscall.SIGTERM && sidecar.ProcessState.ExitCode() != 0 {
			t.Errorf("%s: exit %d", end, sidecar.ProcessState.ExitCode())
		}
		wantFile()
	}
	if n := cloud.Calls().Sum(emulator.Call{}); n != 2 {
		t.Errorf("%d calls in all, want one of STS and one of KMS", n)
	}
}

// said is a line of an agent's log.
type said struct{ Msg, Address string }

// waitFor reads until a line has the message; the test's own time limit ends it.
func waitFor(t *testing.T, r io.Reader, message string) (line said) {
	t.Helper()
	scanner := bufio.NewScanner(r)
	for scanner.Scan() {
		if json.Unmarshal(scanner.Bytes(), &line) == nil && strings.Contains(line.Msg, message) {
			return line
		}
	}
	t.Fatalf("it ended without %q", message)
	return line
}

func TestTerminationMessageFits(t *testing.T) {
	long := strings.Repeat("é", 4000)
	text := terminationMessage(long)
	if len(text) > maxTermination || !utf8.ValidString(text) || !strings.HasSuffix(text, "log)") {
		t.Errorf("%d bytes, ends in %q", len(text), text[len(text)-20:])
	}
	if terminationMessage("short") != "short" {
		t.Error("a short message was changed")
	}
}
