//go:build unix

package build

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/progress"
)

// compile runs one go build and reports its progress: go build -v prints each package when its compilation starts, and none from
// the build cache.
func (m Module) compile(ctx context.Context, step Step, into string, log *progress.Printer) error {
	report := log.Begin("%s: looking at the sources", m.Name)
	began := time.Now()

	sizes, err := m.toCompile(ctx, step, report)
	if err != nil {
		report.Done("%s: stopped", m.Name)
		return err
	}
	progress, compiling := newEstimate(sizes), time.Now()
	report.Update("%s: %s", m.Name, progress.after(0))
	args := append([]string{"build", "-v", "-o", into + "/", "-ldflags=" + step.LDFlags}, m.flags(step)...)
	err = m.follow(ctx, step, append(args, step.Packages...), io.Discard, func(name string) {
		progress.begin(name)
		report.Update("%s: %s", m.Name, progress.after(time.Since(compiling)))
	}, report)
	if err != nil {
		report.Done("%s: stopped after %d packages", m.Name, progress.begun)
		return err
	}
	report.Done("%s: built %s in %s (%d packages compiled)", m.Name, m.programs(step), time.Since(began).Round(time.Second), progress.begun)
	return nil
}

// flags are those of go build and go list alike.
func (m Module) flags(step Step) []string {
	flags := []string{"-trimpath", "-buildvcs=false", "-tags=" + step.Tags,
		// Without what debuggers read, which the linker leaves out too, compiling takes a seventh less time. The standard library's
		// packages stay those of other builds.
		"-gcflags=all=-dwarf=false", "-gcflags=std="}
	if m.Mod != "" {
		flags = append(flags, "-modfile="+m.Mod)
	}
	return flags
}

// toCompile returns the packages that go build would compile, with the size of their sources. It downloads the modules, as go list
// needs their files.
func (m Module) toCompile(ctx context.Context, step Step, report *progress.Step) (map[string]int64, error) {
	const cached = "not installed but available in build cache"
	var list bytes.Buffer
	args := append([]string{"list", "-deps", "-json=ImportPath,Dir,GoFiles,CgoFiles,Stale,StaleReason"}, m.flags(step)...)
	if err := m.follow(ctx, step, append(args, step.Packages...), &list, func(string) {}, report); err != nil {
		return nil, err
	}
	sizes := map[string]int64{}
	for dec := json.NewDecoder(&list); ; {
		var p struct {
			ImportPath, Dir, StaleReason string
			GoFiles, CgoFiles            []string
			Stale                        bool
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return sizes, nil
		} else if err != nil {
			return nil, fmt.Errorf("read what go list prints: %w", err)
		}
		if !p.Stale || p.StaleReason == cached {
			continue
		}
		sizes[p.ImportPath] = 0
		for _, file := range append(p.GoFiles, p.CgoFiles...) {
			if info, err := os.Stat(filepath.Join(p.Dir, file)); err == nil { // a file of cgo's is made later
				sizes[p.ImportPath] += info.Size()
			}
		}
	}
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
