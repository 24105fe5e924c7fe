package exec_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	agentexec "github.com/kms-agent-injector/kms-agent-injector/agent/exec"
)

// asCommand makes the test binary behave as kms-agent exec.
const asCommand = "EXEC_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) == "" {
		os.Exit(m.Run())
	}
	code, err := agentexec.Exec(os.Args[1:], os.Environ())
	fmt.Fprintln(os.Stderr, err)
	os.Exit(code)
}

// wrapped is a command line under the wrapper, with these variables in its file.
func run(t *testing.T, variables string, line ...string) *exec.Cmd {
	t.Helper()
	file := filepath.Join(t.TempDir(), "..env")
	if err := os.WriteFile(file, []byte(variables), 0o400); err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), os.Args[0], append([]string{"--env-file=" + file, "--"}, line...)...)
	c.Env = append(os.Environ(), asCommand+"=1", "TAKEN=by the pod", "KEPT=as it is")
	return c
}

func TestVariables(t *testing.T) {
	value := "a \"b\" 'c' $d\n第二行 = x"
	out, err := run(t, `{"TAKEN":"from KMS","NEW":"a \"b\" 'c' $d\n第二行 = x"}`, "sh", "-c",
		`printf '%s|%s|%s|' "$NEW" "$KEPT" "$TAKEN"; env | grep -c ^TAKEN=`).Output()
	if want := value + "|as it is|from KMS|1\n"; err != nil || string(out) != want {
		t.Errorf("got %q, %v, want %q", out, err, want)
	}
}

func TestExitCodes(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	lost := filepath.Join(t.TempDir(), "lost")
	if err := errors.Join(os.WriteFile(plain, nil, 0o600), os.WriteFile(lost, []byte("#!/no/such/interpreter\n"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		variables string
		line      []string
		code      int
		want      string
	}{
		{`{}`, []string{"sh", "-c", "exit 0"}, 0, ""},
		{`{}`, []string{"sh", "-c", "exit 42"}, 42, ""},
		{`{}`, []string{"no-such-command"}, 127, "there is no command no-such-command"},
		{`{}`, []string{"/no/such/command"}, 127, "there is no command /no/such/command"},
		{`{}`, []string{lost}, 127, "interpreter"},
		{`{}`, []string{plain}, 126, "permission denied"},
		{`{}`, []string{"/"}, 126, "directory"},
		{`{"A":"` + strings.Repeat("x", 1<<18) + `"}`, []string{"true"}, 126, "use files"},
		{`{"A":`, []string{"true"}, 125, "is not what an agent"},
		{`{}`, nil, 125, "the command is missing"},
	} {
		var stderr bytes.Buffer
		cmd := run(t, c.variables, c.line...)
		cmd.Stderr = &stderr
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		if got := cmd.ProcessState.ExitCode(); got != c.code || !strings.Contains(stderr.String(), c.want) {
			t.Errorf("%q: exit %d, %s; want %d, %q", c.line, got, stderr.String(), c.code, c.want)
		}
	}
}

func TestWithoutVariables(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--env-file=" + filepath.Join(t.TempDir(), "none"), "--", "true"}, "the variables are not in"},
		{[]string{"--env-fiel=x", "--", "true"}, `"--env-fiel=x" is not an option`},
		{[]string{"true"}, "kms-agent exec [--env-file=PATH] -- COMMAND"},
	} {
		if code, err := agentexec.Exec(c.args, nil); code != agentexec.ExitFailed || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %d, %v; want %q", c.args, code, err, c.want)
		}
	}
}

// The command is the process: it has its id, its standard input and its signals.
func TestBecomesTheCommand(t *testing.T) {
	cmd := run(t, `{}`, "sh", "-c", `trap 'exit 7' TERM; echo $$; read line; echo "$line"; while :; do read more; done`)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(stdin, "what was typed")
	var id int
	var typed [3]string
	if _, err := fmt.Fscan(stdout, &id, &typed[0], &typed[1], &typed[2]); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(typed[:], " "); id != cmd.Process.Pid || got != "what was typed" {
		t.Errorf("process %d, want %d; standard input %q", id, cmd.Process.Pid, got)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	stdin.Close() // the shell runs its trap after the read
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("after SIGTERM: %s, want exit code 7 of the command's own trap", cmd.ProcessState)
	}
}

// The limit of open files that Go raises for itself is the command's own again.
func TestLeavesLimitsAlone(t *testing.T) {
	limit := `ulimit -Sn 77; exec "$@"`
	cmd := run(t, `{}`, "sh", "-c", "ulimit -Sn")
	cmd.Args = append([]string{"sh", "-c", limit, "sh", cmd.Path}, cmd.Args[1:]...)
	cmd.Path, _ = exec.LookPath("sh")
	if out, err := cmd.Output(); err != nil || strings.TrimSpace(string(out)) != "77" {
		t.Errorf("got %q, %v", out, err)
	}
}
