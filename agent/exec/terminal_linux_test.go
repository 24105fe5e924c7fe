package exec_test

import (
	"bufio"
	"strings"
	"syscall"
	"testing"

	"github.com/kms-agent-injector/kms-agent-injector/test/terminal"
)

// The terminal is the command's: it sees one, and an interrupt that is typed there is its own.
func TestPassesTheTerminalOn(t *testing.T) {
	terminal, screen := terminal.Open(t, 80)
	cmd := run(t, `{}`, "sh", "-c", `trap 'echo interrupted; exit 7' INT; test -t 0 && test -t 1 && test -t 2 && echo ready; `+
		`read line; while :; do read more; done`)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(screen)
	for _, step := range []struct{ want, typed string }{{"ready", "go on\n\x03"}, {"interrupted", ""}} {
		for line := ""; !strings.Contains(line, step.want); {
			var err error
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatalf("no %q on the terminal: %v", step.want, err)
			}
		}
		if _, err := screen.WriteString(step.typed); err != nil {
			t.Fatal(err)
		}
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("%s, want exit code 7 of the command's own trap", cmd.ProcessState)
	}
}
