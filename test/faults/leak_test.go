package faults

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	agentexec "github.com/kms-agent-injector/kms-agent-injector/agent/exec"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/source"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator"
)

// Every value of a secret in this package has this word in it, and those that begin with it have the other in base64.
const (
	sentinel       = "sentinel"
	sentinelBase64 = "c2VudGluZW"
)

// otherUser runs the agent if the test may choose: for root, /proc has no secrets.
const otherUser = 65532

// evidence is everything that is visible of an agent outside of the pod's containers, by the place where it was seen.
type evidence struct {
	t       *testing.T
	secrets []string // that must not be in it
	session []string // those of them that are the STS session's
	seen    int
}

// look fails the test if one of the secrets is in text.
func (e *evidence) look(where string, text []byte) {
	e.t.Helper()
	e.seen += len(text)
	for _, s := range e.secrets {
		if i := bytes.Index(text, []byte(s)); i >= 0 {
			e.t.Errorf("%s has a secret in it (%.12s…): %.300s", where, s, text[max(0, i-150):])
		}
	}
}

// gather is evidence about a pod: it knows the values, the sessions and the pod's own token.
func gather(t *testing.T, p *pod) *evidence {
	t.Helper()
	token, err := os.ReadFile(p.token)
	if err != nil {
		t.Fatal(err)
	}
	signature := token[bytes.LastIndexByte(token, '.')+1:]
	return &evidence{t: t, secrets: []string{sentinel, sentinelBase64, "CAIS", string(signature)}} // CAIS begins the security tokens of STS
}

// command is the real kms-agent, in an environment of its own, with the pod's document.
func (p *pod) command(ctx context.Context, args ...string) *exec.Cmd {
	p.t.Helper()
	document, err := json.Marshal(p.doc)
	if err != nil {
		p.t.Fatal(err)
	}
	c := exec.CommandContext(ctx, program, args...)
	c.Env = []string{agentconfig.Env + "=" + string(document), "TMPDIR=" + p.directory("tmp"), "PATH=" + os.Getenv("PATH")}
	for _, name := range []string{"ALIBABA_CLOUD_ROLE_ARN", "ALIBABA_CLOUD_OIDC_PROVIDER_ARN", "ALIBABA_CLOUD_OIDC_TOKEN_FILE",
		agentconfig.PodNameEnv} {
		c.Env = append(c.Env, name+"="+p.env(name))
	}
	c.Dir = p.directory("tmp")
	return c
}

// directory is one beside the pod's others, which the agent's user may write to.
func (p *pod) directory(name string) string {
	p.t.Helper()
	path := filepath.Join(filepath.Dir(p.doc.StateDir), name)
	if err := os.MkdirAll(path, 0o700); err != nil {
		p.t.Fatal(err)
	}
	return path
}

// newLeakyPod has every channel by which an agent can reveal a secret: files, variables, the local API, metrics, the log at its most
// verbose level, and notifications.
func newLeakyPod(t *testing.T) *pod {
	p := newPod(t)
	root, err := os.MkdirTemp("", "leak") // short: it has a socket in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	p.doc.SecretsDir, p.doc.StateDir = filepath.Join(root, "secrets"), filepath.Join(root, "state")
	for _, name := range []string{"secrets", "state", "api", "tmp"} {
		p.directory(name)
	}
	token, err := os.ReadFile(p.token)
	if err != nil {
		t.Fatal(err)
	}
	p.token = filepath.Join(root, "token")
	if err := os.WriteFile(p.token, token, 0o400); err != nil {
		t.Fatal(err)
	}
	p.doc.Env = []config.Variable{{Name: "API_KEY", Secret: "app/key"}, {Name: "PASSWORD", Secret: "app/db", Key: "password"}}
	p.doc.EnvMode = 0o400
	p.doc.Program = filepath.Join(p.directory("api"), "kms-agent")
	return p
}

// asOtherUser gives the pod's directories to a user without rights, and has commands run as that one; without root they run as
// the test's.
func (p *pod) asOtherUser(commands ...*exec.Cmd) {
	p.t.Helper()
	if os.Getuid() != 0 {
		return
	}
	err := filepath.WalkDir(filepath.Dir(p.doc.StateDir), func(path string, _ fs.DirEntry, err error) error {
		err = errors.Join(err, os.Lchown(path, otherUser, otherUser))
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a running agent renames its files into place
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, c := range commands {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: otherUser, Gid: otherUser, NoSetGroups: true}}
	}
}

// A pod's whole life: nothing that the agent writes, answers or shows of itself holds a value, but its files, the answers of
// the local API to callers with its token, and the environment of the process that it becomes.
func TestNothingLeaksFromAPodThatWorks(t *testing.T) {
	p := newLeakyPod(t)
	e := gather(t, p)
	told := make(chan []byte, 100)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		told <- body
	}))
	t.Cleanup(app.Close)
	p.doc.OnChange = app.URL + "/reload"
	p.doc.API = &config.LocalAPI{Socket: filepath.Join(p.directory("api"), "s"), TokenFile: filepath.Join(p.directory("api"), "token"),
		Allow: []string{"app/*"}}
	p.doc.MetricsPort = -1

	first := p.command(t.Context(), agentconfig.CommandInit)
	p.asOtherUser(first)
	out, err := first.CombinedOutput()
	if err != nil {
		t.Fatalf("init: %v\n%s", err, out)
	}
	e.look("init's output", out)
	e.session = p.session()
	e.secrets = append(e.secrets, e.session...)

	sidecar := p.command(t.Context(), agentconfig.CommandRun)
	var log journal
	sidecar.Stdout, sidecar.Stderr = &log, &log
	p.asOtherUser(sidecar)
	if err := sidecar.Start(); err != nil {
		t.Fatal(err)
	}
	p.until("the local API", func() bool { return p.command(t.Context(), agentconfig.CommandReady).Run() == nil })
	p.put(1, 2)
	e.look("the notification", <-told)
	token, err := os.ReadFile(p.doc.API.TokenFile)
	if err != nil || len(token) == 0 {
		t.Fatal(err)
	}
	e.secrets = append(e.secrets, string(token))

	p.askAPI(e, string(token))
	p.lookAround(e, sidecar.Process.Pid)
	var metrics string
	p.until("the metrics", func() bool { metrics = log.address("metrics listening"); return metrics != "" })
	for _, path := range []string{"/metrics", "/readyz"} {
		e.look(path, get(t, "http://"+metrics+path))
	}
	p.cloud.Fault(t, emulator.Fault{Action: "*GetSecretValue", Status: 502, Body: "<html>" + sentinel + "</html>"})
	p.until("a refresh that fails", func() bool { return strings.Contains(log.String(), "refresh failed") })
	p.becomes(e)
	if err := sidecar.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := sidecar.Wait(); err != nil {
		t.Errorf("run: %v", err)
	}
	e.look("run's output", []byte(log.String()))
	p.lookAtFiles(e)
	for _, want := range []string{`"level":"DEBUG"`, "files changed", "fetched for the local API", "secret has another version",
		"refresh failed"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%q did not happen, so nothing was shown of it", want)
		}
	}
	t.Logf("no secret in %d bytes of output, answers and state", e.seen)
}

// session are the secrets of the STS session that init left for the sidecar.
func (p *pod) session() []string {
	p.t.Helper()
	text, err := os.ReadFile(filepath.Join(p.doc.StateDir, source.SessionsFile))
	if err != nil {
		p.t.Fatal(err)
	}
	var kept struct {
		Holds map[string]struct{ Credentials identity.Credentials }
	}
	if err := json.Unmarshal(text, &kept); err != nil || len(kept.Holds) != 1 {
		p.t.Fatalf("%d sessions, %v", len(kept.Holds), err)
	}
	var secrets []string
	for _, s := range kept.Holds {
		secrets = append(secrets, s.Credentials.AccessKeySecret, s.Credentials.SecurityToken)
	}
	return secrets
}

// lookAround reads what /proc shows of the agent, as the kernel lets the test, and as it lets a neighbour of the same user.
func (p *pod) lookAround(e *evidence, pid int) {
	p.t.Helper()
	for _, name := range []string{"cmdline", "environ", "limits"} {
		path := fmt.Sprintf("/proc/%d/%s", pid, name)
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrPermission) {
			p.t.Error(err)
		}
		e.look(path, text)
		if name == "limits" && !strings.Contains(strings.Join(strings.Fields(string(text)), " "), "Max core file size 0 0 bytes") {
			p.t.Errorf("the agent may leave a core dump:\n%s", text)
		}
	}
	for _, name := range []string{"environ", "maps"} {
		neighbour := exec.CommandContext(p.t.Context(), "cat", fmt.Sprintf("/proc/%d/%s", pid, name))
		p.asOtherUser(neighbour)
		if out, err := neighbour.CombinedOutput(); err == nil || !strings.Contains(string(out), "Permission denied") {
			p.t.Errorf("a process of the same user reads the agent's %s: %v", name, err)
		}
	}
}

// becomes has the agent become a command with the pod's variables: they are in its environment, and in no command
// line.
func (p *pod) becomes(e *evidence) {
	p.t.Helper()
	c := exec.CommandContext(p.t.Context(), p.doc.Program, agentconfig.CommandExec,
		"--env-file="+filepath.Join(p.doc.SecretsDir, agentconfig.EnvFile), "--", "cat")
	c.Env = []string{"PATH=" + os.Getenv("PATH")}
	stdin, err := c.StdinPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.asOtherUser(c)
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	var environment []byte
	p.until("the command", func() bool {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.Process.Pid))
		if err != nil {
			p.t.Fatal(err)
		}
		environment, _ = os.ReadFile(fmt.Sprintf("/proc/%d/environ", c.Process.Pid))
		return string(name) == "cat\n" && len(environment) > 0 // the name comes first
	})
	if !bytes.Contains(environment, []byte("API_KEY="+apiKey(2))) {
		p.t.Errorf("the command's environment: %q", environment)
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", c.Process.Pid))
	if err != nil {
		p.t.Fatal(err)
	}
	e.look("the command's command line", line)
	e.look("the test's environment", []byte(strings.Join(os.Environ(), "\n")))
	stdin.Close()
	if err := c.Wait(); err != nil {
		p.t.Errorf("%v (%d: no variables)", err, agentexec.ExitFailed)
	}
}

// lookAtFiles looks for values in files where none belong, and for others' rights to those where they do.
func (p *pod) lookAtFiles(e *evidence) {
	p.t.Helper()
	root := filepath.Dir(p.doc.StateDir)
	found := map[string]int{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || path == p.token || path == p.doc.Program {
			return err
		}
		data, err := os.ReadFile(path)
		info, statErr := entry.Info()
		if err := errors.Join(err, statErr); err != nil {
			return err
		}
		relative, _ := filepath.Rel(root, path)
		folder, _, _ := strings.Cut(relative, "/")
		hasSession := slices.ContainsFunc(e.session, func(secret string) bool { return bytes.Contains(data, []byte(secret)) })
		if hasSession && relative != "state/"+source.SessionsFile {
			p.t.Errorf("the STS session is in %s", relative)
		}
		switch hasValue := hasSession || bytes.Contains(data, []byte(sentinel)) || bytes.Contains(data, []byte(sentinelBase64)); {
		case folder == "tmp":
			p.t.Errorf("a temporary file is left: %s", relative)
		case hasValue && folder == "state" && info.Mode().Perm() != 0o600, hasValue && info.Mode().Perm()&0o007 != 0:
			p.t.Errorf("%s is for others to read: %s", relative, info.Mode())
		case hasValue:
			found[folder]++
		}
		return nil
	})
	if err != nil || len(found) != 2 || found["secrets"] == 0 || found["state"] == 0 {
		p.t.Errorf("values are in %v, %v", found, err)
	}
}

// until polls for a condition that no channel reports.
func (p *pod) until(what string, done func() bool) {
	p.t.Helper()
	deadline := time.After(p.patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			p.t.Fatalf("%s: not within %s", what, p.patience)
		}
	}
}

func get(t *testing.T, url string) []byte {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || len(body) == 0 {
		t.Fatalf("%s: %v", url, err)
	}
	return body
}
