//go:build unix

package build

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/progress"
)

// compile runs one go build and reports how many packages it has behind it. go build -v names each package that it
// compiles; what the build cache has already is not named, so the count ends below the total.
func (m Module) compile(ctx context.Context, step Step, into string, log *progress.Printer) error {
	flags := []string{"-trimpath", "-buildvcs=false", "-tags=" + step.Tags}
	if m.Mod != "" {
		flags = append(flags, "-modfile="+m.Mod)
	}
	report := log.Begin("%s: looking at the sources", m.Name)
	began := time.Now()

	total, err := m.countPackages(ctx, step, flags, report)
	if err != nil {
		report.Done("%s: stopped", m.Name)
		return err
	}
	report.Update("%s: %d packages at most to compile", m.Name, total)
	compiled := 0
	args := append([]string{"build", "-v", "-o", into + "/", "-ldflags=" + step.LDFlags}, flags...)
	err = m.follow(ctx, step, append(args, step.Packages...), io.Discard, func(line string) {
		compiled++
		report.Update("%s: compiled %d of at most %d packages", m.Name, compiled, total)
		if strings.HasSuffix(line, "/"+m.Name) { // the program itself, which is the last
			report.Update("%s: linking", m.Name)
		}
	}, report)
	if err != nil {
		report.Done("%s: stopped after %d packages", m.Name, compiled)
		return err
	}
	report.Done("%s: built %s in %s (%d packages compiled)", m.Name, m.programs(step), time.Since(began).Round(time.Second), compiled)
	return nil
}

// countPackages also downloads the modules, as go list needs their files.
func (m Module) countPackages(ctx context.Context, step Step, flags []string, report *progress.Step) (int, error) {
	var lines lineCounter
	args := append([]string{"list", "-deps"}, flags...)
	err := m.follow(ctx, step, append(args, step.Packages...), &lines, func(string) {}, report)
	return int(lines), err
}

type lineCounter int

func (c *lineCounter) Write(p []byte) (int, error) {
	*c += lineCounter(strings.Count(string(p), "\n"))
	return len(p), nil
}

// follow runs the Go tool and reads its standard error: package names go to compiled, downloads to report, and the rest
// is what went wrong.
func (m Module) follow(
	ctx context.Context, step Step, args []string, stdout io.Writer, compiled func(string), report *progress.Step,
) error {
	cmd := m.goCommand(ctx, step.Cgo, args...)
	cmd.Stdout = stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	downloads := 0
	var complaints []string
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasPrefix(line, "go: downloading "):
			downloads++
			report.Update("%s: downloaded %d modules", m.Name, downloads)
		case line != "" && !strings.ContainsAny(line, " #:"):
			compiled(line)
		default:
			complaints = append(complaints, line)
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("go %s: %w\n%s", args[0], err, strings.Join(complaints[:min(len(complaints), 40)], "\n"))
	}
	return nil
}

func (m Module) programs(step Step) string {
	names := make([]string, len(step.Packages))
	for i, p := range step.Packages {
		names[i] = p[strings.LastIndex(p, "/")+1:]
		if p == "." {
			names[i] = m.Name
		}
	}
	return strings.Join(names, ", ")
}
