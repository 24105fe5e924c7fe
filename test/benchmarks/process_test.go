package benchmarks

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// programs are paths of what is measured.
type programs struct{ agent, bare string }

// build compiles them as they go into the images, once.
func build(b *testing.B) programs {
	b.Helper()
	built, err := buildOnce()
	if err != nil {
		b.Fatal(err)
	}
	return built
}

var buildOnce = sync.OnceValues(func() (programs, error) {
	directory := filepath.Join(os.TempDir(), "kms-agent-benchmarks")
	command := exec.Command("go", "build", "-trimpath", "-buildvcs=true", "-ldflags=-s -w", "-o", directory+"/",
		"../../cmd/kms-agent", "./testdata/bare")
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if err := os.MkdirAll(directory, 0o755); err != nil {
		return programs{}, err
	}
	if out, err := command.CombinedOutput(); err != nil {
		return programs{}, fmt.Errorf("%w\n%s", err, out)
	}
	return programs{agent: filepath.Join(directory, "kms-agent"), bare: filepath.Join(directory, "bare")}, nil
})

// process is one that is measured, with the lines that it prints.
type process struct {
	command *exec.Cmd
	lines   *bufio.Scanner
	text    []string // of the lines that have been read
}

func start(b *testing.B, env []string, path string, args ...string) *process {
	b.Helper()
	p := &process{command: exec.CommandContext(b.Context(), path, args...)}
	p.command.Env = env
	out, err := p.command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	p.command.Stderr = p.command.Stdout
	p.lines = bufio.NewScanner(out)
	if err := p.command.Start(); err != nil {
		b.Fatal(err)
	}
	return p
}

// startBare returns once the bare server listens.
func startBare(b *testing.B) *process {
	b.Helper()
	p := start(b, nil, build(b).bare)
	p.waitFor(b, "127.0.0.1:")
	return p
}

// ended waits for the process and returns the CPU time that it took, and whether it ended well.
func (p *process) ended() (time.Duration, error) {
	for p.lines.Scan() { // or it could not print any more
		p.text = append(p.text, p.lines.Text())
	}
	err := p.command.Wait()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, strings.Join(p.text, "\n"))
	}
	return p.command.ProcessState.UserTime() + p.command.ProcessState.SystemTime(), err
}

// waitFor returns once the process has printed a line with the text.
func (p *process) waitFor(b *testing.B, text string) {
	b.Helper()
	for p.lines.Scan() {
		p.text = append(p.text, p.lines.Text())
		if strings.Contains(p.lines.Text(), text) {
			return
		}
	}
	b.Fatalf("it ended without %q:\n%s", text, strings.Join(p.text, "\n"))
}

// end stops the process and returns the CPU time that it took.
func (p *process) end(b *testing.B) time.Duration {
	b.Helper()
	if err := p.command.Process.Signal(syscall.SIGTERM); err != nil {
		b.Fatal(err)
	}
	took, _ := p.ended() // bare ends by the signal
	return took
}

// settled returns the private memory of a process as soon as it has stopped changing for a second.
func (p *process) settled(b *testing.B) float64 {
	b.Helper()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last float64
	for same := 0; same < 10; <-tick.C {
		now := p.private(b)
		if now == last {
			same++
		} else {
			last, same = now, 0
		}
	}
	return last
}

// private returns the bytes that the process alone has: what it has written. The program's own pages are not among them: they are
// in the page cache, which all agents of a node share.
func (p *process) private(b *testing.B) float64 {
	b.Helper()
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.command.Process.Pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, found := strings.Cut(string(rollup), "Private_Dirty:")
	var kilobytes float64
	if _, err := fmt.Sscanf(rest, "%f kB", &kilobytes); !found || err != nil {
		b.Fatalf("no Private_Dirty (%v) in\n%s", err, rollup)
	}
	return kilobytes * 1024
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
